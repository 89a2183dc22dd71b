package loop

import (
	"context"
	"slices"
	"sync"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/turn"
)

// fairShare is how many heads of one lane a run takes before others get its slot.
const fairShare = 16

// tree is the loops of a lane at work, and what they share.
type tree struct {
	*Runner
	*turn.Lane
	fresh bool          // admission has started the head in the same transaction; nobody was told yet
	taken int           // heads that this run has taken
	next  bool          // the lane goes on with another head
	kept  *conversation // of the root, for the next head

	limits agent.Limits // of all guests together; zero is none

	mu      sync.Mutex  // guards what loops have spent, and what follows
	spent   model.Usage // by all loops together
	answers int         // of guests' models
	talks   talks       // of guests
}

func newTree(r *Runner, o *lane.Owner, fresh bool) *tree {
	return &tree{Runner: r, Lane: turn.NewLane(r.deps.calls(), o), fresh: fresh, taken: 1}
}

// Drive implements lane.Run.
func (t *tree) Drive(ctx context.Context) error {
	for {
		ended, err := t.Run(ctx, t.recover)
		if err != nil || !ended || !t.next {
			return err
		}
		t.fresh, t.next = false, false
		t.Take()
		t.taken++
	}
}

// recover makes the open loops, parents before their children, each as far as its rows tell.
func (t *tree) recover(ctx context.Context) ([]turn.Job, error) {
	return t.reopen(ctx, t.Head().Loops, nil)
}

// reopen makes loops of the rows of open ones. find finds who has the calls of guests; nil where there are none.
func (t *tree) reopen(ctx context.Context, rows []lane.Loop, find Finder) ([]turn.Job, error) {
	var all []*loop
	var jobs []turn.Job
	for _, row := range rows {
		var parent *loop
		if i := slices.IndexFunc(all, func(l *loop) bool {
			c := l.Call(row.ParentCall)
			return c != nil && !c.State.Terminal()
		}); i >= 0 {
			parent = all[i]
		}
		var of *guest
		if parent == nil && find != nil {
			of = find.find(row.ParentCall)
			t.talks.begin(row.Key.Name)
		}
		l := newLoop(t, parent, of, row)
		if err := contain.Do(func() error { return l.recover(ctx) }); err != nil {
			return nil, l.Blame(err)
		}
		t.Add(l.Strand)
		all, jobs = append(all, l), append(jobs, turn.Job{Strand: l.Strand, Work: l.work})
	}
	return jobs, nil
}

// rest notes how the root has ended.
func (t *tree) rest(root *loop, next bool) {
	t.next, t.kept = next, nil
	if next {
		t.kept = root.conversation
	} else {
		t.cache.put(root.row.SessionID, root.conversation)
	}
}

// spend counts what a loop has cost for itself and everybody whom it works for.
func (t *tree) spend(l *loop, u model.Usage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spent = t.spent.Add(u)
	for ; l != nil; l = l.parent {
		l.spent = l.spent.Add(u)
	}
}
