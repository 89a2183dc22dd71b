package fleet

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/mono"
	"github.com/pawl-dev/pawl/services/control/call"
)

const (
	// grantAtOnce bounds the calls of one transaction.
	grantAtOnce = 512
	// grantLimit bounds the time that the database has for one of them.
	grantLimit = 10 * time.Second
	// grantRetry is how long after a failure the next grant is tried, with jitter.
	grantRetry = time.Second
	// insertLimit is how long the insert of a call may take that has taken a slot before.
	insertLimit = 20 * time.Second
)

// Grants are the records that a Granter reads and writes.
type Grants interface {
	// Grant dispatches those of the calls that are pending and returns them: state pending → dispatched, dispatch + 1.
	// It returns none when the executor has another connection epoch. Calls that are not pending are left out.
	Grant(ctx context.Context, g call.Grant) ([]call.Granted, error)
	// WaitingCalls returns the pending calls of an executor, by creation.
	WaitingCalls(ctx context.Context, executor string) ([]call.Waiting, error)
	// DispatchedCalls returns all calls that are dispatched to an executor.
	DispatchedCalls(ctx context.Context, executor string) ([]call.Call, error)
}

// Granter gives the slots of one connected executor to calls, one tenant and one lane after the other (queue). There is
// one for each connection, at the replica that holds it. Free slots are Executor.Slots less the calls that are
// dispatched.
//
//	               ┌─ TryDispatch: a slot is free and none waits ──▶ its owner inserts it as dispatched
//	call of a turn ┤                                                            │
//	               └─ its owner inserts it as pending ─▶ Wait ─▶ Grant ─▶ granted: its owner sends Execute
//	                                                                            │
//	                                                             Freed ◀── the call has ended, in any state
//
// The rows decide. What a Granter knows was read from them and is read again (Recount): after Connect, after a failure,
// and as often as its caller wants. Until then an error of its count shows as an executor that refuses a call for lack
// of capacity, or as a slot that stays empty.
//
// All methods may be called concurrently.
type Granter struct {
	rows     Grants
	executor Executor
	granted  func(call.Granted)
	log      *slog.Logger
	wake     await.Signal
	clock    mono.Clock
	counting chan struct{} // holds a token while a Recount reads

	mu      sync.Mutex // guards what follows
	slots   int        // 0 before the first Recount, and while the executor drains
	drained bool
	queue   *queue
	held    map[string]hold // calls that have a slot
	freed   map[string]bool // calls that have ended since Recount began to read; nil while it does not
}

// hold is what is known of the row of a call that has a slot.
type hold struct {
	dispatched bool          // it was; else it is to be
	since      time.Duration // when that was known, by the Granter's clock
}

// NewGranter makes the Granter of a connection. Nothing is granted before the first Recount. granted tells of a call
// that has got a slot while it waited; it must not block, and not call the Granter.
func NewGranter(rows Grants, e Executor, granted func(call.Granted), log *slog.Logger) *Granter {
	return &Granter{
		rows: rows, executor: e, granted: granted, log: log, wake: await.NewSignal(),
		clock: mono.New(), counting: make(chan struct{},
			1), queue: newQueue(), held: map[string]hold{}, drained: e.Draining,
	}
}

// TryDispatch takes a slot for a call that is to be inserted as dispatched; false when none is free, or others wait.
// The caller calls Freed if the call is not inserted then.
func (g *Granter) TryDispatch(callID string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.queue.len() > 0 || g.free() <= 0 {
		return false
	}
	g.held[callID] = hold{since: g.clock()}
	return true
}

// Wait queues calls of a lane whose rows are pending. Calls of one lane are granted in the order in which they came.
func (g *Granter) Wait(q call.Queued) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range q.CallIDs {
		if g.waits(id) {
			g.queue.push(q.Tenant, q.LaneID, id)
		}
	}
	g.kick()
}

// waits reports whether a call whose row was pending has neither got a slot since nor ended. The caller holds mu.
func (g *Granter) waits(callID string) bool {
	_, has := g.held[callID]
	return !has && !g.freed[callID]
}

// Freed says that calls have ended, whether they waited or had a slot.
func (g *Granter) Freed(callIDs ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range callIDs {
		g.queue.remove(id)
		delete(g.held, id)
		if g.freed != nil {
			g.freed[id] = true
		}
	}
	g.kick()
}

// Drain says that the executor takes nothing new.
func (g *Granter) Drain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drained, g.slots = true, 0
}

// free is how many slots are. The caller holds mu.
func (g *Granter) free() int { return g.slots - len(g.held) }

// kick makes Run look. The caller holds mu.
func (g *Granter) kick() {
	if g.queue.len() > 0 && g.free() > 0 {
		g.wake.Set()
	}
}

