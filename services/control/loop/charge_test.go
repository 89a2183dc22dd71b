package loop_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// What cannot be read or written, for a reason that does not pass, is given up after a few attempts. The session goes
// on with what was submitted next.
func TestLastingErrorIsGivenUp(t *testing.T) {
	lasting := errors.New("a value cannot be decoded")
	for _, verb := range []string{"Entries", "Unreadable", "Definition", "Commit"} {
		t.Run(verb, func(t *testing.T) {
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
				if verb == "Commit" { // settling is a commit too
					time.Sleep(time.Hour)
					b.counted.fails(verb, nil)
				}
				began := time.Now()
				got, err := b.service.Wait(t.Context(), "default", sub.ID, time.Hour)
				if err != nil || got.Outcome != lane.Interrupted || got.Reason != "STALLED" {
					t.Fatalf("settled as %+v, %v", got, err)
				}
				if took := time.Since(began); took > 10*time.Minute {
					t.Errorf("it took %s", took)
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
				sub := b.submit("s", "say: hi")
				time.Sleep(30 * time.Minute)
				got, err := b.store.GetSubmission(t.Context(), "default", sub.ID)
				if err != nil || got.Stalls != 0 || got.Status == submission.SettledStatus {
					t.Errorf("%+v, %v", got, err)
				}
				b.counted.fails(verb, nil)
				b.expect(b.wait(sub.ID), lane.Completed, "hi")
			})
		})
	}
}
