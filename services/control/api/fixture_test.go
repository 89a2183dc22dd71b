package api_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/api"
	"github.com/pawl-dev/pawl/services/control/api/apitest"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/fleet"
)

// tokens is an auth.Store in memory.
type tokens struct {
	mu  sync.Mutex
	all []auth.Token
}

func (s *tokens) CreateToken(_ context.Context, t auth.Token) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, t)
	return nil
}

func (s *tokens) FindToken(_ context.Context, hash []byte) (auth.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.all {
		if bytes.Equal(t.Hash, hash) {
			return t, nil
		}
	}
	return auth.Token{}, auth.ErrTokenNotFound
}

func (s *tokens) ListTokens(context.Context, string) ([]auth.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all), nil
}

func (s *tokens) ExtendToken(_ context.Context, id string, expires time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.all {
		if s.all[i].ID == id {
			s.all[i].ExpiresAt = expires
			return nil
		}
	}
	return auth.ErrTokenNotFound
}

func (s *tokens) RevokeToken(_ context.Context, _, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.all {
		if s.all[i].ID == id {
			s.all[i].RevokedAt = time.Now()
			return nil
		}
	}
	return auth.ErrTokenNotFound
}

func (s *tokens) ClusterSecret(_ context.Context, candidate []byte) ([]byte, error) {
	return candidate, nil
}

// executors is a fleet of one.
type executors struct{}

func (executors) GetExecutor(_ context.Context, id string) (fleet.Executor, error) {
	if id != "gpu1" {
		return fleet.Executor{}, fleet.ErrNotFound
	}
	return fleet.Executor{ID: "gpu1", Replica: "r", Slots: 4, Labels: map[string]string{"gpu": "yes"}}, nil
}

func (e executors) ListExecutors(ctx context.Context) ([]fleet.Executor, error) {
	x, err := e.GetExecutor(ctx, "gpu1")
	return []fleet.Executor{x}, err
}

// Connect stays until its context ends.
func (executors) Connect(stream grpc.BidiStreamingServer[pawlv1.ConnectRequest, pawlv1.ConnectResponse]) error {
	if err := stream.Send(&pawlv1.ConnectResponse{}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return context.Cause(stream.Context())
}

// fixture is the API on a plane in memory.
type fixture struct {
	*apitest.Plane
	server *rpc.Server
	auth   *auth.Service
	files  *fileVerbs
	conn   func(secret string) *grpc.ClientConn
}

func start(t *testing.T, script apitest.Script) *fixture {
	t.Helper()
	other := agent.Shell()
	other.Name = "other"
	f := &fixture{
		Plane: apitest.New(t, script, append(fileAgents(), other)...), auth: auth.NewService(&tokens{}),
		files: &fileVerbs{},
	}
	f.server = rpc.NewServer(api.Hooks(f.auth, slog.New(slog.DiscardHandler)))
	api.Register(f.server, api.Deps{
		Agents: f.Agents, Sessions: f.Store, Submissions: f.Store, Service: f.Submissions, Events: f.Events, Fleet: executors{}, Connector: executors{}, Files: f.files,
		Placer: fleet.NewService(rows{}), Tokens: f.auth,
	})
	l := bufconn.Listen(1 << 16)
	done := make(chan error, 1)
	go func() { done <- f.server.Serve(l) }()
	t.Cleanup(func() {
		f.server.Stop()
		// A test that never connects may end before the server has begun.
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	f.conn = func(secret string) *grpc.ClientConn {
		opts := append(rpc.DialOptions(), rpc.Security(nil), grpc.WithContextDialer(func(ctx context.Context,
			_ string,
		) (net.Conn, error) {
			return l.DialContext(ctx)
		}))
		if secret != "" {
			opts = append(opts, grpc.WithPerRPCCredentials(rpc.Token{Secret: rpc.Static(secret), Plaintext: true}))
		}
		conn, err := grpc.NewClient("passthrough:test", opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	return f
}

// as is a connection with a new token.
func (f *fixture) as(t *testing.T, like auth.Token) *grpc.ClientConn {
	t.Helper()
	secret, _, err := f.auth.Mint(t.Context(), like, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f.conn(secret)
}

func (f *fixture) operator(t *testing.T) *grpc.ClientConn {
	t.Helper()
	return f.as(t, auth.Token{Kind: auth.Operator})
}

var (
	key    = &pawlv1.SessionKey{Agent: "shell", Instance: "i"}
	target = &pawlv1.FileTarget{Target: &pawlv1.FileTarget_Session{Session: key}}
)

// answered is a submission that has settled.
func (f *fixture) answered(t *testing.T) *pawlv1.Submission {
	t.Helper()
	c := pawlv1.NewSubmissionServiceClient(f.operator(t))
	got, err := c.Submit(t.Context(), &pawlv1.SubmitRequest{Key: key, Message: "hi"})
	if err != nil {
		t.Fatal(err)
	}
	done, err := c.WaitSubmission(t.Context(), &pawlv1.WaitSubmissionRequest{SubmissionId: got.GetSubmission().GetSubmissionId()})
	if err != nil {
		t.Fatal(err)
	}
	return done.GetSubmission()
}
