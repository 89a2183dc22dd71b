package fleet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
)

// A slot is never given twice and never lost for good, whatever comes at the same time: calls that are inserted late,
// not at all, or that nobody said wait; ends that nobody was told of; grants that fail, with and without having been
// written; counts in the middle of everything.
func TestSlotsOfRandomHistories(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			granting(t, 4, func(o *office) {
				h := history{office: o, random: rand.New(rand.NewPCG(seed, 1))}
				o.recount()
				for range 300 {
					h.happen()
					if n := o.rows.dispatched(); n > 4 {
						t.Fatalf("%d calls have the 4 slots", n)
					}
				}
				h.atRest()
			})
		})
	}
}

// history is what random owners and executors do with an office.
type history struct {
	*office
	random *rand.Rand
	calls  int
}

func (h *history) happen() {
	h.rows.slower(time.Duration(h.random.IntN(50)) * time.Millisecond)
	switch n := h.random.IntN(100); {
	case n < 40:
		h.calls++
		go h.call(fmt.Sprint("lane", h.random.IntN(3)), fmt.Sprint(h.calls), h.random.IntN(10), h.some(time.Second))
	case n < 75:
		h.end(h.random.IntN(4) > 0)
	case n < 80:
		go func() { _, _ = h.Recount(h.t.Context()) }()
	case n < 83:
		h.next(func(r *rows) { r.fails = errors.New("the disk is full") })
	case n < 86:
		h.next(func(r *rows) { r.loses = errors.New("the connection was lost") })
	}
	time.Sleep(h.some(200 * time.Millisecond))
	synctest.Wait()
}

func (h *history) some(d time.Duration) time.Duration {
	return time.Duration(h.random.Int64N(int64(d)))
}

func (h *history) next(f func(*rows)) {
	h.rows.mu.Lock()
	defer h.rows.mu.Unlock()
	f(h.rows)
}

// call is one of an owner.
func (h *history) call(lane, id string, fate int, late time.Duration) {
	switch slot := h.TryDispatch(id); {
	case slot && fate == 0: // its owner dies
	case slot && fate == 1:
		time.Sleep(late)
		h.Freed(id) // its commit fails
	case slot:
		time.Sleep(late)
		h.rows.insert(lane, id, call.Dispatched)
	default:
		h.rows.insert(lane, id, call.Pending)
		if fate > 0 {
			h.Wait(call.Queued{LaneID: lane, CallIDs: []string{id}})
		}
	}
}

// end ends a call that is there; the Granter may not hear of it.
func (h *history) end(heard bool) {
	h.rows.mu.Lock()
	id := ""
	if n := len(h.rows.calls); n > 0 {
		id = h.rows.calls[h.random.IntN(n)].ID
	}
	h.rows.mu.Unlock()
	h.rows.end(id)
	if heard {
		h.Freed(id)
	}
}

// atRest checks that nothing is wrong any more after a while in which nothing happens.
func (h *history) atRest() {
	for range 4 {
		time.Sleep(30 * time.Second)
		h.recount()
	}
	time.Sleep(time.Second)
	synctest.Wait()
	h.rows.mu.Lock()
	defer h.rows.mu.Unlock()
	dispatched, waiting := 0, 0
	for _, c := range h.rows.calls {
		if c.State == call.Dispatched {
			dispatched++
			if !h.held[c.ID].dispatched {
				h.t.Errorf("call %s is dispatched, and has no slot", c.ID)
			}
		} else {
			waiting++
		}
	}
	if len(h.held) != dispatched || waiting > 0 && dispatched != 4 || h.queue.len() != waiting {
		h.t.Errorf("%d are dispatched and %d have a slot; %d wait and %d are known to", dispatched, len(h.held),
			waiting, h.queue.len())
	}
}
