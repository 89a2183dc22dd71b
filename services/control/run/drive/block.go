package drive

import (
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/workflow"
	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// block is a list with steps for its failure, and steps for its end: a group, or the run.
type block struct {
	m       *Machine
	outer   *list
	prefix  string
	parent  int
	main    []*workflow.Step
	catch   []*workflow.Step
	finally []*workflow.Step
	done    func(*block)
	// cancelled says that the main list begins as one that was to end before.
	cancelled bool

	list   *list // the main one
	now    *list
	failed *step.Failure
	cut    bool // the main list was cancelled
	hard   bool
	ending bool // the finally steps have begun
}

func (b *block) begin() {
	b.list = b.outer.within(b.prefix, b.parent, b.main, nil)
	b.now, b.list.cancelled = b.list, b.cancelled
	b.list.begin(func(l *list) {
		b.failed, b.cut = l.failed, l.cancelled && !b.begun("catch", b.catch)
		if b.failed == nil || b.cut || len(b.catch) == 0 {
			b.last()
			return
		}
		b.run("catch", b.catch, expr.Values{"error": seen(b.failed, b.failed.Step)}, b.last)
	})
}

// begun reports whether another list of the block has records, from before it was cancelled.
func (b *block) begun(name string, steps []*workflow.Step) bool {
	return len(steps) > 0 && b.m.records[b.prefix+name+"."+steps[0].Key] != nil
}

// last carries out the finally steps.
func (b *block) last() {
	if len(b.finally) == 0 || b.hard {
		b.end()
		return
	}
	b.ending = true
	b.run("finally", b.finally, nil, b.end)
}

// run carries out another list of the block, which sees what the main one has come to. Its failure is that of the block
// if that has none.
func (b *block) run(name string, steps []*workflow.Step, vars expr.Values, then func()) {
	b.now = b.list.within(b.prefix+name+".", b.parent, steps, vars)
	b.now.cancelled = b.cancelled && !b.ending
	b.now.begin(func(l *list) {
		if b.failed == nil {
			b.failed = l.failed
		}
		then()
	})
}

func (b *block) end() {
	b.now = nil
	b.done(b)
}

// cancel ends the block early. hard ends its finally steps, too, which are what is left otherwise.
func (b *block) cancel(hard bool) {
	if b.now == nil || b.ending && !hard {
		return
	}
	b.hard = b.hard || hard
	b.now.cancel(hard)
}

// group carries out a block of steps.
type group struct {
	node *node
	do   *workflow.Group
	b    *block
}

func (g *group) begin() {
	g.b = &block{
		m: g.node.list.m, outer: g.node.list, prefix: g.node.prefix(), parent: g.node.rec.Ord,
		main: g.do.Steps, catch: g.do.Catch, finally: g.do.Finally, cancelled: g.node.cut(),
		done: func(b *block) { g.node.composed(b.list.own(), b.failed, b.cut) },
	}
	g.b.begin()
}

func (g *group) cancel(hard bool) { g.b.cancel(hard) }

func (g *group) finished() []*node { return g.b.list.completed }
