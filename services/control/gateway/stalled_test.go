package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/services/control/gateway"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// faked is a gateway on fake time whose connections hold so many bytes that were not read.
type faked struct {
	*testing.T
	plane  *planetest.Plane
	listen *wires
	stop   func() // tells the gateway to end
}

func onFakeTime(t *testing.T, buffer int, m model.Model, f func(s *faked)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		stopping, stop := context.WithCancel(t.Context())
		s := &faked{T: t, plane: planetest.New(t, m), listen: newWires(buffer), stop: stop}
		d := deps(s.plane)
		d.API, d.Stopping = apiOf(t, s.plane, d), stopping
		h := gateway.New(d)
		server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
		done := make(chan error, 1)
		go func() { done <- server.Serve(s.listen) }()
		defer func() {
			if err := server.Close(); err != nil {
				t.Error(err)
			}
			<-done
			h.Wait(t.Context())
		}()
		f(s)
	})
}

// watch opens a socket and watches a session on it, which has begun when it returns.
func (s *faked) watch(id string) *client {
	s.Helper()
	conn, _, err := websocket.Dial(s.Context(), "http://localhost/v1/watch", &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer op"}},
		HTTPClient: &http.Client{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return s.listen.dial() },
		}},
	})
	if err != nil {
		s.Fatal(err)
	}
	conn.SetReadLimit(-1)
	s.Cleanup(func() { _ = conn.CloseNow() })
	c := &client{s.T, conn}
	c.say(fmt.Sprintf(`{"id":"w","call":"watchSession","request":{"sessionId":%q}}`, id))
	if f := c.answer(); f.ID != "w" || f.Error != nil {
		s.Fatalf("%+v", f)
	}
	return c
}

func (s *faked) submit() *submission.Following {
	s.Helper()
	f, err := s.plane.Submissions.Prompt(s.Context(), submission.Input{Key: sessionKey, Message: "hi"})
	if err != nil {
		s.Fatal(err)
	}
	return f
}

// A socket on which nothing happens says every 15 seconds that it lives.
func TestHeartbeatsOfASocket(t *testing.T) {
	onFakeTime(t, 1<<16, nil, func(s *faked) {
		f := s.submit()
		defer f.Close()
		begun := time.Now()
		c := s.watch(f.Submission.SessionID)
		for f := c.answer(); !f.Heartbeat; f = c.answer() {
		}
		for n := time.Duration(1); n <= 20; n++ {
			if at := time.Since(begun); at != n*15*time.Second {
				s.Errorf("heartbeat %d after %s", n, at)
			}
			if f := c.answer(); !f.Heartbeat {
				s.Errorf("%+v", f)
			}
		}
		_ = c.CloseNow()
		synctest.Wait()
	})
}

// A peer that is frozen, while what it is sent fits into buffers, is left after two minutes. When it comes back it
// reads why, and where to go on.
func TestFrozenPeer(t *testing.T) {
	onFakeTime(t, 1<<16, hello(), func(s *faked) {
		f := s.submit()
		defer f.Close()
		c := s.watch(f.Submission.SessionID)
		time.Sleep(2*time.Minute + time.Second)
		begun, last := time.Now(), answerFrame{}
		for last.Error == nil {
			last = c.answer()
		}
		if last.ID != "w" || last.Error.Reason != "READER_STALLED" || last.Cursor == "" {
			s.Errorf("%+v", last)
		}
		code, reason := c.closed()
		if code != websocket.StatusPolicyViolation || !strings.Contains(reason, "2 minutes") {
			s.Errorf("ended with %d %q", code, reason)
		}
		if took := time.Since(begun); took != 0 {
			s.Errorf("heard of it %s after it was left", took)
		}
	})
}

// A socket that the server ends is kept open until the peer has answered, for two seconds, whatever else is to be sent
// meanwhile: here a heartbeat. Who answers the ping that comes before the last words could not read them otherwise.
func TestLastWordsAreRead(t *testing.T) {
	onFakeTime(t, 1<<16, nil, func(s *faked) {
		f := s.submit()
		defer f.Close()
		c := s.watch(f.Submission.SessionID)
		time.Sleep(44 * time.Second) // a ping waits for the peer
		s.stop()
		time.Sleep(time.Second + time.Second/2) // there was a heartbeat to send
		if code, reason := c.closed(); code != websocket.StatusGoingAway || reason != "Server shutting down" {
			s.Errorf("ended with %d %q", code, reason)
		}
	})
}

// A peer that answers pings, however late, is not left while it takes what it is sent.
func TestSlowPeerIsKept(t *testing.T) {
	onFakeTime(t, 1<<16, nil, func(s *faked) {
		f := s.submit()
		defer f.Close()
		c := s.watch(f.Submission.SessionID)
		for range 10 {
			time.Sleep(80 * time.Second)
			for range 5 {
				if f := c.answer(); f.Error != nil {
					s.Fatalf("%+v", f)
				}
			}
		}
		_ = c.CloseNow()
		synctest.Wait()
	})
}

