package link

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/call"
)

func (e *executor) accepts(id string) {
	e.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Accepted{Accepted: &pawlv1.Accepted{CallId: id}}})
}

// cancelled is the calls that were cancelled since the last time, with their epochs.
func (e *executor) cancelled() map[string]int64 {
	got := map[string]int64{}
	for _, m := range e.take() {
		if c := m.GetCancel(); c != nil {
			got[c.GetCallId()] = c.GetEpoch()
		}
	}
	return got
}

// pass lets fake time pass, and what happens then.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func running(id string) *pawlv1.CallState {
	return &pawlv1.CallState{CallId: id, LaneId: "s", Epoch: 5, State: pawlv1.State_STATE_RUNNING}
}

// A call that ends without its executor's word is cancelled there within compareEvery, whether it was asked for over
// the connection or was there before. One that is open is left. The Cancel has the highest epoch that is known of the
// lane, and is sent once.
func TestCallThatEndedUnheardIsCancelled(t *testing.T) {
	for _, state := range []call.State{call.Lost, call.Cancelled, call.Done} {
		t.Run(state.String(), func(t *testing.T) {
			within(t, 1, func(all []*plane) {
				p, db := all[0], all[0].cluster.db
				p.owner.runs = true
				for _, id := range []string{"asked", "held", "open"} {
					db.put(call.Call{ID: id, LaneID: "s", Executor: "e", State: call.Dispatched})
				}
				e := p.executor(running("held"))
				for id, epoch := range map[string]int64{"asked": 6, "open": 7} {
					m := &call.Attach{CallID: id, LaneID: "s", Epoch: epoch}
					if err := p.Send(context.Background(), "e", m); err != nil {
						t.Fatal(err)
					}
					e.accepts(id)
					<-p.owner.got
				}
				pass(2 * compareEvery)
				if got := e.cancelled(); len(got) != 0 {
					t.Errorf("calls that are open were cancelled: %v", got)
				}
				for _, id := range []string{"asked", "held"} {
					db.put(call.Call{ID: id, LaneID: "s", Executor: "e", State: state})
				}
				pass(compareEvery)
				if got := e.cancelled(); len(got) != 2 || got["asked"] != 7 || got["held"] != 7 {
					t.Errorf("cancelled: %v", got)
				}
				pass(5 * compareEvery)
				if got, left := e.cancelled(), p.connection("e").calls.snapshot(); len(got) != 0 || len(left) != 1 {
					t.Errorf("cancelled again: %v; the connection knows %v", got, left)
				}
			})
		})
	}
}

// A result that was handed to a lane's owner, which was ended by force before it recorded the result, is acknowledged:
// else the executor keeps it, and the connection what it knows of the call.
func TestResultThatNobodyRecorded(t *testing.T) {
	within(t, 1, func(all []*plane) {
		p, db := all[0], all[0].cluster.db
		p.owner.runs = true
		db.put(call.Call{ID: "c", LaneID: "s", Executor: "e", State: call.Dispatched})
		e := p.executor(running("c"))
		e.result("c", text("nobody reads it"))
		<-p.owner.got
		pass(2 * compareEvery)
		if acked := e.resultAcks(); len(acked) != 0 {
			t.Errorf("acknowledged before it was recorded: %q", acked)
		}
		db.put(call.Call{ID: "c", LaneID: "s", Executor: "e", State: call.Lost})
		pass(2 * compareEvery)
		var acked int
		for _, m := range e.take() {
			if m.GetResultAck() != nil {
				acked++
			}
			if m.GetCancel() != nil {
				t.Error("a call that has ended at the executor was cancelled")
			}
		}
		if left := p.connection("e").calls.snapshot(); acked != 1 || len(left) != 0 {
			t.Errorf("acknowledged %d times; the connection knows %v", acked, left)
		}
	})
}

// A Cancel that is refused because the executor knows a later owner is sent with that one's epoch, once.
func TestCancelOfAnOldEpochIsSentAnew(t *testing.T) {
	within(t, 1, func(all []*plane) {
		p, db := all[0], all[0].cluster.db
		db.put(call.Call{ID: "c", LaneID: "s", Executor: "e", State: call.Dispatched})
		e := p.executor(running("c"))
		db.put(call.Call{ID: "c", LaneID: "s", Executor: "e", State: call.Lost})
		pass(compareEvery)
		refuse := func(epoch int64) {
			e.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Rejected{Rejected: &pawlv1.Rejected{
				CallId: "c", Epoch: epoch, KnownEpoch: 9, Reason: pawlv1.Rejected_REASON_STALE_EPOCH,
			}}})
		}
		refuse(5)
		if got := e.cancelled(); got["c"] != 9 {
			t.Errorf("cancelled: %v", got)
		}
		refuse(9)
		if got := e.cancelled(); len(got) != 0 {
			t.Errorf("cancelled again: %v", got)
		}
	})
}

// A call that is asked for while the rows are read is not among them, and is none that has ended.
func TestCallThatIsAskedForMeanwhile(t *testing.T) {
	within(t, 1, func(all []*plane) {
		p := all[0]
		e := p.executor()
		c := p.connection("e")
		p.deps.Grants = nil
		c.grants = nil
		p.deps.Calls = meanwhile{p.cluster.db, func() {
			if err := p.Send(context.Background(), "e", attach("c")); err != nil {
				t.Error(err)
			}
		}}
		if err := c.compare(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got := e.cancelled(); len(got) != 0 {
			t.Errorf("cancelled: %v", got)
		}
	})
}

// meanwhile is a database in which something happens while rows are read.
type meanwhile struct {
	*database
	happens func()
}

func (m meanwhile) DispatchedCalls(ctx context.Context, executor string) ([]call.Call, error) {
	rows, err := m.database.DispatchedCalls(ctx, executor)
	m.happens()
	return rows, err
}

// The owners of calls that are open at an executor, and that they have not asked for over its connection, are told that
// it is here, again and again.
func TestOwnersAreToldOfTheirOpenCalls(t *testing.T) {
	within(t, 1, func(all []*plane) {
		p, db := all[0], all[0].cluster.db
		for id, lane := range map[string]string{"a1": "a", "a2": "a", "b1": "b"} {
			db.put(call.Call{ID: id, LaneID: lane, Executor: "e", State: call.Dispatched})
		}
		db.put(call.Call{ID: "other", LaneID: "other", Executor: "f", State: call.Dispatched})
		told := func(want ...string) {
			t.Helper()
			got := db.noted()
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("hints about %q, want %q", got, want)
			}
		}
		p.executor()
		told("a", "b")
		for _, id := range []string{"a1", "a2"} {
			m := &call.Attach{CallID: id, LaneID: "a"}
			if err := p.Send(context.Background(), "e", m); err != nil {
				t.Fatal(err)
			}
		}
		pass(compareEvery)
		told("b")
		pass(compareEvery)
		told("b")
	})
}

// A comparison that fails is made again soon, and the connection lives.
func TestComparisonThatFails(t *testing.T) {
	within(t, 1, func(all []*plane) {
		db := all[0].cluster.db
		db.put(call.Call{ID: "c", LaneID: "s", Executor: "e", State: call.Dispatched})
		db.fail("DispatchedCalls", errors.New("a row cannot be decoded"))
		e := all[0].executor()
		pass(10 * pingEvery)
		e.lives()
		if n := db.tried("DispatchedCalls"); n < 10 || n > 12 {
			t.Errorf("%d tries in ten intervals", n)
		}
		db.fail("DispatchedCalls", nil)
		pass(pingEvery)
		if got := db.noted(); len(got) != 1 {
			t.Errorf("hints: %q", got)
		}
	})
}
