package drive

import (
	"maps"
	"slices"

	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/workflow"
	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// list is a list of steps at work, with a field for each thing that its steps share.
type list struct {
	m      *Machine
	prefix string // of the paths of its steps
	parent int    // the Ord of what it is part of
	steps  []*workflow.Step
	vars   expr.Values    // beside steps
	outs   map[string]any // what is seen of steps, by id: those around it, and its own
	tells  func(*list)    // once it has ended

	at        int
	completed []*node // in order
	now       *node   // at work
	undoing   *undoing
	failed    *step.Failure
	known     bool // the failure was recorded by an owner before
	cancelled bool
	hard      bool // even what it undoes is cancelled
	ended     bool
	busy      bool // advance is at work further up
}

// within is a list of steps within this one.
func (l *list) within(prefix string, parent int, steps []*workflow.Step, vars expr.Values) *list {
	inner := &list{
		m: l.m, prefix: prefix, parent: parent, steps: steps, vars: l.vars, outs: maps.Clone(l.outs),
	}
	if vars != nil {
		inner.vars = maps.Clone(l.vars)
		maps.Copy(inner.vars, vars)
	}
	return inner
}

// values are the variables of expressions in the list, as they are now.
func (l *list) values() expr.Values {
	v := maps.Clone(l.vars)
	v[expr.Steps] = l.outs
	return v
}

// own is what is seen of the list's own steps.
func (l *list) own() map[string]any {
	out := map[string]any{}
	for _, s := range l.steps {
		if v, ok := l.outs[s.ID]; ok && s.ID != "" {
			out[s.ID] = v
		}
	}
	return out
}

// begin carries out the list, or goes on with it as far as records tell.
func (l *list) begin(tells func(*list)) {
	l.tells = tells
	l.advance()
}

// advance goes from step to step as long as nothing has to be waited for.
func (l *list) advance() {
	if l.busy {
		return
	}
	l.busy = true
	defer func() { l.busy = false }()
	for !l.ended && l.now == nil && l.undoing == nil {
		if l.at == len(l.steps) {
			l.cancelled = false // nothing was left to cancel
			l.finish()
			return
		}
		s := l.steps[l.at]
		path := l.prefix + s.Key
		rec := l.m.records[path]
		if rec == nil && l.cancelled {
			l.undo()
			return
		}
		l.at++
		n := &node{list: l, def: s, path: path}
		l.now = n
		if rec != nil {
			n.restore(*rec)
		} else {
			n.begin()
		}
	}
}

// took takes the end of a step in.
func (l *list) took(n *node) {
	l.now = nil
	if n.def.ID != "" {
		l.outs[n.def.ID] = view(&n.rec)
	}
	switch n.rec.State {
	case step.Completed:
		l.completed = append(l.completed, n)
	case step.Failed, step.Unknown:
		if !n.def.Continue && !n.passes() && l.failed == nil {
			l.failed, l.known = at(n.rec.Failed, n.path), n.known
		}
	case step.Cancelled:
		l.cancelled = true
	case step.Skipped, step.Started:
	}
	if l.failed != nil || n.rec.State == step.Cancelled {
		l.undo()
		return
	}
	l.advance()
}

// cancel ends the list early. hard ends what it undoes, too.
func (l *list) cancel(hard bool) {
	if l.ended {
		return
	}
	l.cancelled, l.hard = true, l.hard || hard
	switch {
	case l.now != nil:
		l.now.cancel(hard)
	case l.undoing != nil:
		if hard {
			l.undoing.cancel()
		}
	default:
		l.advance()
	}
}

// undo undoes what was completed, the last first, and ends the list.
func (l *list) undo() {
	if l.undoing != nil || l.ended {
		return
	}
	l.undoing = &undoing{list: l, nodes: slices.Clone(l.completed)}
	l.undoing.next()
}

func (l *list) finish() {
	l.ended = true
	l.tells(l)
}

// undoing is what a list does with what it has completed after it has failed. A step that fails to undo does not keep
// the others from being undone.
type undoing struct {
	list  *list
	nodes []*node // that are to be undone yet, in the order of their completion
	inner *list
	hard  bool
}

func (u *undoing) next() {
	for !u.hard && len(u.nodes) > 0 {
		n := u.nodes[len(u.nodes)-1]
		u.nodes = u.nodes[:len(u.nodes)-1]
		if len(n.def.Undo) == 0 {
			u.nodes = append(u.nodes, n.finished()...)
			continue
		}
		u.inner = n.list.within(n.prefix()+"undo.", n.rec.Ord, n.def.Undo, nil)
		u.inner.begin(func(inner *list) {
			if f := inner.failed; f != nil && !inner.known {
				u.list.m.effects = append(u.list.m.effects, Say{
					Path: n.path, Ord: n.rec.Ord, Level: workflow.Error, Text: "undoing the step failed: " + f.Message,
				})
			}
			u.inner = nil
			u.next()
		})
		return
	}
	u.list.finish()
}

func (u *undoing) cancel() {
	u.hard = true
	if u.inner != nil {
		u.inner.cancel(true)
	}
}
