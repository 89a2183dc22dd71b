// Package link is control's end of Connect, and of the peer service by which replicas reach each other's executors.
//
//	Hello ─▶ registered, connection_epoch+1 ─▶ Welcome ─▶ frames both ways ─▶ any error, silence, a newer connection: gone
//	  └─▶ refused: another executor is connected under this name, and answers a Ping
//
// One connection is one failure domain: any failure ends it and it is made anew. It has one goroutine that sends and
// one that receives. Work and liveness share it: a connection on which no Heartbeat comes within the ttl, or on which
// one shows that frames were lost, is closed.
//
// Invariants: ResultAck is sent only for results that are durable (C2); a result for a session that nobody here runs is
// recorded by this replica itself (C3) before it is acknowledged; frames of a superseded connection are dropped.
package link

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// Protocol is the version of Connect that this package speaks.
const Protocol = 1

const (
	ttl        = 15 * time.Second
	pingEvery  = 5 * time.Second
	window     = call.Window
	queueLimit = 1 << 14 // frames
)

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
	ErrContended = errs.New(errs.Unavailable, "NAME_CONTENDED", "others connect under this name at the same time; "+
		"try again")
	ErrFrame      = errs.New(errs.InvalidArgument, "FRAME_INVALID", "the executor sent a frame that is not valid")
	ErrSuperseded = errs.New(errs.Aborted, "SUPERSEDED", "a newer connection of this executor has taken over")
	ErrSilent     = errs.New(errs.DeadlineExceeded, "SILENT", "the executor did not answer in time")
	ErrNotHere    = errs.New(errs.NotFound, "NOT_HERE", "the executor is not connected here")
	ErrNoLease    = errs.New(errs.Unavailable, "NO_LEASE", "this replica has no lease yet, or has lost it, and "+
		"serves no executors now")
	ErrDraining = errs.New(errs.Unavailable, "DRAINING", "this replica is shutting down")
)

// Owner runs sessions in this process.
type Owner interface {
	// Deliver hands a report to the run of its session; false when none here runs it, or the run does not wait for the
	// call.
	Deliver(r call.Report) bool
	// FleetChanged says that an executor came or went.
	FleetChanged()
}

// Calls are the records that connections read and complete.
type Calls interface {
	GetCall(ctx context.Context, id string) (call.Call, error)
	CompleteCall(ctx context.Context, o call.Outcome) (call.Call, error)
	DispatchedCalls(ctx context.Context, executor string) ([]call.Call, error)
}

// Redactor knows the secrets of sessions' agents.
type Redactor interface {
	// Redact takes the secrets of a call's agent out of what the call came to. An error that carries a reason says that
	// they cannot be known here: the definition or a variable is missing.
	Redact(ctx context.Context, c call.Call, reply tool.Reply) (tool.Reply, error)
}

// Deps are what a Server works with.
type Deps struct {
	Calls   Calls
	Fleet   fleet.Store
	Local   *fleet.Service
	Owner   Owner
	Peers   *Peers
	Hints   interface{ Notify(sessionIDs ...string) }
	Replica func() string // id of the present incarnation, "" for none
	// Identity is the executor that the caller's token is for.
	Identity func(ctx context.Context) (auth.Principal, error)
	Redactor Redactor
	Log      *slog.Logger
}

// Server holds the connections of this replica.
type Server struct {
	deps Deps

	mu    sync.Mutex // guards what follows
	conns map[string]*connection
	wait  sync.WaitGroup
	ended bool

	closing chan struct{}  // closed by Close
	streams sync.WaitGroup // what connections have started, which ends with their streams
}

// NewServer makes a Server.
func NewServer(deps Deps) *Server {
	return &Server{deps: deps, conns: map[string]*connection{}, closing: make(chan struct{})}
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

	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	hello, err := s.hello(ctx, stream)
	if err != nil {
		return err
	}
	e, err := s.register(ctx, hello)
	if err != nil {
		return err
	}
	c := newConnection(s, stream, e, cancel)
	c.gone = ctx.Done()
	defer s.unregister(ctx, c)
	defer c.end(nil)
	defer c.loseTransfers()
	c.enqueue(welcome(e))
	if err := s.take(c); err != nil {
		return err
	}
	began := time.Now()
	s.deps.Log.Info("executor connected", "executor_id", c.executor.ID, "connection_epoch", c.executor.ConnectionEpoch,
		"version", c.executor.Version)
	err = c.run(ctx, hello)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	s.deps.Log.Info("executor disconnected", "executor_id", c.executor.ID, "connection_epoch",
		c.executor.ConnectionEpoch,
		"duration", time.Since(began), "reason", reason(err))
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

func (s *Server) unregister(ctx context.Context, c *connection) {
	s.mu.Lock()
	if s.conns[c.executor.ID] == c {
		delete(s.conns, c.executor.ID)
	}
	s.mu.Unlock()
	s.deps.Local.Detached(c.executor.ID, c.executor.ConnectionEpoch)
	ctx = context.WithoutCancel(ctx)
	if err := s.recordEnd(ctx, c); err != nil {
		s.deps.Log.Warn("recording the end of an executor's connection failed, trying again",
			"executor_id", c.executor.ID, "connection_epoch", c.executor.ConnectionEpoch, "error", err)
		s.streams.Go(func() { s.keepRecordingEnd(ctx, c) })
		return
	}
	s.deps.Owner.FleetChanged()
}

func (s *Server) recordEnd(ctx context.Context, c *connection) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return contain.Do(func() error {
		return s.deps.Fleet.Disconnect(ctx, c.executor.ID, c.executor.ConnectionEpoch, c.begun.Load())
	})
}

// keepRecordingEnd tries until the end is recorded: an executor that counts as connected here for ever would be waited
// for for ever. With the end of this replica's lease its connections are gone for everybody.
func (s *Server) keepRecordingEnd(ctx context.Context, c *connection) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 100*time.Millisecond, 5*time.Second
	for s.deps.Replica() == c.executor.Replica {
		select {
		case <-s.closing:
			return
		case <-time.After(wait.NextBackOff()):
		}
		err := s.recordEnd(ctx, c)
		if err == nil {
			break
		}
		s.deps.Log.Debug("recording the end of an executor's connection failed again", "executor_id", c.executor.ID,
			"error", err)
	}
	s.deps.Owner.FleetChanged()
}

// Send hands a message to an executor: over its connection here, or through the replica that has it. ErrNotHere when
// nobody does.
func (s *Server) Send(ctx context.Context, executor string, m call.Message) error {
	return s.forward(ctx, executor, encode(m))
}

func (s *Server) forward(ctx context.Context, executor string, frame *pawlv1.ConnectResponse) error {
	if s.here(executor, frame) {
		return nil
	}
	e, err := s.deps.Fleet.GetExecutor(ctx, executor)
	if err != nil {
		return err
	}
	if !e.Connected() || e.Replica == s.deps.Replica() || e.ReplicaAddr == "" {
		return ErrNotHere
	}
	return s.deps.Peers.forward(ctx, e.ReplicaAddr, executor, frame)
}

// here sends over the connection of this replica, if there is one.
func (s *Server) here(executor string, frame *pawlv1.ConnectResponse) bool {
	c := s.connection(executor)
	return c != nil && c.enqueue(frame)
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
	if !s.ended {
		s.ended = true
		close(s.closing)
	}
	s.mu.Unlock()
	s.Drop(ErrDraining)
	s.wait.Wait()
	s.streams.Wait()
}
