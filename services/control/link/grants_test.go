package link

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/call"
)

// Calls wait for the slots of an executor at the replica that has its connection, whichever their owner is at. The
// owner is told of a grant: directly when it is there, else by a hint.
func TestSlotsAreGrantedWhereTheConnectionIs(t *testing.T) {
	replicas(t, func(t *testing.T, owner, holds *plane) {
		db := owner.cluster.db
		owner.owner.runs = true
		e := holds.executor() // of 4 slots
		db.noted()
		var ids []string
		for n := range 6 {
			id := fmt.Sprint("c", n)
			db.put(call.Call{ID: id, LaneID: "s", Executor: "e", State: call.Pending})
			ids = append(ids, id)
		}
		w := call.Queued{Executor: "e", LaneID: "s", CallIDs: ids}
		if err := owner.Wait(context.Background(), w); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		want := func(granted int) {
			t.Helper()
			synctest.Wait()
			db.mu.Lock()
			n := len(db.in("e", call.Dispatched))
			db.mu.Unlock()
			told := len(db.noted())
			if owner == holds {
				told = len(owner.owner.got)
				for range told {
					<-owner.owner.got
				}
			}
			if n != 4 || told != granted {
				t.Errorf("%d calls are dispatched, and %d were told of, want %d", n, told, granted)
			}
		}
		want(4)
		// The acknowledgement of a result says that its call has ended, and so does the owner that is here.
		db.put(call.Call{ID: "c0", LaneID: "s", Executor: "e", State: call.Done})
		if err := owner.Send(context.Background(), "e", &call.ResultAck{CallID: "c0"}); err != nil {
			t.Fatal(err)
		}
		want(1)
		db.put(call.Call{ID: "c1", LaneID: "s", Executor: "e", State: call.Done})
		holds.Freed("e", "c1")
		want(1)
		if _, ok := holds.TryDispatch("e", "late"); ok {
			t.Error("a fifth call has one of the four slots")
		}
		db.put(call.Call{ID: "c2", LaneID: "s", Executor: "e", State: call.Done})
		holds.Freed("e", "c2")
		if got, ok := holds.TryDispatch("e", "late"); !ok || got.ConnectionEpoch != 1 {
			t.Errorf("a free slot was not given: %+v", got)
		}
		e.lives()
	})
}

// An owner hears that the replica which grants slots cannot be told. Of an executor that is away it hears nothing: what
// waits is read when it connects.
func TestWaitThatGetsNowhere(t *testing.T) {
	within(t, 2, func(all []*plane) {
		w := call.Queued{Executor: "e", LaneID: "s", CallIDs: []string{"c"}}
		e := all[1].executor()
		e.close()
		synctest.Wait()
		if err := all[0].Wait(context.Background(), w); err != nil {
			t.Errorf("the executor is away: %v", err)
		}
		all[1].executor()
		all[1].grpc.Stop()
		synctest.Wait()
		all[1].cluster.db.connected(all[1].id)
		if err := all[0].Wait(context.Background(), w); err == nil {
			t.Error("the replica cannot be reached, and nobody says so")
		}
	})
}

// An executor that begins to drain is given nothing more.
func TestDrainingExecutorGetsNoSlots(t *testing.T) {
	within(t, 1, func(all []*plane) {
		e := all[0].executor()
		synctest.Wait()
		if _, ok := all[0].TryDispatch("e", "before"); !ok {
			t.Error("nothing was given to begin with")
		}
		e.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Draining{Draining: &pawlv1.Draining{}}})
		synctest.Wait()
		if _, ok := all[0].TryDispatch("e", "after"); ok {
			t.Error("it was given a call")
		}
	})
}

// What waits is known from the rows when an executor connects.
func TestWhatWaitsIsReadAtConnect(t *testing.T) {
	within(t, 1, func(all []*plane) {
		db := all[0].cluster.db
		all[0].owner.runs = true
		db.put(call.Call{ID: "c", LaneID: "s", Executor: "e", State: call.Pending})
		all[0].executor()
		if got := <-all[0].owner.got; got.CallID != "c" || got.LaneID != "s" || got.Executor != "e" {
			t.Errorf("told of %+v", got)
		}
	})
}
