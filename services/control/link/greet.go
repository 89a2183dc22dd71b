package link

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
)

const (
	helloLimit      = 10 * time.Second
	maxLabels       = 64
	maxSlots        = 10_000
	maxText         = 4096 // bytes of a text in Hello
	maxIncarnations = 64
	// registerTries is how often a connection that is made at the same time as others is decided on anew.
	registerTries = 5
)

type stream = grpc.BidiStreamingServer[pawlv1.ConnectRequest, pawlv1.ConnectResponse]

// hello receives and checks the first frame.
func (s *Server) hello(ctx context.Context, stream stream) (*pawlv1.Hello, error) {
	who, err := s.deps.Identity(ctx)
	if err != nil {
		return nil, err
	}
	type first struct {
		req *pawlv1.ConnectRequest
		err error
	}
	got := make(chan first, 1)
	s.streams.Go(func() { // ends with the stream at the latest, after Connect has returned
		var f first
		f.err = contain.Do(func() (err error) { f.req, err = stream.Recv(); return err })
		got <- f
	})
	timer := time.NewTimer(helloLimit)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil, ErrHelloLate.With("no Hello came within %s", helloLimit)
	case <-ctx.Done():
		return nil, ctx.Err()
	case f := <-got:
		if f.err != nil {
			return nil, f.err
		}
		return checkHello(f.req.GetHello(), who)
	}
}

func checkHello(h *pawlv1.Hello, who auth.Principal) (*pawlv1.Hello, error) {
	switch {
	case h == nil:
		return nil, ErrHello.With("the first frame must be Hello")
	case h.GetProtocol() != Protocol:
		return nil, ErrProtocol.With("the executor speaks protocol %d, this control plane speaks %d: upgrade the "+
			"older of the two",
			h.GetProtocol(), Protocol)
	case h.GetExecutorId() != who.Executor:
		return nil, ErrIdentity.With("the token belongs to executor %q, not %q", who.Executor, h.GetExecutorId())
	case len(h.GetRequiredCapabilities()) > 0:
		return nil, ErrCapability.With("the executor (%s) requires %q, which this control plane does not know: "+
			"upgrade it",
			h.GetVersion(), h.GetRequiredCapabilities())
	case h.GetBootId() == "" || h.GetJournalId() == "":
		return nil, ErrHello.With("Hello lacks boot_id or journal_id")
	case len(h.GetIncarnations()) < 1 || len(h.GetIncarnations()) > maxIncarnations:
		return nil, ErrHello.With("Hello has %d incarnations, and 1 to %d are possible", len(h.GetIncarnations()),
			maxIncarnations)
	case h.GetSlots() < 1 || h.GetSlots() > maxSlots:
		return nil, ErrHello.With("Hello has %d slots, and 1 to %d are possible", h.GetSlots(), maxSlots)
	case len(h.GetLabels()) > maxLabels:
		return nil, ErrHello.With("Hello has %d labels, and at most %d are possible", len(h.GetLabels()), maxLabels)
	}
	for _, check := range []func(*pawlv1.Hello) error{checkTexts, checkTools} {
		if err := check(h); err != nil {
			return nil, ErrHello.With("Hello: %v", err)
		}
	}
	return h, who.Labels.Allow(h.GetLabels())
}

func checkTexts(h *pawlv1.Hello) error {
	for key, value := range h.GetLabels() {
		if err := ident.CheckLabel(key, value); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"boot_id": h.GetBootId(), "journal_id": h.GetJournalId(), "version": h.GetVersion(), "root": h.GetRoot(),
		"isolation": h.GetIsolation(),
	} {
		if text == "" {
			continue
		}
		if err := ident.CheckText(name, text, maxText); err != nil {
			return err
		}
	}
	for _, i := range h.GetIncarnations() {
		if err := ident.CheckText("incarnations.id", i.GetId(), 64); err != nil {
			return err
		}
		if i.GetBegun() < 0 {
			return fmt.Errorf("an incarnation cannot have begun %d calls", i.GetBegun())
		}
	}
	for _, in := range h.GetInflight() {
		if err := ident.CheckText("inflight.call_id", in.GetCallId(), maxText); err != nil {
			return err
		}
	}
	return nil
}

