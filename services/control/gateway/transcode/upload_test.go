package transcode_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/gateway/transcode"
)

// taker takes files, which refuses or goes on taking.
type taker struct {
	pawlv1.UnimplementedFileServiceServer
	began  chan struct{} // gets one for each that has sent something
	refuse chan error
}

// WriteFile implements FileServiceServer.
func (f *taker) WriteFile(s grpc.ClientStreamingServer[pawlv1.WriteFileRequest, pawlv1.WriteFileResponse]) error {
	for range 2 { // start, and content
		if _, err := s.Recv(); err != nil {
			return err
		}
	}
	f.began <- struct{}{}
	select {
	case err := <-f.refuse:
		return err
	case <-s.Context().Done():
		return context.Cause(s.Context())
	}
}

// uploads is /v1 in front of a taker.
func uploads(t *testing.T) (f *taker, s *httptest.Server, stop func()) {
	t.Helper()
	f = &taker{began: make(chan struct{}, 1), refuse: make(chan error, 1)}
	server, l := grpc.NewServer(), bufconn.Listen(1<<16)
	pawlv1.RegisterFileServiceServer(server, f)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:test", rpc.Security(nil), grpc.WithContextDialer(
		func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	stopping, stop := context.WithCancel(t.Context())
	s = httptest.NewServer(transcode.New(conn, stopping, slog.New(slog.DiscardHandler)))
	t.Cleanup(s.Close)
	return f, s, stop
}

// Whoever sends a file, and pauses, hears at once that it is not wanted any more, or that the server stops. Its
// connection is not kept.
func TestPausedUploads(t *testing.T) {
	for name, c := range map[string]struct {
		end    func(f *taker, stop func())
		status int
		reason string
	}{
		"refused": {func(f *taker, _ func()) {
			st, _ := rpc.ToStatus(transcode.ErrStopping)
			f.refuse <- st
		}, http.StatusServiceUnavailable, "SERVER_STOPPING"},
		"stopped": {func(_ *taker, stop func()) { stop() }, http.StatusServiceUnavailable, "SERVER_STOPPING"},
	} {
		t.Run(name, func(t *testing.T) {
			f, s, stop := uploads(t)
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			limit := time.Now().Add(30 * time.Second)
			if err := conn.SetDeadline(limit); err != nil {
				t.Fatal(err)
			}
			const begun = "PUT /v1/sessions/s/files/f HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n" +
				"\r\nhalf"
			if _, err := io.WriteString(conn, begun); err != nil {
				t.Fatal(err)
			}
			<-f.began
			c.end(f, stop)
			said, err := io.ReadAll(conn)
			if err != nil || !strings.Contains(string(said), `"reason":"`+c.reason+`"`) ||
				!strings.HasPrefix(string(said), "HTTP/1.1 503 ") {
				t.Errorf("%s, %v", said, err)
			}
		})
	}
}
