package link

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/mono"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/link/files"
	"github.com/pawl-dev/pawl/services/control/link/peer"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// Protocol is the version of Connect that this package speaks.
const Protocol = 1

// Failures of a connection.
var (
	ErrProtocol   = errs.New(errs.FailedPrecondition, "PROTOCOL_VERSION", "protocol version mismatch")
	ErrCapability = errs.New(errs.FailedPrecondition, "UNKNOWN_CAPABILITY", "the executor requires a capability that "+
		"this control plane does not know")
	ErrIdentity  = errs.New(errs.PermissionDenied, "EXECUTOR_IDENTITY", "the token belongs to another executor")
	ErrHello     = errs.New(errs.InvalidArgument, "HELLO_INVALID", "the executor's Hello is not valid")
	ErrHelloLate = errs.New(errs.DeadlineExceeded, "HELLO_LATE", "no Hello came in time")
	ErrNameInUse = errs.New(errs.FailedPrecondition, "NAME_IN_USE", "another executor is connected under this name "+
		"and answers")
	ErrFrame      = errs.New(errs.InvalidArgument, "FRAME_INVALID", "the executor sent a frame that is not valid")
	ErrSuperseded = errs.New(errs.Aborted, "SUPERSEDED", "a newer connection of this executor has taken over")
	ErrSilent     = errs.New(errs.DeadlineExceeded, "SILENT", "the executor did not answer in time")
	ErrNoLease    = errs.New(errs.Unavailable, "NO_LEASE", "this replica has no lease yet, or has lost it, and "+
		"serves no executors now")
	ErrDraining = errs.New(errs.Unavailable, "DRAINING", "this replica is shutting down")
)

// Owner runs sessions in this process.
type Owner interface {
	// Deliver hands a report to the run of its session; false when none here runs it, or the run does not wait for the
	// call.
	Deliver(r call.Report) bool
	// Owns reports whether a run here has the lane.
	Owns(laneID string) bool
}

// Calls are the records that connections read and complete.
type Calls interface {
	GetCall(ctx context.Context, id string) (call.Call, error)
	CompleteCall(ctx context.Context, o call.Outcome) (call.Call, error)
	DispatchedCalls(ctx context.Context, executor string) ([]call.Call, error)
}

// Redactor knows the secrets of agents and of workflows.
type Redactor interface {
	// Redact takes the secrets of what a call is made by out of what it came to. An error that carries a reason says
	// that they cannot be known here: the definition or a variable is missing.
	Redact(ctx context.Context, c call.Call, reply tool.Reply) (tool.Reply, error)
}

// Deps are what a Server works with.
type Deps struct {
	Calls   Calls
	Fleet   fleet.Store
	Local   *fleet.Service
	Owner   Owner
	Peers   *peer.Client
	Bus     *wake.Bus     // hears of executors that come and go, and of calls whose records have changed
	Replica func() string // id of the present incarnation, "" for none
	// Identity is the executor that the caller's token is for.
	Identity func(ctx context.Context) (auth.Principal, error)
	Redactor Redactor
	// Grants are the records of calls that wait for slots. Without it no call is granted one.
	Grants fleet.Grants
	// Granted tells the owner of a lane, if it is in this process, that a call of it has got a slot of an executor that
	// is connected here. It must not block, and is false when the owner is elsewhere.
	Granted func(e fleet.Executor, g call.Granted) bool
	// ToolsChanged hears that an MCP server on an executor has changed its list of tools. It must not block. nil is
	// nobody.
	ToolsChanged func(executor, server string)
	Clock        mono.Clock // default mono.New()
	Log          *slog.Logger
}

// Server holds the connections of this replica.
type Server struct {
	deps Deps

	places *places

	mu      sync.Mutex // guards what follows
	conns   map[string]*connection
	opening map[string]int // executors whose connections are being recorded
	// opens counts them all; compared is how many there were when the rows said that none of them was here any more.
	opens, compared int
	ended           bool
	wait            sync.WaitGroup // calls of Connect
	streams         sync.WaitGroup // what connections have started, which ends with their streams
}

// NewServer makes a Server.
func NewServer(deps Deps) *Server {
	if deps.Clock == nil {
		deps.Clock = mono.New()
	}
	s := &Server{deps: deps, conns: map[string]*connection{}, opening: map[string]int{}}
	s.places = newPlaces(deps.Clock, s.placeOf)
	return s
}

// Connect serves one connection of an executor until it ends.
func (s *Server) Connect(stream stream) error {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return ErrDraining
	}
	s.wait.Add(1)
	s.mu.Unlock()
	defer s.wait.Done()

	ctx := stream.Context()
	hello, err := s.hello(ctx, stream)
	if err != nil {
		return err
	}
	c, err := s.open(ctx, stream, hello)
	if err != nil {
		return err
	}
	defer s.unregister(c)
	defer c.end(nil)
	e := c.executor
	began := s.deps.Clock()
	s.deps.Log.Info("executor connected", "executor_id", e.ID, "connection_epoch", e.ConnectionEpoch, "version",
		e.Version)
	err = c.run()
	if cause := context.Cause(c.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	s.deps.Log.Info("executor disconnected", "executor_id", e.ID, "connection_epoch", e.ConnectionEpoch, "duration",
		s.deps.Clock.Since(began), "reason", reason(err))
	return err
}

