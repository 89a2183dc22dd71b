package gateway_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/pawl-dev/pawl/services/control/gateway"
	"github.com/pawl-dev/pawl/services/control/gateway/transcode"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
)

// upgrade opens a socket by hand, and sends more with the request. It starts no goroutine and keeps no buffer.
func upgrade(t *testing.T, s *httptest.Server, path, more string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	head := "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer op\r\nConnection: Upgrade\r\n" +
		"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " +
		base64.StdEncoding.EncodeToString(make([]byte, 16)) + "\r\n\r\n"
	if _, err := io.WriteString(conn, head+more); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", res, err)
	}
	return conn, in
}

// An idle socket is one goroutine and a few kilobytes: no part of its request is left.
func TestIdleSocketsAreSmall(t *testing.T) {
	p := planetest.New(t, nil)
	d := deps(p)
	d.API = apiOf(t, p, d)
	s := serve(t, d)
	const n, most = 200, 7 << 10
	open := func(n int) {
		for range n {
			const ping = "\x89\x80\x00\x00\x00\x00" // its pong says that the socket is served
			_, in := upgrade(t, s, "/v1/watch", ping)
			if pong, err := in.Peek(2); err != nil || pong[0] != 0x8a {
				t.Fatalf("%v, %v", pong, err)
			}
		}
	}
	measure := func() (goroutines int, heap uint64) {
		runtime.GC()
		runtime.GC() // what pools keep goes with the second one
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	open(10)
	before, heapBefore := measure()
	open(n)
	after, heapAfter := measure()
	if got := after - before; got > n+n/10 {
		t.Errorf("%d goroutines for %d sockets", got, n)
	}
	const client = 4096 + 1024 // this test's own buffer, connection and clean-up
	if got := int64(heapAfter-heapBefore)/n - client; got > most {
		t.Errorf("%d bytes for each socket, want %d at most", got, most)
	}
}

// A frame that comes with the request is read like one that waits for the answer.
func TestFramesThatDoNotWait(t *testing.T) {
	s := serve(t, deps(planetest.New(t, nil)))
	const ping = `{"version":1,"type":"ping"}`
	frame := "\x81" + string([]byte{0x80 | byte(len(ping))}) + "\x00\x00\x00\x00" + ping
	_, in := upgrade(t, s, socketPath, strings.Repeat(frame, 30))
	for i := range 31 {
		kind, err := in.ReadByte()
		if err != nil || kind != 0x81 {
			t.Fatalf("frame %d: %x, %v", i, kind, err)
		}
		size, err := in.ReadByte()
		if err != nil {
			t.Fatal(err)
		}
		text := make([]byte, size)
		if _, err := io.ReadFull(in, text); err != nil {
			t.Fatal(err)
		}
		if want := `"type":"pong"`; i > 0 && !strings.Contains(string(text), want) {
			t.Errorf("frame %d: %s", i, text)
		}
	}
}

// panickingCalls panics where it makes a problem.
type panickingCalls struct{ gateway.API }

// Problem implements gateway.API.
func (panickingCalls) Problem(context.Context, error, string, ...any) transcode.Problem {
	panic("password=hunter2")
}

// A panic in what goes on over a socket ends that socket, and says so to nobody but the log.
func TestPanicOnASocket(t *testing.T) {
	d := deps(planetest.New(t, nil))
	d.API = panickingCalls{}
	c, refused := dial(t, serve(t, d), "/v1/watch")
	if c == nil {
		t.Fatalf("refused with %d", refused)
	}
	c.say(`{`) // is answered with a problem
	if code, reason := c.closed(); code != websocket.StatusInternalError || reason != "" {
		t.Errorf("ended with %d %q", code, reason)
	}
}
