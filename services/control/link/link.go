// Package link is control's end of Connect, and of the peer service by which replicas reach each other's executors.
//
//	Hello ─▶ registered, connection_epoch+1 ─▶ Welcome ─▶ frames both ways ─▶ any error, silence, a newer connection: gone
//
// One connection is one failure domain: any failure ends it and it is made anew. It has one goroutine that sends and one that
// receives. Work and liveness share it: a connection on which no Heartbeat comes within the ttl, or on which one shows that frames
// were lost, is closed.
//
// Invariants: ResultAck is sent only for results that are durable (C2); a result for a session that nobody here runs is recorded by
// this replica itself (C3) before it is acknowledged; frames of a superseded connection are dropped.
package link

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/fleet"
)

// Protocol is the version of Connect that this package speaks.
const Protocol = 1

const (
	ttl        = 15 * time.Second
	pingEvery  = 5 * time.Second
	helloLimit = 10 * time.Second
	window     = call.Window
	queueLimit = 1 << 14 // frames
	maxLabels  = 64
	maxSlots   = 10_000
	maxText    = 4096 // bytes of a text in Hello
)

// Failures of a connection.
var (
	ErrProtocol   = errs.New(errs.FailedPrecondition, "PROTOCOL_VERSION", "protocol version mismatch")
	ErrCapability = errs.New(errs.FailedPrecondition, "UNKNOWN_CAPABILITY", "the executor requires a capability that this control plane does not know")
	ErrIdentity   = errs.New(errs.PermissionDenied, "EXECUTOR_IDENTITY", "the token belongs to another executor")
	ErrHello      = errs.New(errs.InvalidArgument, "HELLO_EXPECTED", "the first frame must be Hello")
	ErrSuperseded = errs.New(errs.Aborted, "SUPERSEDED", "a newer connection of this executor has taken over")
	ErrSilent     = errs.New(errs.DeadlineExceeded, "SILENT", "the executor did not answer in time")
	ErrNotHere    = errs.New(errs.NotFound, "NOT_HERE", "the executor is not connected here")
	ErrDraining   = errs.New(errs.Unavailable, "DRAINING", "this replica is shutting down")
)

// Owner runs sessions in this process.
type Owner interface {
	// Deliver hands a report to the run of its session; false when none here runs it, or the run does not wait for the call.
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

// Deps are what a Server works with.
type Deps struct {
	Calls   Calls
	Fleet   fleet.Store
	Local   *fleet.Service
	Owner   Owner
	Peers   *Peers
	Hints   interface{ Notify(sessionIDs ...string) }
	Replica func() string // id of the present incarnation, "" for none
	// Identity is the executor id that the caller's token names.
	Identity func(ctx context.Context) (string, error)
	Log      *slog.Logger
}

// Server holds the connections of this replica.
type Server struct {
	deps Deps

	mu    sync.Mutex // guards what follows
	conns map[string]*connection
	wait  sync.WaitGroup
	ended bool

	streams sync.WaitGroup // what connections have started, which ends with their streams
}

// NewServer makes a Server.
func NewServer(deps Deps) *Server { return &Server{deps: deps, conns: map[string]*connection{}} }

// Connect serves one connection of an executor until it ends.
func (s *Server) Connect(stream grpc.BidiStreamingServer[pawlv1.ConnectRequest, pawlv1.ConnectResponse]) error {
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
	c := newConnection(s, stream, executorOf(hello), cancel)
	if err := s.register(ctx, c); err != nil {
		return err
	}
	defer s.unregister(ctx, c)
	defer c.end(nil)
	began := time.Now()
	s.deps.Log.Info("executor connected", "executor_id", c.executor.ID, "connection_epoch", c.executor.ConnectionEpoch, "version", c.executor.Version)
	err = c.run(ctx, hello)
	c.loseTransfers()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	s.deps.Log.Info("executor disconnected", "executor_id", c.executor.ID, "connection_epoch", c.executor.ConnectionEpoch,
		"duration", time.Since(began), "reason", reason(err))
	return err
}

func reason(err error) string {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		return "the connection ended"
	}
	return err.Error()
}

// hello receives and checks the first frame.
func (s *Server) hello(ctx context.Context, stream grpc.BidiStreamingServer[pawlv1.ConnectRequest, pawlv1.ConnectResponse]) (*pawlv1.Hello, error) {
	id, err := s.deps.Identity(ctx)
	if err != nil {
		return nil, err
	}
	type first struct {
		req *pawlv1.ConnectRequest
		err error
	}
	got := make(chan first, 1)
	s.streams.Go(func() { // ends with the stream at the latest, after Connect has returned
		req, err := stream.Recv()
		got <- first{req, err}
	})
	timer := time.NewTimer(helloLimit)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil, ErrHello.With("no Hello came within %s", helloLimit)
	case <-ctx.Done():
		return nil, ctx.Err()
	case f := <-got:
		if f.err != nil {
			return nil, f.err
		}
		return checkHello(f.req.GetHello(), id)
	}
}

