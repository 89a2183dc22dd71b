// Package platformtest runs the whole platform in one process for tests: control as its program runs it, a database in memory, real
// gRPC and HTTP over in-memory connections. Inside a testing/synctest bubble all of it is on fake time.
package platformtest

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/offline"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
)

// Platform is a control plane that runs.
type Platform struct {
	// GRPC is a connection with the operator's token.
	GRPC *grpc.ClientConn
	// HTTP reaches the gateway; URLs begin with http://localhost.
	HTTP *http.Client
	// Token is the operator's.
	Token string
	grpc  *bufconn.Listener
}

// Models resolves offline models.
type Models struct{}

// Model implements turn.Models.
func (Models) Model(ref model.Ref) (model.Model, error) {
	return offline.Open(model.Endpoint{}, ref.ID)
}

// Start runs a control plane with a database in memory until the test ends.
func Start(t testing.TB) *Platform {
	t.Helper()
	db, err := sqlite.Open(context.Background(), sqlite.Memory, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return StartOn(t, db)
}

// StartOn runs a control plane on a database until the test ends, and closes the database then.
func StartOn(t testing.TB, db store.Store) *Platform {
	t.Helper()
	catalogue, err := agent.Load("", os.LookupEnv, agent.Shell())
	if err != nil {
		t.Fatal(err)
	}
	web, rpcs, token := bufconn.Listen(1<<20), bufconn.Listen(1<<20), t.TempDir()+"/token"
	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- control.Run(ctx, control.Config{
			Store: db, HTTP: web, GRPC: rpcs, Agents: catalogue, Models: Models{}, Lookup: os.LookupEnv, TokenFile: token,
			Ready: func() { close(ready) }, Log: slog.New(slog.DiscardHandler),
		})
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("control did not start: %v", err)
	}
	p := &Platform{grpc: rpcs, HTTP: client(web)}
	secret, err := os.ReadFile(token)
	if err != nil {
		t.Fatal(err)
	}
	p.Token = strings.TrimSpace(string(secret))
	p.GRPC = p.Dial(t, p.Token)
	t.Cleanup(func() {
		p.HTTP.CloseIdleConnections()
		stop()
		if err := <-done; err != nil {
			t.Errorf("control ended with: %v", err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// Dial makes a gRPC connection with a token; it is closed when the test ends, before the platform is.
func (p *Platform) Dial(t testing.TB, token string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///control", append(rpc.DialOptions(), rpc.Security(nil),
		grpc.WithPerRPCCredentials(rpc.Token{Secret: rpc.Static(token), Plaintext: true}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return p.grpc.DialContext(ctx) }))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func client(l *bufconn.Listener) *http.Client {
	return &http.Client{Timeout: time.Hour, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.DialContext(ctx) },
	}}
}
