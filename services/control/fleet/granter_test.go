package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
)

// rows is a table of calls.
type rows struct {
	mu       sync.Mutex    // guards what follows
	slow     time.Duration // a read takes so long, a grant twice
	epoch    int64
	calls    []call.Call
	grants   int   // transactions
	fails    error // of the next grant
	loses    error // answer of the next grant, which is written
	readFail error
}

func (r *rows) insert(lane, id string, state call.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := call.Call{ID: id, LaneID: lane, State: state, Executor: "e"}
	if state == call.Dispatched {
		c.Dispatch = 1
	}
	r.calls = append(r.calls, c)
}

// slower makes the database slow.
func (r *rows) slower(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slow = d
}

// pause is the time that the database takes, which is fake.
func (r *rows) pause() {
	r.mu.Lock()
	d := r.slow
	r.mu.Unlock()
	time.Sleep(d)
}

func (r *rows) end(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = slices.DeleteFunc(r.calls, func(c call.Call) bool { return c.ID == id })
}

func (r *rows) dispatched() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		if c.State == call.Dispatched {
			n++
		}
	}
	return n
}

func (r *rows) Grant(_ context.Context, g call.Grant) (granted []call.Granted, err error) {
	r.pause() // before the write and after it
	r.mu.Lock()
	defer r.mu.Unlock()
	r.grants++
	if err, r.fails = r.fails, nil; err != nil {
		return nil, err
	}
	for i := range r.calls {
		c := &r.calls[i]
		if g.ConnectionEpoch == r.epoch && slices.Contains(g.CallIDs, c.ID) && c.State == call.Pending {
			c.State, c.Dispatch, c.Journal = call.Dispatched, c.Dispatch+1, g.Journal
			granted = append(granted, call.Granted{CallID: c.ID, LaneID: c.LaneID, Dispatch: c.Dispatch})
		}
	}
	r.mu.Unlock()
	r.pause()
	r.mu.Lock()
	if err, r.loses = r.loses, nil; err != nil {
		return nil, err
	}
	return granted, nil
}

func (r *rows) WaitingCalls(context.Context, string) (waiting []call.Waiting, _ error) {
	r.pause()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		if c.State == call.Pending {
			waiting = append(waiting, call.Waiting{CallID: c.ID, LaneID: c.LaneID})
		}
	}
	return waiting, r.readFail
}

func (r *rows) DispatchedCalls(context.Context, string) (found []call.Call, _ error) {
	r.pause()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		if c.State == call.Dispatched {
			found = append(found, c)
		}
	}
	return found, r.readFail
}

// office is a Granter at work.
type office struct {
	*Granter
	t    *testing.T
	rows *rows

	mu   sync.Mutex
	told []call.Granted
	on   func(call.Granted) // what owners do when they are told
}

