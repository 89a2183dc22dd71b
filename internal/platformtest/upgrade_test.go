package platformtest_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/approval"
)

// Every replica is replaced while a call waits for an approval, by replicas with other rules. Whenever and wherever
// that is decided, the call is made once, by the rules that it was asked by; nobody is charged. The next prompt keeps
// to the new rules.
func TestRollingUpgradeWithAParkedApproval(t *testing.T) {
	for decided, at := range map[string]int{
		"as the old replica ends": 0, "between two new ones": 1, "when all are new": 2,
	} {
		t.Run(decided, func(t *testing.T) {
			within(t, func(w *world) {
				id := w.submitTo(w.a, "ruled", guarded)
				w.sleep(time.Minute)
				asked := w.opens(w.a)
				if len(asked) != 1 {
					w.Fatalf("%d approvals are open", len(asked))
				}
				newer := agents()
				for i := range newer {
					if newer[i].Name == "ruled" {
						newer[i].Approve = []approval.Rule{{Tools: []string{"bash"}, Do: approval.DoDeny}}
					}
				}
				w.c.Redefine(newer)
				p := w.a
				for i, name := range []string{"b", "c", "d"} {
					if i == at {
						if _, err := w.approve(p, asked[0]); err != nil {
							w.Fatal(err)
						}
					}
					p = w.replaced(p, name)
				}
				if got := w.wait(p, id, "guarded\nbeside"); got.GetAttempts() != 0 {
					w.Errorf("%d attempts were charged", got.GetAttempts())
				}
				w.toldOf("ruled", "approved")
				again := w.wait(p, w.submitTo(p, "ruled", leaf("guarded", 2)), "")
				if text := again.GetResult().GetText(); !strings.Contains(text, "rules of the agent deny") {
					w.Errorf("by the new rules it settled with %q", text)
				}
				w.finish(p, "ruled", "guarded", "beside")
			})
		})
	}
}

// An approval expires while the replicas are replaced.
func TestRollingUpgradeWhileAnApprovalExpires(t *testing.T) {
	within(t, func(w *world) {
		began := time.Now()
		id := w.submitTo(w.a, "timely", guarded)
		w.sleep(waiting - 10*time.Second)
		p := w.replaced(w.a, "b")
		if slices.Contains(w.effects(), "guarded") && time.Since(began) < waiting {
			w.Error("it ran before its time")
		}
		p = w.replaced(p, "c")
		w.wait(p, id, "guarded\nbeside")
		w.toldOf("timely", "expired")
		w.finish(p, "timely", "guarded", "beside")
	})
}

// replaced ends a replica as SIGTERM does, once another one serves in its place.
func (w *world) replaced(old *platformtest.Platform, name string) *platformtest.Platform {
	w.Helper()
	p := w.c.Start(name, nil)
	go old.Stop()
	w.dead(old)
	w.move(p)
	w.sleep(time.Second)
	return p
}
