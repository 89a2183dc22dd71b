package api_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/api"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/deletion"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/run/scheduler"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
	"github.com/pawl-dev/pawl/services/control/tenancy"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// executors is a fleet of one.
type executors struct{}

func (executors) GetExecutor(_ context.Context, id string) (fleet.Executor, error) {
	if id != "gpu1" {
		return fleet.Executor{}, fleet.ErrNotFound
	}
	return fleet.Executor{
		ID: "gpu1", Tenant: "default", Replica: "r", Slots: 4, Labels: map[string]string{"gpu": "yes"},
	}, nil
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

// hello answers everything.
func hello() model.Model { return modeltest.Always(modeltest.Say("Hello")) }

// fixture is the API on a plane in memory.
type fixture struct {
	*planetest.Plane
	server *rpc.Server
	auth   *auth.Service
	files  *fileVerbs
	conn   func(secret string) *grpc.ClientConn
	found  func(session.Session) // called once a session was found by its id, when set
	unable error                 // of changes of sessions, when set
	// runs are what a test makes them do. They are of workflows.
	runs      *run.Service
	own       *planetest.Runs
	workflows *planetest.Workflows
}

// Check implements api.Checker.
func (f *fixture) Check(_, name string, source []byte) (*workflow.Definition, error) {
	return workflow.Parse(name, name+".yaml", source, workflow.Surrounding{})
}

// finding is sessions of which somebody hears that they are found.
type finding struct {
	session.Store
	fixture *fixture
}

// GetSession implements session.Store.
func (f finding) GetSession(ctx context.Context, tenant, id string) (session.Session, error) {
	one, err := f.Store.GetSession(ctx, tenant, id)
	if err == nil && f.fixture.found != nil {
		f.fixture.found(one)
	}
	return one, err
}

// UpdateSession implements session.Store.
func (f finding) UpdateSession(
	ctx context.Context, tenant, id string, c session.Change,
) (session.Session, error) {
	if f.fixture.unable != nil {
		return session.Session{}, f.fixture.unable
	}
	return f.Store.UpdateSession(ctx, tenant, id, c)
}

// start serves the API of a plane whose agents ask m; nil leaves what is submitted in its queue.
func start(t *testing.T, m model.Model) *fixture {
	t.Helper()
	other := agent.Shell()
	other.Name = "other"
	f := &fixture{Plane: planetest.New(t, m, append(fileAgents(), other)...), files: &fileVerbs{}}
	f.auth = auth.NewService(f.Store)
	f.workflows = planetest.NewWorkflows(t, map[string]string{"three": three, "keyed": keyed})
	f.own = f.Runs(t, f.workflows)
	f.runs = f.own.Service
	f.serve(t, nil)
	return f
}

// serve serves the API, with a log of what was done unless that is nil.
func (f *fixture) serve(t *testing.T, trail *audit.Log) {
	t.Helper()
	server := rpc.NewServer(api.Hooks(f.auth, trail, slog.New(slog.DiscardHandler)))
	api.Register(server, api.Deps{
		Agents: f.Agents, Sessions: finding{f.Store, f}, Submissions: f.Store, Calls: f.Store, Service: f.Submissions,
		Events: f.Events,
		Fleet:  executors{}, Connector: executors{}, Files: f.files,
		Placer: fleet.NewService(rows{}, nobody), Tokens: f.auth,
		Tenants:   tenancy.NewService(f.Store),
		Workflows: f.workflows, Runs: f.runs, Checker: f,
		Schedules: scheduler.NewService(scheduler.Deps{Store: f.Store, Runs: f.runs, Workflows: f.workflows}),
		Deletions: f.Store, Deleter: deletion.NewService(deletion.Deps{Store: f.Store, Aborter: f.Submissions}),
	})
	f.server = server
	l := bufconn.Listen(1 << 16)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
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
	done, err := c.WaitSubmission(
		t.Context(),
		&pawlv1.WaitSubmissionRequest{SubmissionId: got.GetSubmission().GetSubmissionId()},
	)
	if err != nil {
		t.Fatal(err)
	}
	return done.GetSubmission()
}

// nobody is the id of a process that is no replica.
func nobody() string { return "" }