// granting runs a test in a bubble with the Granter of an executor.
func granting(t *testing.T, slots int, f func(o *office)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o := &office{t: t, rows: &rows{slow: 2 * time.Millisecond, epoch: 3}}
		e := Executor{ID: "e", Slots: slots, ConnectionEpoch: 3, JournalID: "j"}
		o.Granter = NewGranter(o.rows, e, func(c call.Granted) {
			o.mu.Lock()
			o.told = append(o.told, c)
			on := o.on
			o.mu.Unlock()
			if on != nil {
				go on(c)
			}
		}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- o.Run(ctx) }()
		f(o)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (o *office) recount() {
	o.t.Helper()
	if _, err := o.Recount(o.t.Context()); err != nil {
		o.t.Error(err)
	}
}

// wait inserts pending calls of a lane and queues them.
func (o *office) wait(lane string, ids ...string) {
	for _, id := range ids {
		o.rows.insert(lane, id, call.Pending)
		o.Wait(call.Queued{LaneID: lane, CallIDs: []string{id}})
	}
}

// granted is the calls that were told of since the last time, after a moment.
func (o *office) granted() (ids []string) {
	time.Sleep(time.Second / 10)
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.told {
		if c.Dispatch != 1 {
			o.t.Errorf("call %s was dispatched %d times", c.CallID, c.Dispatch)
		}
		ids = append(ids, c.CallID)
	}
	o.told = nil
	return ids
}

func (o *office) wantGranted(ids ...string) {
	o.t.Helper()
	if got := o.granted(); !slices.Equal(got, ids) {
		o.t.Errorf("granted: %q, want %q", got, ids)
	}
}

// ends is what owners and executors do with a call: it runs, ends, and frees its slot.
func (o *office) ends(id string, after time.Duration) {
	time.Sleep(after)
	o.rows.end(id)
	o.Freed(id)
}

const one = time.Second // what a call of the figures takes

// Five hundred calls of a second each on 64 slots: lanes.md asks for 9 s at most, and few transactions.
func TestManyCallsOfOneLane(t *testing.T) {
	granting(t, 64, func(o *office) {
		o.recount()
		var all sync.WaitGroup
		all.Add(500)
		o.on = func(c call.Granted) { o.ends(c.CallID, one); all.Done() }
		began := time.Now()
		for n := range 500 {
			o.wait("a", strconv.Itoa(n))
		}
		all.Wait()
		took := time.Since(began)
		t.Logf("500 calls of %s on 64 slots took %s in %d transactions", one, took, o.rows.grants)
		if took > 9*time.Second || o.rows.grants > 100 {
			t.Errorf("it took %s and %d transactions", took, o.rows.grants)
		}
	})
}

// Newcomers that ask for 40 % of the slots do not wait behind a lane's five hundred calls, and these get what is left.
func TestNewcomersBesideManyCallsOfOneLane(t *testing.T) {
	granting(t, 64, func(o *office) {
		o.recount()
		var big, all sync.WaitGroup
		var mu sync.Mutex
		asked, waited := map[string]time.Time{}, []time.Duration(nil)
		big.Add(500)
		o.on = func(c call.Granted) {
			if c.LaneID == "a" {
				o.ends(c.CallID, one)
				big.Done()
				return
			}
			mu.Lock()
			waited = append(waited, time.Since(asked[c.CallID]))
			mu.Unlock()
			o.ends(c.CallID, one)
			all.Done()
		}
		began := time.Now()
		for n := range 500 {
			o.wait("a", strconv.Itoa(n))
		}
		stop := make(chan struct{})
		go func() {
			big.Wait()
			close(stop)
		}()
		share := 0.4
		every := time.Duration(float64(one) / (share * 64))
	newcomers:
		for n := 0; ; n++ {
			select {
			case <-stop:
				break newcomers
			case <-time.After(every):
			}
			id := fmt.Sprint("n", n)
			mu.Lock()
			asked[id] = time.Now()
			mu.Unlock()
			all.Add(1)
			if o.TryDispatch(id) {
				o.rows.insert(id, id, call.Dispatched)
				go o.on(call.Granted{CallID: id, LaneID: id})
			} else {
				o.wait(id, id)
			}
		}
		took := time.Since(began)
		all.Wait()
		slices.Sort(waited)
		p99 := waited[len(waited)*99/100]
		left := time.Duration(500 / ((1 - share) * 64) * float64(one))
		t.Logf("p99 of %d newcomers: %s; the 500 took %s, of %s that are left", len(waited), p99, took, left)
		if p99 > one*12/10 || took > left*11/10 {
			t.Errorf("newcomers waited %s, the others took %s", p99, took)
		}
	})
}

// What becomes free while a grant commits is in the next one.
func TestGrantsAreCoalesced(t *testing.T) {
	granting(t, 4, func(o *office) {
		o.recount()
		o.rows.slower(time.Second)
		o.wait("a", "1") // its grant commits for two seconds
		synctest.Wait()
		o.wait("a", "2")
		o.wait("b", "3", "4", "5")
		time.Sleep(4 * time.Second)
		o.wantGranted("1", "2", "3", "4")
		if o.rows.grants != 2 {
			t.Errorf("%d transactions", o.rows.grants)
		}
	})
}

// A call is inserted as dispatched only when a slot is free and none waits.
func TestTryDispatch(t *testing.T) {
	granting(t, 2, func(o *office) {
		if o.TryDispatch("1") {
			t.Error("a slot was given away before the rows were read")
		}
		o.rows.insert("a", "old", call.Dispatched)
		o.recount()
		if !o.TryDispatch("1") || o.TryDispatch("2") {
			t.Error("of two slots, one taken, not exactly one is free")
		}
		o.wait("a", "2", "3")
		o.wantGranted()
		o.Freed("1") // was never inserted: its commit failed
		o.wantGranted("2")
		o.rows.end("old")
		o.rows.end("2")
		o.Freed("old", "2")
		o.wantGranted("3")
		if !o.TryDispatch("4") {
			t.Error("a slot is free, none waits, and it was not given")
		}
	})
}

// A grant that fails is tried again, and one whose answer was lost is told of and not given twice.
func TestGrantThatFails(t *testing.T) {
	for name, fail := range map[string]func(r *rows){
		"not written":     func(r *rows) { r.fails = errors.New("the disk is full") },
		"the answer lost": func(r *rows) { r.loses = errors.New("the connection was lost") },
		"and no rows can be read for a while": func(r *rows) {
			r.loses, r.readFail = errors.New("the connection was lost"), errors.New("the database is away")
			go func() {
				time.Sleep(20 * time.Second)
				r.mu.Lock()
				defer r.mu.Unlock()
				r.readFail = nil
			}()
		},
	} {
		t.Run(name, func(t *testing.T) {
			granting(t, 2, func(o *office) {
				o.recount()
				fail(o.rows)
				o.wait("a", "1", "2", "3")
				time.Sleep(time.Minute)
				got := o.granted()
				slices.Sort(got)
				if !slices.Equal(got, []string{"1", "2"}) {
					t.Errorf("granted: %q", got)
				}
				if n := o.rows.dispatched(); n != 2 {
					t.Errorf("%d calls have the two slots", n)
				}
				o.ends("1", 0)
				o.wantGranted("3")
			})
		})
	}
}

// A call that ended while it waited, unheard, takes no slot.
func TestGrantOfACallThatHasEnded(t *testing.T) {
	granting(t, 1, func(o *office) {
		o.recount()
		o.rows.insert("a", "1", call.Pending)
		o.rows.end("1")
		o.Wait(call.Queued{LaneID: "a", CallIDs: []string{"1"}})
		o.wait("a", "2")
		o.wantGranted("2")
	})
}

// A connection that was superseded grants nothing.
func TestGrantOfAnOldConnection(t *testing.T) {
	granting(t, 2, func(o *office) {
		o.recount()
		o.rows.epoch++
		o.wait("a", "1")
		o.wantGranted()
		if n := o.rows.dispatched(); n != 0 {
			t.Errorf("%d calls were dispatched", n)
		}
	})
}

// After Connect everything comes from the rows: what waits, by creation, and what has a slot.
func TestRecountReadsWhatWaits(t *testing.T) {
	granting(t, 2, func(o *office) {
		o.rows.insert("a", "old", call.Dispatched)
		for _, id := range []string{"1", "2", "3"} {
			o.rows.insert("a", id, call.Pending)
		}
		o.recount()
		o.wantGranted("1")
		o.ends("old", 0)
		o.wantGranted("2")
	})
}

// What the rows contradict is corrected: a slot whose call has ended unheard, a call that waits no more, one that waits
// and was not told of.
func TestRecountCorrects(t *testing.T) {
	granting(t, 2, func(o *office) {
		o.recount()
		o.wait("a", "1", "2", "3", "4")
		o.wantGranted("1", "2")
		o.rows.end("1") // at another replica, which cannot say so
		o.rows.end("3")
		o.rows.insert("b", "5", call.Pending)
		o.recount()
		o.wantGranted("4")
		o.ends("2", 0)
		o.wantGranted("5")
	})
}

// A slot that was taken for a call that is being inserted is not given away by a count that comes before the row. If
// the call is never inserted, and nobody says so, the slot is not lost for good.
func TestRecountDuringAnInsert(t *testing.T) {
	granting(t, 1, func(o *office) {
		o.recount()
		if !o.TryDispatch("1") {
			t.Fatal("no slot is free")
		}
		o.wait("a", "2")
		o.recount()
		o.recount()
		o.wantGranted()
		time.Sleep(insertLimit)
		o.recount()
		o.wantGranted("2")
	})
}

// A call that ends while the rows are read does not come back with them.
func TestEndDuringARecount(t *testing.T) {
	granting(t, 1, func(o *office) {
		o.recount()
		o.wait("a", "1", "2", "3")
		o.wantGranted("1")
		o.rows.slower(time.Second)
		go func() {
			time.Sleep(time.Second + time.Second/2) // dispatched calls were read
			o.rows.end("1")
			o.Freed("1", "3")
		}()
		o.recount()
		time.Sleep(time.Minute)
		o.wantGranted("2")
		if o.queue.len() != 0 || len(o.held) != 1 {
			t.Errorf("%d wait and %d have a slot", o.queue.len(), len(o.held))
		}
	})
}

// A call that ends before the answer comes that it was granted has no slot then.
func TestEndDuringAGrant(t *testing.T) {
	granting(t, 1, func(o *office) {
		o.recount()
		o.rows.slower(time.Second)
		o.wait("a", "1")
		time.Sleep(time.Second + time.Second/2) // it is written
		o.rows.end("1")
		o.Freed("1")
		time.Sleep(time.Second)
		synctest.Wait()
		if !o.TryDispatch("2") {
			t.Error("the slot is not free")
		}
	})
}

// Who waits comes before who has just come, although a slot is free.
func TestTryDispatchWhileOthersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // nothing is granted yet: Run is not called
		r := &rows{}
		g := NewGranter(r, Executor{ID: "e", Slots: 2}, nil, slog.New(slog.DiscardHandler))
		r.insert("a", "1", call.Pending)
		if _, err := g.Recount(t.Context()); err != nil {
			t.Fatal(err)
		}
		if g.TryDispatch("2") {
			t.Error("it went before")
		}
	})
}

// An executor that drains when it connects is given nothing.
func TestExecutorThatConnectsDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGranter(&rows{}, Executor{ID: "e", Slots: 2, Draining: true}, nil, slog.New(slog.DiscardHandler))
		if _, err := g.Recount(t.Context()); err != nil {
			t.Fatal(err)
		}
		if g.TryDispatch("1") {
			t.Error("it was given a call")
		}
	})
}

// An executor that drains is given nothing more.
func TestDrainingExecutorIsGivenNothing(t *testing.T) {
	granting(t, 2, func(o *office) {
		o.recount()
		o.Drain()
		o.wait("a", "1")
		o.recount()
		o.wantGranted()
		if o.TryDispatch("2") {
			t.Error("it was given a call")
		}
	})
}
