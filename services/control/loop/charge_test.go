package loop_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// What cannot be read or written, for a reason that does not pass, is given up after a few attempts. The session goes
// on with what was submitted next.
func TestLastingErrorIsGivenUp(t *testing.T) {
	broken := errors.New("a value cannot be decoded")
	// The other one says that it passes, while all else in the database works.
	for name, lasting := range map[string]error{
		"Entries": broken, "Unreadable": broken, "Definition": broken, "Commit": broken,
		"Entries for ever": errAbsent, "Definition for ever": errAbsent, "Commit for ever": errAbsent,
	} {
		verb, _, _ := strings.Cut(name, " ")
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, agent.Shell())
				b.expect(b.wait(b.submit("s", "say: before").ID), lane.Completed, "before") // the next one reads it
				b.die()
				defs := &failing{agents: agents{agent.Shell()}}
				b.definitions = defs
				b.start(agent.Shell())
				if verb == "Definition" {
					defs.set(lasting)
				}
				b.counted.fails(verb, lasting)
				sub := b.submit("s", "say: hi")
				began := time.Now()
				if verb == "Commit" { // settling is a commit too
					time.Sleep(20 * time.Minute)
					b.counted.fails(verb, nil)
					began = time.Now()
				}
				got, err := b.service.Wait(t.Context(), "default", sub.ID, time.Hour)
				if err != nil || got.Outcome != lane.Interrupted || got.Reason != "STALLED" {
					t.Fatalf("settled as %+v, %v", got, err)
				}
				if took := time.Since(began); took > 10*time.Minute {
					t.Errorf("it took %s", took)
				}
				if !strings.Contains(got.Message, lasting.Error()) {
					t.Errorf("it says %q", got.Message)
				}
				defs.set(nil)
				b.counted.fails(verb, nil)
				b.expect(b.wait(b.submit("s", "say: next").ID), lane.Completed, "next")
			})
		})
	}
}

// The database's absence is charged to no submission, however long it takes.
func TestOutageIsNotCharged(t *testing.T) {
	for _, verb := range []string{"Entries", "Commit"} {
		t.Run(verb, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, agent.Shell())
				b.expect(b.wait(b.submit("s", "say: before").ID), lane.Completed, "before") // the next one reads it
				b.die()
				b.start(agent.Shell())
				b.counted.fails(verb, errAbsent)
				b.counted.fails("Own", errAbsent)
				sub := b.submit("s", "say: hi")
				time.Sleep(30 * time.Minute)
				got, err := b.store.GetSubmission(t.Context(), "default", sub.ID)
				if err != nil || got.Stalls != 0 || got.Status == submission.SettledStatus {
					t.Errorf("%+v, %v", got, err)
				}
				b.counted.fails(verb, nil)
				b.counted.fails("Own", nil)
				b.expect(b.wait(sub.ID), lane.Completed, "hi")
			})
		})
	}
}

// An executor that counts as connected, and that no replica reaches, does not keep its call for ever.
func TestUnreachableExecutorIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.executor.cut = true
		began := time.Now()
		got := b.wait(b.submit("s", "echo one").ID)
		if got.Outcome != lane.Interrupted || got.Reason != "STALLED" ||
			!strings.Contains(got.Message, `executor "x1" cannot be reached`) {
			t.Errorf("settled %s %s: %s", got.Outcome, got.Reason, got.Message)
		}
		if took := time.Since(began); took < time.Minute || took > 10*time.Minute {
			t.Errorf("it took %s", took)
		}
	})
}

// permanent are errors that do not pass. The one says that it does, while all else in the database works.
var permanent = []error{errAbsent, errors.New("a value cannot be decoded")}

// Calls whose rows, or executors, cannot be read, while all else in the database works, do not keep their loop waiting
// for ever.
func TestUnreadableCallsAreGivenUp(t *testing.T) {
	for name, fail := range map[string]func(b *bench, err error){
		"rows":      func(b *bench, err error) { b.counted.fails("TurnCalls", err) },
		"executors": func(b *bench, err error) { b.executor.unseen = err },
	} {
		for _, err := range permanent {
			t.Run(name+", "+err.Error(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t, agent.Shell())
					b.executor.on = func(*call.Order) tool.Reply { return nil }
					sub := b.submit("s", "sleep 1000")
					synctest.Wait()
					fail(b, err)
					began := time.Now()
					got := b.wait(sub.ID)
					took := time.Since(began)
					if got.Outcome != lane.Interrupted || got.Reason != "STALLED" || took > 15*time.Minute {
						t.Errorf("settled %s %s after %s: %s", got.Outcome, got.Reason, took, got.Message)
					}
				})
			})
		}
	}
}

// Whether somebody has moved the workspace of a loop that waits is not read for ever if that fails while all else in
// the database works: the lane is claimed anew, with where the workspace is.
func TestUnreadableWorkspaceIsGivenUp(t *testing.T) {
	for _, err := range permanent {
		t.Run(err.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, agent.Shell())
				var order *call.Order
				b.executor.on = func(o *call.Order) tool.Reply { order = o; return nil }
				sub := b.submit("s", "sleep 1000")
				synctest.Wait()
				b.counted.fails("GetSession", err)
				if err := b.store.Post(t.Context(), sub.SessionID); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Minute)
				if n := b.counted.lookedUp.Swap(0); n == 0 {
					t.Error("it was not looked for")
				}
				time.Sleep(5 * time.Minute)
				if n := b.counted.lookedUp.Load(); n != 0 {
					t.Errorf("it was looked for %d times more", n)
				}
				b.say(order.Call, "x1", call.Ended{Reply: tool.ExecReply{
					Stdout: tool.Captured{Head: []byte("slept\n")}, Confirmed: true,
				}})
				b.expect(b.wait(sub.ID), lane.Completed, "slept")
			})
		})
	}
}
