package loop_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// An admission that gets its lease while the replica drains is handed back, and nothing is charged.
func TestAdmissionOverADrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		owner, ok := b.worker.Reserve()
		if !ok {
			t.Fatal("no slot")
		}
		close(b.drain)
		<-b.done
		b.done <- nil
		got, err := b.store.Admit(t.Context(), submission.Admission{
			ID: ident.New(), Key: key("s"),
			Input:       []byte(`{"role":"user","content":[{"type":"text","text":"echo hi"}]}`),
			AgentDigest: agent.Shell().Digest(), Owner: owner,
		})
		if err != nil || got.Lease == nil {
			t.Fatal(got, err)
		}
		b.worker.Start(*got.Lease)
		time.Sleep(time.Minute)
		b.start(agent.Shell())
		sub := b.wait(got.Submission.ID)
		b.expect(sub, lane.Completed, "hi")
		if sub.Attempts > 0 || sub.Stalls > 0 {
			t.Errorf("a drain was charged: %d attempts, %d stalls", sub.Attempts, sub.Stalls)
		}
	})
}

// undecodable is definitions that cannot be decoded, after so many that can.
type undecodable struct {
	agents
	good *int
}

func (u undecodable) Definition(ctx context.Context, digest string) (agent.Definition, error) {
	if *u.good--; *u.good >= 0 {
		return u.agents.Definition(ctx, digest)
	}
	return agent.Definition{}, errors.New("decoding a pinned agent: unexpected end of JSON input")
}

// A submission whose definition cannot be decoded any more settles by itself, with the error in plain words.
func TestUndecodableDefinitionSettlesByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.die()
		b.definitions = undecodable{agents{agent.Shell()}, new(int)}
		b.start(agent.Shell())
		began := time.Now()
		got := b.wait(b.submit("s", "echo hi").ID)
		if got.Outcome != lane.Interrupted || got.Reason != lane.ReasonStalled ||
			!strings.Contains(got.Message, "unexpected end of JSON input") || time.Since(began) > time.Minute {
			t.Errorf("settled %s %s after %s: %s", got.Outcome, got.Reason, time.Since(began), got.Message)
		}
	})
}

// Its deadline settles it, and so does an abort, and its command is cancelled at the executor.
func TestUndecodableDefinitionIsEnded(t *testing.T) {
	for name, c := range map[string]struct {
		abort   bool
		outcome lane.Outcome
	}{"by its deadline": {false, lane.Expired}, "by an abort": {true, lane.Aborted}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				def := agent.Shell()
				def.Limits.Timeout = 2 * time.Second
				if c.abort {
					def.Limits.Timeout = time.Hour
				}
				b := newBench(t, def)
				b.die()
				good := 1
				b.definitions = undecodable{agents{def}, &good}
				b.start(def)
				b.executor.on = func(*call.Order) tool.Reply { return nil }
				sub := b.submit("s", "sleep 1000")
				synctest.Wait()
				b.die()
				b.start(def)
				if c.abort {
					if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
						t.Fatal(err)
					}
				}
				got := b.wait(sub.ID)
				if got.Outcome != c.outcome {
					t.Errorf("settled %s %s: %s", got.Outcome, got.Reason, got.Message)
				}
				if !got.Cancellation.Confirmed || len(b.executor.cancels) != 1 {
					t.Errorf("cancellation %+v, %d cancels", got.Cancellation, len(b.executor.cancels))
				}
				good = 1000
				b.executor.on = echo
				b.expect(b.wait(b.submit("s", "echo next").ID), lane.Completed, "next")
			})
		})
	}
}

// A call for which its executor has no free slot is pending, and costs nothing while it waits. Its owner sends it when
// it is told of the grant, or finds it in the rows.
func TestCallWaitsForASlot(t *testing.T) {
	for name, told := range map[string]bool{"told": true, "found": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, agent.Shell())
				b.executor.mu.Lock()
				b.executor.full = true
				b.executor.mu.Unlock()
				sub := b.submit("s", "echo one")
				time.Sleep(10 * time.Minute) // longer than a call waits for an executor that is away
				b.executor.mu.Lock()
				waiting, ran := b.executor.waiting, len(b.executor.ran)
				b.executor.mu.Unlock()
				if len(waiting) != 1 || ran != 0 {
					t.Fatalf("%d calls wait, %d ran", len(waiting), ran)
				}
				before := len(b.logged(sub.SessionID))
				if _, err := b.store.Connect(t.Context(), fleet.Executor{ID: "x1", Replica: b.id}); err != nil {
					t.Fatal(err)
				}
				granted, err := b.store.Grant(t.Context(), call.Grant{
					Executor: "x1", ConnectionEpoch: 1, Journal: "j1", CallIDs: waiting,
				})
				if err != nil || len(granted) != 1 || granted[0].Dispatch != 1 {
					t.Fatalf("granted %+v, %v", granted, err)
				}
				if told {
					b.worker.Deliver(call.Report{
						Executor: "x1", CallID: waiting[0], LaneID: sub.LaneID,
						Body: call.Slot{Dispatch: 1, Journal: "j1"},
					})
				}
				began := time.Now()
				b.expect(b.wait(sub.ID), lane.Completed, "one")
				if took := time.Since(began); told && took > time.Second || took > 6*time.Second {
					t.Errorf("it took %s", took)
				}
				if before != 3 { // started, entry, tool_started
					t.Errorf("%d events before the call ran", before)
				}
			})
		})
	}
}

// A refusal for lack of room costs no dispatch: the same one is sent again within a second.
func TestSameDispatchAgainAfterARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		var orders []*call.Order
		b.executor.on = func(o *call.Order) tool.Reply { orders = append(orders, o); return nil }
		sub := b.submit("s", "echo one")
		for n := 1; n <= 5; n++ {
			synctest.Wait()
			if len(orders) != n || orders[n-1].Call.Dispatch != 1 {
				t.Fatalf("%d orders, the last one is dispatch %d", len(orders), orders[len(orders)-1].Call.Dispatch)
			}
			b.say(orders[0].Call, "x1", call.Rejected{Epoch: orders[0].Epoch, Reason: "CAPACITY", Message: "full"})
			time.Sleep(1100 * time.Millisecond)
		}
		synctest.Wait()
		b.say(orders[0].Call, "x1", call.Ended{Reply: echo(orders[0])})
		b.expect(b.wait(sub.ID), lane.Completed, "one")
	})
}
