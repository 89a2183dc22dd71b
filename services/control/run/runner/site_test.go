package runner_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/egress"
)

// site is an HTTP server in the bubble, to which all names lead. It answers after a second with what it was asked.
type site struct {
	conns chan net.Conn
	over  chan struct{}

	mu   sync.Mutex      // guards what follows
	seen []string        // "POST /path body", as they came; of others than POST the first with its key
	keys map[string]bool // of paths
}

func newSite(t *testing.T) *site {
	s := &site{conns: make(chan net.Conn), over: make(chan struct{}), keys: map[string]bool{}}
	server := &http.Server{Handler: http.HandlerFunc(s.answer), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(s)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return s
}

func (s *site) answer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	key := r.URL.Path + r.Header.Get("Idempotency-Key")
	if r.Method == http.MethodPost || !s.keys[key] {
		s.seen = append(s.seen, fmt.Sprintf("%s %s %s", r.Method, r.URL.Path, body))
	}
	s.keys[key] = true
	s.mu.Unlock()
	elapse(time.Second)
	w.Header()["Date"] = nil
	_, _ = fmt.Fprintf(w, "%s %s", r.Method, r.URL.Path)
}

// requests are those that came.
func (s *site) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.seen...)
}

// client connects to the site.
func (s *site) client() egress.Client {
	return egress.Client{
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("8.8.8.8")}, nil
		},
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			select {
			case s.conns <- theirs:
				return ours, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-s.over:
				return nil, net.ErrClosed
			}
		},
	}
}

// Accept implements net.Listener, as do the methods that follow.
func (s *site) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.over:
		return nil, net.ErrClosed
	}
}

func (s *site) Close() error {
	close(s.over)
	return nil
}

func (s *site) Addr() net.Addr { return &net.TCPAddr{} }