func reason(err error) string {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		return "the connection ended"
	}
	if contain.Is(err) {
		return "a panic" // which is logged with the RPC
	}
	return err.Error()
}

// open makes the connection the executor's: in the database, and here.
func (s *Server) open(ctx context.Context, stream stream, hello *pawlv1.Hello) (*connection, error) {
	s.mu.Lock()
	s.opening[hello.GetExecutorId()]++
	s.opens++
	s.mu.Unlock()
	defer s.opened(hello.GetExecutorId())
	e, err := s.register(ctx, hello)
	if err != nil {
		return nil, err
	}
	c := newConnection(s, stream, e, hello.GetInflight())
	c.enqueue(welcome(e))
	if err := s.take(c); err != nil {
		c.end(nil)
		s.unregister(c)
		return nil, err
	}
	return c, nil
}

func (s *Server) opened(executor string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opening[executor]--; s.opening[executor] == 0 {
		delete(s.opening, executor)
	}
}

func (s *Server) unregister(c *connection) {
	s.mu.Lock()
	if s.conns[c.executor.ID] == c {
		delete(s.conns, c.executor.ID)
	}
	s.mu.Unlock()
	s.deps.Local.Detached(c.executor.ID, c.executor.ConnectionEpoch)
	c.ended(context.WithoutCancel(c.ctx))
}

// changed says that records of calls of the lanes have changed: to their owners here and elsewhere.
func (s *Server) changed(laneIDs ...string) {
	for _, id := range laneIDs {
		s.deps.Bus.Publish(wake.Lane(id))
	}
	s.deps.Bus.Announce(laneIDs...)
}

// mayBeHere reports whether an executor is connected here, or is about to be.
func (s *Server) mayBeHere(executor string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns[executor] != nil || s.opening[executor] > 0
}

// Send hands a message to an executor: over its connection here, or through the replica that has it. peer.ErrNotHere
// when nobody does.
func (s *Server) Send(ctx context.Context, executor string, m call.Message) error {
	frame := encode(m)
	if s.SendHere(executor, frame) {
		return nil
	}
	return s.places.reach(ctx, executor, func(addr string) error {
		return s.deps.Peers.Forward(ctx, addr, executor, frame)
	})
}

// elsewhere reports whether an executor is connected to another replica, which can be reached.
func (s *Server) elsewhere(e fleet.Executor) bool {
	return e.Connected() && e.Replica != s.deps.Replica() && e.ReplicaAddr != ""
}

// Do runs a verb on the files of an executor, over its connection here or through the replica that has it. It is asked
// for once, whatever happens. Errors: fleet.ErrNotFound, and those of files.Transfers.Do.
func (s *Server) Do(ctx context.Context, q *files.Request) (*pawlv1.Result, error) {
	if c := s.connection(q.Executor); c != nil {
		return c.files.Do(ctx, q)
	}
	e, err := s.deps.Fleet.GetExecutor(ctx, q.Executor)
	if err != nil {
		return nil, err
	}
	if !s.elsewhere(e) {
		return nil, files.ErrAway.With("executor %s is not connected; try again", e.ID)
	}
	return s.deps.Peers.Do(ctx, e.ReplicaAddr, q)
}

// SendHere implements peer.Local.
func (s *Server) SendHere(executor string, frame *pawlv1.ConnectResponse) bool {
	c := s.connection(executor)
	return c != nil && c.enqueue(frame)
}

// DeliverHere implements peer.Local.
func (s *Server) DeliverHere(executor, lane string, frame *pawlv1.ConnectRequest) bool {
	rep, ok := report(executor, frame)
	rep.LaneID = lane
	// What comes for a call that is over is for nobody: whoever looks for another owner finds this one again.
	return ok && (s.deps.Owner.Deliver(rep) || s.deps.Owner.Owns(lane))
}

// ProbeHere implements peer.Local.
func (s *Server) ProbeHere(ctx context.Context, executor string, connectionEpoch int64) (bool, error) {
	c := s.connection(executor)
	if c == nil || c.executor.ConnectionEpoch != connectionEpoch {
		return false, nil
	}
	return c.answers(ctx)
}

// DoHere implements peer.Local.
func (s *Server) DoHere(ctx context.Context, q *files.Request) (*pawlv1.Result, error) {
	c := s.connection(q.Executor)
	if c == nil {
		return nil, peer.ErrNotHere
	}
	return c.files.Do(ctx, q)
}

// connection is the executor's at this replica, nil when there is none.
func (s *Server) connection(executor string) *connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns[executor]
}

// Drop ends all connections: their executors connect again, here or elsewhere.
func (s *Server) Drop(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.end(cause)
	}
}

// Close ends all connections, refuses new ones, and waits until they are gone.
func (s *Server) Close() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.Drop(ErrDraining)
	s.wait.Wait()
	s.streams.Wait()
}
