package idle_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/gateway/idle"
)

// site is a server with idle connections.
type site struct {
	*testing.T
	server *http.Server
	at     string
	states chan http.ConnState // of all connections, in order
}

func serve(t *testing.T, limit time.Duration) *site {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{T: t, at: l.Addr().String(), states: make(chan http.ConnState, 1<<16)}
	s.server = &http.Server{
		ReadHeaderTimeout: time.Minute, IdleTimeout: limit,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			_, _ = fmt.Fprint(w, r.Method, " ", r.URL.Path, " ", len(body), " ", err)
		}),
		ConnState: func(c net.Conn, state http.ConnState) { idle.State(c, state); s.states <- state },
	}
	done := make(chan error, 1)
	go func() { done <- s.server.Serve(idle.Listen(l)) }()
	t.Cleanup(func() {
		_ = s.server.Close()
		if err := <-done; err != http.ErrServerClosed { //nolint:errorlint // as it is
			t.Error(err)
		}
	})
	return s
}

// aside waits until the server has let n connections go.
func (s *site) aside(n int) {
	s.Helper()
	for n > 0 {
		select {
		case state := <-s.states:
			if state == http.StateClosed {
				n--
			}
		case <-time.After(time.Minute):
			s.Fatalf("%d connections stay with the server", n)
		}
	}
}

// client is a connection to a site.
type client struct {
	*site
	net.Conn
	in *bufio.Reader
}

func (s *site) dial() client {
	s.Helper()
	c, err := new(net.Dialer).DialContext(s.Context(), "tcp", s.at)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = c.Close() })
	return client{s, c, bufio.NewReaderSize(c, 16)}
}

func (c client) send(text string) {
	c.Helper()
	if _, err := io.WriteString(c.Conn, text); err != nil {
		c.Fatal(err)
	}
}

func (c client) hears(want string) {
	c.Helper()
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.Fatalf("no answer instead of %q: %v", want, err)
	}
	defer res.Body.Close() //nolint:errcheck // it is read
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != want {
		c.Errorf("%q, %v instead of %q", body, err, want)
	}
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n" }

func post(size int) string {
	return fmt.Sprintf("POST /p HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", size,
		strings.Repeat("x", size))
}

// A client does not notice that its connection was set aside, however often.
func TestSetAside(t *testing.T) {
	c := serve(t, time.Minute).dial()
	for i := range 3 {
		c.send(get("/one"))
		c.hears("GET /one 0 <nil>")
		c.send(post(10_000)) // while the server has it
		c.hears("POST /p 10000 <nil>")
		c.aside(1)
		if i == 1 {
			c.send("P") // what comes wakes it, however little it is
			c.send(post(100_000)[1:])
			c.hears("POST /p 100000 <nil>")
		}
	}
	c.send(get("/a") + post(5000) + get("/b"))
	c.hears("GET /a 0 <nil>")
	c.hears("POST /p 5000 <nil>")
	c.hears("GET /b 0 <nil>")
}

// What the server has read of the next request is not lost, for as long as the rest does not come.
func TestABeginningIsNotLost(t *testing.T) {
	s := serve(t, 3*time.Second)
	c := s.dial()
	c.send(get("/one") + "GET"[:2])
	c.hears("GET /one 0 <nil>")
	s.dial().send(get("/two"))
	c.aside(1) // the other one, later
	c.send(get("/three")[2:])
	c.hears("GET /three 0 <nil>")
}

// A connection that is set aside ends when the idle time is over, and with the server.
func TestEnds(t *testing.T) {
	s := serve(t, 2*time.Second)
	c := s.dial()
	c.send(get("/one"))
	c.hears("GET /one 0 <nil>")
	began := time.Now()
	c.aside(1)
	_ = c.SetReadDeadline(began.Add(time.Minute))
	if _, err := c.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // as it is
		t.Errorf("after its time: %v", err)
	}
	s = serve(t, time.Hour)
	c, busy := s.dial(), s.dial()
	c.send(get("/one"))
	c.hears("GET /one 0 <nil>")
	c.aside(1)
	busy.send(get("/two"))
	busy.hears("GET /two 0 <nil>")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	for _, one := range []client{c, busy} {
		_ = one.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := one.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // as it is
			t.Errorf("after the end: %v", err)
		}
	}
}

// An idle connection is small.
func TestSmall(t *testing.T) {
	s := serve(t, time.Hour)
	const n, most = 200, 12 << 10 // with the server it takes 18 KiB
	open := func(n int) {
		for range n {
			c := s.dial()
			c.send(get("/"))
			c.hears("GET / 0 <nil>")
		}
		s.aside(n)
	}
	measure := func() int64 {
		runtime.GC()
		runtime.GC() // what pools keep goes with the second one, and stacks are halved by each
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	open(10)
	before := measure()
	open(n)
	if got := (measure() - before) / n; got > most {
		t.Errorf("%d bytes for each connection, its client's end included; want %d at most", got, most)
	}
}
