package loop_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
)

// withdraws reports whether a commit ends approvals that are open.
func withdraws(c lane.Commit) bool {
	return slices.ContainsFunc(c.Steps, func(s lane.Step) bool {
		return slices.ContainsFunc(s.Noted, func(n approval.Note) bool { return n.Withdraw })
	})
}

// An approval that is decided while an abort withdraws it is told as it is on record, and its call is not made.
func TestDecisionAgainstAnAbort(t *testing.T) {
	for name, prompt := range map[string]string{
		"of the last call":  "rm x",
		"of the first call": "rm x\n& rm y",
		"of a sub-agent":    `tool task: {"prompt":"rm x"}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, ruled(askAbout()))
				sub := b.submit("s", prompt)
				all := b.open()
				b.parked(sub)
				decided := false
				b.counted.before = func(c lane.Commit) {
					if withdraws(c) && !decided {
						decided = true
						b.decide(all[0])
					}
				}
				if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
					t.Fatal(err)
				}
				got := b.wait(sub.ID)
				if !decided || got.Outcome != lane.Aborted || len(b.executor.ran) > 0 {
					t.Errorf("decided: %v, settled %s, %q ran", decided, got.Outcome, b.executor.ran)
				}
				want := map[string]int{"requested": len(all), "approved": 1}
				if len(all) > 1 {
					want["withdrawn"] = 1
				}
				b.expectTold(sub.SessionID, want)
				row, err := b.store.GetApproval(t.Context(), all[0].Tenant, all[0].ID)
				if err != nil || row.State != approval.Approved || !row.Told {
					t.Errorf("the approval: %s, told %v, %v", row.State, row.Told, err)
				}
			})
		})
	}
}

// An owner that has told of a decision and died before it sent the call leaves it to its heir, which may have to end
// the submission at once: the decision is not told again.
func TestAbortAfterADecisionThatWasTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := ruled(askAbout())
		b := newBench(t, def)
		sub := b.submit("s", "rm x\n& rm y")
		a := b.open()[0]
		b.parked(sub)
		noted := false
		b.counted.after = func(c lane.Commit) {
			noted = noted || slices.ContainsFunc(c.Steps, func(s lane.Step) bool { return len(s.Noted) > 0 })
			if noted {
				b.kill()
			}
		}
		b.decide(a)
		for range 20 {
			synctest.Wait()
			if noted {
				break
			}
		}
		b.counted.after = nil
		if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
			t.Fatal(err)
		}
		b.die()
		b.start(def)
		got := b.wait(sub.ID)
		if !noted || got.Outcome != lane.Aborted || len(b.executor.ran) > 0 {
			t.Errorf("told: %v, settled %s %s, %s ran", noted, got.Outcome, got.Message,
				strings.Join(b.executor.ran, ","))
		}
		if told := b.told(sub.SessionID); told["approved"] != 1 || told["withdrawn"] != 1 {
			t.Error(fmt.Sprint("the stream tells ", told))
		}
	})
}