// checkTools refuses an executor with a bad tool, instead of leaving the tool out: who wrote the tool reads the
// executor's log, and nobody there would look for what is missing.
func checkTools(h *pawlv1.Hello) error {
	if n := len(h.GetTools()); n > tool.MaxOffered {
		return fmt.Errorf("%d tools are offered, at most %d are possible", n, tool.MaxOffered)
	}
	size := 0
	all := offers(h)
	for i, o := range all {
		if err := o.Check(); err != nil {
			return err
		}
		if agent.Taken(o.Name) {
			return fmt.Errorf("tool %s: the name is taken; give the tool another one", o.Name)
		}
		if i > 0 && all[i-1].Name == o.Name {
			return fmt.Errorf("tool %s is offered twice", o.Name)
		}
		size += len(o.Description) + len(o.Schema)
	}
	if size > tool.MaxOfferedSize {
		return fmt.Errorf("the descriptions and schemas of all tools have %d bytes, at most %d are possible", size,
			tool.MaxOfferedSize)
	}
	return nil
}

// offers are the tools of a Hello, by name.
func offers(h *pawlv1.Hello) []tool.Offered {
	var all []tool.Offered
	for _, o := range h.GetTools() {
		safety := tool.AtMostOnce
		switch o.GetSafety() {
		case pawlv1.Safety_SAFETY_IDEMPOTENT:
			safety = tool.Idempotent
		case pawlv1.Safety_SAFETY_PURE:
			safety = tool.Pure
		}
		schema := json.RawMessage(o.GetSchemaJson())
		if stored, err := json.Marshal(schema); err == nil {
			schema = stored // as every replica reads it: models are told the same everywhere
		}
		all = append(all, tool.Offered{
			Name: o.GetName(), Description: o.GetDescription(), Schema: schema,
			Safety: safety, Timeout: o.GetTimeout().AsDuration(),
		})
	}
	slices.SortStableFunc(all, func(a, b tool.Offered) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func executorOf(h *pawlv1.Hello) fleet.Executor {
	present := h.GetIncarnations()[0]
	return fleet.Executor{
		ID: h.GetExecutorId(), Labels: h.GetLabels(), Slots: int(h.GetSlots()), Version: h.GetVersion(),
		Root: h.GetRoot(), Isolation: h.GetIsolation(), Draining: h.GetDraining(), Tools: offers(h),
		Journal: fleet.Journal{Name: h.GetJournalId(), Incarnation: present.GetId(), Begun: present.GetBegun()},
	}
}

// register makes the connection that says hello the executor's, at whichever replica the last one was.
func (s *Server) register(ctx context.Context, hello *pawlv1.Hello) (fleet.Executor, error) {
	e := executorOf(hello)
	who, err := s.deps.Identity(ctx)
	if err != nil {
		return e, err
	}
	e.Tenant, e.Shared = cmp.Or(who.Tenant, session.DefaultTenant), who.Shared
	for range registerTries {
		e.Replica = s.deps.Replica()
		if e.Replica == "" {
			return e, ErrNoLease
		}
		last, err := s.deps.Fleet.GetExecutor(ctx, e.ID)
		if err != nil && !errors.Is(err, fleet.ErrNotFound) {
			return e, err
		}
		if err == nil && last.Tenant != e.Tenant {
			return e, ErrIdentity.With("executor %s belongs to another tenant than its token", e.ID)
		}
		kin, err := s.admit(ctx, last, hello)
		if err != nil {
			return e, err
		}
		e.JournalID, e.ConnectionEpoch = last.JournalID, last.ConnectionEpoch
		if kin != fleet.Same && kin != fleet.Successor {
			e.JournalID = ident.New()
		}
		e.ConnectionEpoch, err = s.deps.Fleet.Connect(ctx, e)
		if errors.Is(err, fleet.ErrChanged) {
			continue // somebody was faster, perhaps this connection itself, if the answer was lost
		}
		if err == nil {
			s.warnOf(kin, last, e)
		}
		return e, err
	}
	return e, fleet.ErrContended
}

// admit decides whether an executor that says hello may take the place of the one that was connected last under its
// name. A process takes over from its own last connection at once, because that one may be half open. Anybody else may
// not while the executor that is connected answers: two daemons with one name would end each other's commands in turn.
func (s *Server) admit(ctx context.Context, last fleet.Executor, hello *pawlv1.Hello) (fleet.Kin, error) {
	chain := make([]fleet.Incarnation, len(hello.GetIncarnations()))
	for i, n := range hello.GetIncarnations() {
		chain[i] = fleet.Incarnation{ID: n.GetId(), Begun: n.GetBegun()}
	}
	kin := last.Journal.Compare(hello.GetJournalId(), chain)
	if !last.Connected() || kin == fleet.Same && hello.GetLastConnectionEpoch() == last.ConnectionEpoch {
		return kin, nil
	}
	if last.Draining {
		return kin, fleet.ErrContended.With("the executor that is connected as %s is draining and leaves; try again",
			last.ID)
	}
	answers, err := s.answers(ctx, last)
	if err != nil || !answers {
		return kin, err
	}
	s.deps.Log.Warn("a second executor was refused: one is connected under its name and answers",
		"executor_id", last.ID, "root", last.Root, "refused_root", hello.GetRoot())
	return kin, ErrNameInUse.With("another executor is connected as %s (%s, working directory %s) and answers: "+
		"stop that one first if this one takes its place; else give this one a name and a token of its own "+
		"(`control token create --executor NAME`), and if its data directory is a copy, an empty one",
		last.ID, last.Version, last.Root)
}

// answers reports whether the executor's last connection still has somebody at its other end, at whichever replica it
// is.
func (s *Server) answers(ctx context.Context, last fleet.Executor) (bool, error) {
	c := s.connection(last.ID)
	if s.elsewhere(last) && (c == nil || c.executor.ConnectionEpoch != last.ConnectionEpoch) {
		return s.deps.Peers.Probe(ctx, last)
	}
	return s.ProbeHere(ctx, last.ID, last.ConnectionEpoch)
}

// warnOf says when the calls of an executor's past can no longer be asked for.
func (s *Server) warnOf(kin fleet.Kin, last, now fleet.Executor) {
	var text string
	switch kin {
	case fleet.Other:
		text = "it has another data directory than before: calls that were running there may end with an unknown " +
			"outcome"
	case fleet.Fork:
		text = "its data directory is a copy, or an older state, of the one that connected last under this name: " +
			"calls that were running there may end with an unknown outcome"
	default:
		return
	}
	s.deps.Log.Warn("an executor does not continue its past", "reason", text, "executor_id", now.ID,
		"connection_epoch", now.ConnectionEpoch, "root", now.Root, "last_root", last.Root, "last_seen", last.LastSeen)
}

// take makes c the connection of its executor at this replica and ends an older one.
func (s *Server) take(c *connection) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.conns[c.executor.ID]
	switch {
	case s.ended:
		return ErrDraining
	case old != nil && old.executor.ConnectionEpoch > c.executor.ConnectionEpoch:
		return ErrSuperseded
	}
	s.conns[c.executor.ID] = c
	if old != nil {
		old.end(ErrSuperseded)
	}
	return nil
}

func welcome(e fleet.Executor) *pawlv1.ConnectResponse {
	return &pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Welcome{Welcome: &pawlv1.Welcome{
		ConnectionEpoch: e.ConnectionEpoch, Ttl: durationpb.New(ttl), Window: call.Window, ReplicaId: e.Replica,
	}}}
}
