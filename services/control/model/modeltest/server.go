package modeltest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Server is an HTTP server of a provider that lives in memory: no socket, so that it works in a synctest bubble. Each
// request is answered by the next handler of the script and recorded.
type Server struct {
	listener *pipeListener
	client   *http.Client

	mu       sync.Mutex
	script   []http.Handler
	rest     http.Handler // once the script is over
	requests []Recorded
	conns    int
}

// Recorded is a request that the server got.
type Recorded struct {
	Method, Path string
	Query        string
	Connection   string // which connection it came over
	Header       http.Header
	Body         []byte
}

// NewServer starts a server that stops with the test. Its URL is http://model.test.
func NewServer(t testing.TB, script ...http.Handler) *Server {
	s := &Server{listener: &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}, script: script}
	transport := &http.Transport{DialContext: s.listener.dial, MaxIdleConnsPerHost: 16}
	s.client = &http.Client{Transport: transport}
	srv := &http.Server{Handler: http.HandlerFunc(s.serve), ConnContext: s.number}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("modeltest: %v", err)
		}
	}()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = srv.Close()
		<-done
	})
	return s
}

type connKey struct{}

// number tells connections apart.
func (s *Server) number(ctx context.Context, _ net.Conn) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns++
	return context.WithValue(ctx, connKey{}, strconv.Itoa(s.conns))
}

// URL is the server's base URL.
func (s *Server) URL() string { return "http://model.test" }

// Client is the only client that reaches the server.
func (s *Server) Client() *http.Client { return s.client }

// Always answers every request after the script with h.
func (s *Server) Always(h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest = h
}

// Requests are the requests so far.
func (s *Server) Requests() []Recorded {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Recorded(nil), s.requests...)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	connection, _ := r.Context().Value(connKey{}).(string)
	s.next(Recorded{
		Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Connection: connection,
		Header: r.Header.Clone(), Body: body,
	}).ServeHTTP(w, r)
}

func (s *Server) next(r Recorded) http.Handler {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
	switch {
	case len(s.script) > 0:
		h := s.script[0]
		s.script = s.script[1:]
		return h
	case s.rest != nil:
		return s.rest
	default:
		return Answer(http.StatusNotImplemented, `{"error":{"type":"modeltest","message":"a request too many"}}`)
	}
}

// Answer is a response that is no stream. header holds pairs of a name and a value.
func Answer(status int, body string, header ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

// Event is one thing that happens in a stream of server-sent events.
type Event struct {
	Wait time.Duration // before it
	Name string        // of the event, "" for none
	Data string
	Raw  string // bytes to send instead of an event
	// Framed says that Raw is the event in AWS's framing.
	Framed bool
	Act    Act
}

// Act is how a stream misbehaves.
type Act uint8

// Acts.
const (
	Cut   Act = iota + 1 // the connection breaks
	Stop                 // nothing more comes, for ever
	Close                // the response ends as if it were complete
)

// Play is a response that streams events. It ends when they end.
type Play []Event

// ServeHTTP implements http.Handler.
func (p Play) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(p) > 0 && p[0].Framed {
		p.serve(w, r, "application/vnd.amazon.eventstream")
		return
	}
	p.serve(w, r, "text/event-stream; charset=utf-8")
}

// As is the response with another Content-Type, "" for none.
func (p Play) As(contentType string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, contentType) })
}

func (p Play) serve(w http.ResponseWriter, r *http.Request, contentType string) {
	w.Header()["Content-Type"] = nil // or the server would guess
	if contentType != "" {
		w.Header().Set("Content-Type", contentType)
	}
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w).Flush
	_ = flush()
	for _, e := range p {
		if !pause(r.Context(), e.Wait) {
			return
		}
		switch e.Act {
		case Cut:
			panic(http.ErrAbortHandler)
		case Stop:
			<-r.Context().Done()
			return
		case Close:
			return
		}
		if _, err := io.WriteString(w, e.wire()); err != nil || flush() != nil {
			return
		}
	}
}

// Until is the first n events, and then act.
func (p Play) Until(n int, act Act) Play { return append(append(Play{}, p[:n]...), Event{Act: act}) }

// Index is the position of the first event whose data or name contains s, or the length.
func (p Play) Index(s string) int {
	for i, e := range p {
		if bytes.Contains([]byte(e.Name+e.Data), []byte(s)) {
			return i
		}
	}
	return len(p)
}

func (e Event) wire() string {
	switch {
	case e.Raw != "":
		return e.Raw
	case e.Name != "":
		return "event: " + e.Name + "\ndata: " + e.Data + "\n\n"
	default:
		return "data: " + e.Data + "\n\n"
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// pipeListener accepts what dial makes.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "model.test" }
