package loop_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
)

// Who has seen the beginning of an answer is told that it is void before another model goes on. Nothing of it stays in
// the conversation.
func TestWhatWasStreamedBeforeASwitchIsVoid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := modeltest.Reply{modeltest.Delta("half an"), fails(model.KindOverloaded)[0]}
		broken[1].Wait = time.Minute // what came is in the log by then
		other := modeltest.New(modeltest.Say("done"), modeltest.Say("again"))
		b := falling(t, map[model.Ref]model.Model{
			first: modeltest.New(broken, fails(model.KindOverloaded)), second: other,
		}, first, second)
		sub := b.wait(b.submit("s", "go").ID)
		b.expect(sub, lane.Completed, "done")
		var told []string
		for _, e := range b.logged(sub.SessionID) {
			switch e.Type {
			case event.Text:
				told = append(told, "text "+e.Text)
			case event.Restarted:
				told = append(told, "restarted "+e.Reason)
			case event.ModelSwitched:
				told = append(told, "switched to "+e.Switch.To)
			}
		}
		// Nobody watches, so the answer itself is told by its entry.
		want := []string{"text half an", "restarted model_switched", "switched to second/m"}
		if !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
		b.expect(b.wait(b.submit("s", "go on").ID), lane.Completed, "again")
		for _, m := range other.Requests()[1].Messages {
			if m.Text() == "half an" {
				t.Errorf("the next request has what was void: %+v", m)
			}
		}
	})
}

// A summary that one model could not write is asked of the next model at once: its window may be smaller.
func TestASwitchAsksTheOtherModelForASummary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := agent.Shell()
		c := small
		def.Model, def.Fallbacks, def.Compaction = first, []model.Ref{second}, &c
		b := newBench(t, def)
		b.die()
		other := modeltest.New(modeltest.Say("## State\nprinted"), modeltest.Say("done"))
		b.models = map[model.Ref]model.Model{
			first: modeltest.New(askLong("c1", 1_000), askLong("c2", 12_000), fails(model.KindOverloaded),
				fails(model.KindOverloaded)),
			second: other,
		}
		b.start(def)
		sub := b.wait(b.submit("s", "print much").ID)
		b.expect(sub, lane.Completed, "done")
		if got := asked(other); !slices.Equal(got, []bool{true, false}) {
			t.Errorf("the other model is asked for summaries: %v, told %+v", got, b.compactions(sub.SessionID))
		}
	})
}