func checkHello(h *pawlv1.Hello, id string) (*pawlv1.Hello, error) {
	switch {
	case h == nil:
		return nil, ErrHello
	case h.GetProtocol() != Protocol:
		return nil, ErrProtocol.With("the executor speaks protocol %d, this control plane speaks %d: upgrade the older of the two", h.GetProtocol(), Protocol)
	case h.GetExecutorId() != id:
		return nil, ErrIdentity.With("the token belongs to executor %q, not %q", id, h.GetExecutorId())
	case len(h.GetRequiredCapabilities()) > 0:
		return nil, ErrCapability.With("the executor (%s) requires %q, which this control plane does not know: upgrade it", h.GetVersion(), h.GetRequiredCapabilities())
	case h.GetBootId() == "" || h.GetJournalId() == "":
		return nil, ErrHello.With("Hello lacks boot_id or journal_id")
	case h.GetSlots() < 1 || h.GetSlots() > maxSlots:
		return nil, ErrHello.With("Hello has %d slots, and 1 to %d are possible", h.GetSlots(), maxSlots)
	case len(h.GetLabels()) > maxLabels:
		return nil, ErrHello.With("Hello has %d labels, and at most %d are possible", len(h.GetLabels()), maxLabels)
	}
	for key, value := range h.GetLabels() {
		if err := ident.CheckLabel(key, value); err != nil {
			return nil, ErrHello.With("Hello: %v", err)
		}
	}
	for name, text := range map[string]string{
		"boot_id": h.GetBootId(), "journal_id": h.GetJournalId(), "version": h.GetVersion(), "root": h.GetRoot(), "isolation": h.GetIsolation(),
	} {
		if text == "" {
			continue
		}
		if err := ident.CheckText(name, text, maxText); err != nil {
			return nil, ErrHello.With("Hello: %v", err)
		}
	}
	for _, in := range h.GetInflight() {
		if err := ident.CheckText("inflight.call_id", in.GetCallId(), maxText); err != nil {
			return nil, ErrHello.With("Hello: %v", err)
		}
	}
	return h, nil
}

func executorOf(h *pawlv1.Hello) fleet.Executor {
	return fleet.Executor{
		ID: h.GetExecutorId(), JournalID: h.GetJournalId(), Labels: h.GetLabels(), Slots: int(h.GetSlots()), Version: h.GetVersion(),
		Root: h.GetRoot(), Isolation: h.GetIsolation(), Draining: h.GetDraining(),
	}
}

// register makes c the executor's connection and ends an older one.
func (s *Server) register(ctx context.Context, c *connection) error {
	c.executor.Replica = s.deps.Replica()
	if c.executor.Replica == "" {
		return ErrDraining
	}
	epoch, err := s.deps.Fleet.Connect(ctx, c.executor)
	if err != nil {
		return err
	}
	c.executor.ConnectionEpoch = epoch
	c.enqueue(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Welcome{Welcome: &pawlv1.Welcome{
		ConnectionEpoch: epoch, Ttl: durationpb.New(ttl), Window: window, ReplicaId: c.executor.Replica,
	}}})
	s.mu.Lock()
	old := s.conns[c.executor.ID]
	if s.ended {
		s.mu.Unlock()
		return ErrDraining
	}
	if old != nil && old.executor.ConnectionEpoch > epoch {
		s.mu.Unlock()
		return ErrSuperseded
	}
	s.conns[c.executor.ID] = c
	s.mu.Unlock()
	if old != nil {
		old.end(s.superseded(old.executor, c.executor))
	}
	return nil
}

// superseded is why an executor's connection ends for a newer one. That has the same journal, unless it is somebody else's: two that
// run with one token take over from each other for ever, and neither would know.
func (s *Server) superseded(old, now fleet.Executor) error {
	if old.JournalID == now.JournalID {
		return ErrSuperseded
	}
	s.deps.Log.Warn("another executor has taken over this name: if both run, give each a name and a token of its own", "executor_id", now.ID, "root", now.Root, "was", old.Root)
	return ErrSuperseded.With("another executor has connected as %s and taken over: if both run, give each a name and a token of its own", now.ID)
}

func (s *Server) unregister(ctx context.Context, c *connection) {
	s.mu.Lock()
	if s.conns[c.executor.ID] == c {
		delete(s.conns, c.executor.ID)
	}
	s.mu.Unlock()
	s.deps.Local.Detached(c.executor.ID, c.executor.ConnectionEpoch)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := s.deps.Fleet.Disconnect(ctx, c.executor.ID, c.executor.ConnectionEpoch); err != nil {
		s.deps.Log.Warn("recording a disconnect failed", "executor_id", c.executor.ID, "error", err)
	}
	s.deps.Owner.FleetChanged()
}

// Send hands a message to an executor: over its connection here, or through the replica that has it. ErrNotHere when nobody does.
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
	s.ended = true
	s.mu.Unlock()
	s.Drop(ErrDraining)
	s.wait.Wait()
	s.streams.Wait()
}