// A reader that takes nothing of what there is for it is left after two minutes. It slows nobody meanwhile: not the
// work, and not who else watches it.
func TestStalledReaderOfASocket(t *testing.T) {
	reply := modeltest.Say(slices.Repeat([]string{strings.Repeat("x", 100)}, 5000)...)
	reply[0].Wait = time.Second // until all watch
	onFakeTime(t, 1<<10, modeltest.New(reply), func(s *faked) {
		f := s.submit()
		defer f.Close()
		stalled, other := s.watch(f.Submission.SessionID), s.watch(f.Submission.SessionID)
		begun := time.Now()
		for seen := ""; !strings.Contains(seen, `"settled"`); seen = other.hear() {
		}
		if took := time.Since(begun); took > 10*time.Second {
			s.Errorf("another watcher heard of the end after %s", took)
		}
		if sub := only(s.T, s.plane); sub.Outcome != lane.Completed {
			s.Errorf("%+v", sub)
		}
		go func() { // the other one reads on
			for {
				if _, _, err := other.Read(context.Background()); err != nil {
					return
				}
			}
		}()
		time.Sleep(2*time.Minute - 10*time.Second)
		synctest.Wait()
		if err := other.Ping(s.Context()); err != nil {
			s.Error(err)
		}
		time.Sleep(12 * time.Second)
		synctest.Wait()
		var err error
		for err == nil { // what was in buffers, and no more
			_, _, err = stalled.Read(s.Context())
		}
		var end websocket.CloseError
		if errors.As(err, &end) {
			s.Errorf("a close frame came where no frame could: %v", end)
		}
		if err := other.Ping(s.Context()); err != nil {
			s.Error(err)
		}
		_ = other.CloseNow()
		synctest.Wait()
	})
}

// What waits for readers that take nothing is in the log, not in memory.
func TestStalledReadersHoldLittle(t *testing.T) {
	const readers, most = 8, 3 << 20 // of 6 MB: about twice the largest event
	p := planetest.New(t, modeltest.Always(modeltest.Say(slices.Repeat([]string{strings.Repeat("x", 4000)}, 250)...)))
	d := deps(p)
	d.API = apiOf(t, p, d)
	h := gateway.New(d)
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	var conns []net.Conn
	prompt := func() string {
		f, err := p.Submissions.Prompt(t.Context(), submission.Input{Key: sessionKey, Message: "hi"})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, err := range f.Events(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
		}
		return f.Submission.SessionID
	}
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	id := prompt()
	for range readers {
		conn, in := upgrade(t, s, "/v1/watch", "")
		ask := fmt.Sprintf(`{"id":"w","call":"watchSession","request":{"sessionId":%q}}`, id)
		frame := "\x81" + string([]byte{0x80 | byte(len(ask))}) + "\x00\x00\x00\x00" + ask
		if _, err := io.WriteString(conn, frame); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		if _, err := in.Peek(100); err != nil { // it has begun; it reads no more
			t.Fatal(err)
		}
	}
	for range 6 {
		prompt()
	}
	with, steady := heap(), 0
	for range await.Ticks(t.Context(), 100*time.Millisecond) { // what readers are on the way to writing is let go of
		if now := heap(); now < with-with/100 {
			with, steady = now, 0
		} else if steady++; steady == 10 {
			break
		}
	}
	for _, c := range conns {
		_ = c.Close()
	}
	h.Wait(t.Context())
	if got := (with - heap()) / readers; got > most {
		t.Errorf("each of %d stalled readers holds %d bytes, want %d at most", readers, got, most)
	}
}

// A body that comes byte by byte is waited for for two minutes, however steadily it comes. The connection ends then.
func TestSlowBodies(t *testing.T) {
	for path, want := range map[string]struct {
		status int
		says   string
	}{
		"/agents/shell/i":                       {400, "did not arrive within 2m0s"},
		"/v1/agents/shell/instances/i:dispatch": {408, "BODY_LATE"},
	} {
		onFakeTime(t, 1<<16, hello(), func(s *faked) {
			conn, err := s.listen.dial()
			if err != nil {
				s.Fatal(err)
			}
			begun, left := time.Now(), make(chan struct{})
			defer func() { _ = conn.Close(); <-left }()
			go func() {
				defer close(left)
				_, err := io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: localhost\r\n"+
					"Authorization: Bearer op\r\nContent-Type: application/json\r\n"+
					"Content-Length: 1000\r\n\r\n")
				for err == nil {
					time.Sleep(time.Second)
					_, err = io.WriteString(conn, " ")
				}
			}()
			in := bufio.NewReader(conn)
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				s.Fatalf("%s: %v", path, err)
			}
			body, _ := io.ReadAll(res.Body) // of which the status tells enough
			_ = res.Body.Close()
			if took := time.Since(begun); res.StatusCode != want.status || !strings.Contains(string(body), want.says) ||
				took < 2*time.Minute || took > 2*time.Minute+10*time.Second {
				s.Errorf("%s: %d %s after %s", path, res.StatusCode, body, took)
			}
			if _, err := in.ReadByte(); err == nil || time.Since(begun) > 3*time.Minute {
				s.Errorf("%s: the connection is kept for %s: %v", path, time.Since(begun), err)
			}
		})
	}
}