// Run grants until ctx ends. There is one transaction at a time: what becomes free while it commits is in the next.
func (g *Granter) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.wake:
		}
		for ids := g.take(); len(ids) > 0; ids = g.take() {
			if err := g.grant(ctx, ids); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				g.log.Warn("granting slots of an executor failed, trying again", "executor_id", g.executor.ID, "error",
					err)
				if !g.repair(ctx, ids) {
					return nil
				}
			}
		}
	}
}

// take gives free slots to the calls whose turn it is.
func (g *Granter) take() (ids []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.free() > 0 && len(ids) < grantAtOnce {
		id, ok := g.queue.pop()
		if !ok {
			break
		}
		g.held[id] = hold{since: g.clock()}
		ids = append(ids, id)
	}
	return ids
}

// grant writes that calls have got their slots. What the database does not grant has ended, or this connection has.
func (g *Granter) grant(ctx context.Context, ids []string) error {
	ctx, cancel := context.WithTimeout(ctx, grantLimit)
	defer cancel()
	granted, err := g.rows.Grant(ctx, call.Grant{
		Executor: g.executor.ID, ConnectionEpoch: g.executor.ConnectionEpoch, Journal: g.executor.JournalID,
		CallIDs: ids,
	})
	if err != nil {
		return err
	}
	g.settle(ids, granted)
	for _, c := range granted {
		g.granted(c)
	}
	return nil
}

// settle notes which of the calls of a grant were granted.
func (g *Granter) settle(ids []string, granted []call.Granted) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range granted {
		if _, has := g.held[c.CallID]; has { // else it has ended already
			g.held[c.CallID] = hold{dispatched: true, since: g.clock()}
		}
	}
	for _, id := range ids {
		if !g.held[id].dispatched {
			delete(g.held, id)
		}
	}
}

// repair reads the rows after a grant of which nobody knows whether it was written, until they can be read; false when
// ctx ends. A call that it did dispatch is told of. The others wait again, as their rows say.
func (g *Granter) repair(ctx context.Context, ids []string) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(grantRetry + rand.N(grantRetry/5)):
		}
		g.mu.Lock()
		for _, id := range ids {
			if _, has := g.held[id]; has {
				g.held[id] = hold{dispatched: true, since: -1} // unless its row says otherwise
			}
		}
		g.mu.Unlock()
		rows, err := g.Recount(ctx)
		if err != nil {
			continue
		}
		asked := map[string]bool{}
		for _, id := range ids {
			asked[id] = true
		}
		for _, row := range rows {
			if asked[row.ID] {
				g.granted(call.Granted{CallID: row.ID, LaneID: row.LaneID, Dispatch: row.Dispatch})
			}
		}
		return true
	}
}

// Recount corrects by the rows what is known, and returns the calls that are dispatched to the executor. It takes two
// queries, and time in proportion to the open calls.
func (g *Granter) Recount(ctx context.Context) ([]call.Call, error) {
	select {
	case g.counting <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-g.counting }()
	g.mu.Lock()
	before, began := g.queue.came, g.clock()
	g.freed = map[string]bool{}
	g.mu.Unlock()
	dispatched, waiting, err := g.read(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	defer func() { g.freed = nil }()
	if err != nil {
		return nil, err
	}
	if !g.drained {
		g.slots = g.executor.Slots
	}
	g.countHeld(dispatched, began)
	waiting = slices.DeleteFunc(waiting, func(w call.Waiting) bool { return !g.waits(w.CallID) })
	g.queue.reorder(waiting, before)
	g.kick()
	return dispatched, nil
}

func (g *Granter) read(ctx context.Context) (dispatched []call.Call, waiting []call.Waiting, err error) {
	if dispatched, err = g.rows.DispatchedCalls(ctx, g.executor.ID); err != nil {
		return nil, nil, err
	}
	waiting, err = g.rows.WaitingCalls(ctx, g.executor.ID)
	return dispatched, waiting, err
}

// countHeld drops calls that were dispatched before the rows were read, which began then, and are not any more, and
// those that were to be dispatched and were not for too long. The caller holds mu.
func (g *Granter) countHeld(dispatched []call.Call, began time.Duration) {
	rows := map[string]bool{}
	for _, c := range dispatched {
		if !g.freed[c.ID] {
			rows[c.ID] = true
			g.held[c.ID] = hold{dispatched: true, since: began}
		}
	}
	for id, h := range g.held {
		until := h.since
		if !h.dispatched {
			until += insertLimit
		}
		if !rows[id] && until < began {
			delete(g.held, id)
		}
	}
}
