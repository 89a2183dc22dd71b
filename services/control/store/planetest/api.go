package planetest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/api"
	"github.com/pawl-dev/pawl/services/control/auth"
)

// Serve serves the API of the Plane in memory until the test ends, and returns a connection to it that shows no token.
// Files, tokens and executors are not there.
func (p *Plane) Serve(t testing.TB, g auth.Guard, log *slog.Logger) *grpc.ClientConn {
	t.Helper()
	server := rpc.NewServer(api.Hooks(g, nil, log))
	api.Register(server, api.Deps{
		Agents: p.Agents, Sessions: p.Store, Submissions: p.Store, Calls: p.Store, Service: p.Submissions,
		Events: p.Events,
	})
	l := bufconn.Listen(1 << 16)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	dial := func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }
	conn, err := grpc.NewClient("passthrough:test", append(rpc.DialOptions(), rpc.Security(nil),
		grpc.WithContextDialer(dial))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		// A test that never connects may end before the server has begun.
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return conn
}
