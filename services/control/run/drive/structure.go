package drive

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/workflow"
	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// part is a round, or a branch.
type part struct {
	node *node
	rec  step.Record
	list *list // nil of one whose record has ended
	made bool  // it has a record

	waits bool   // it has ended, and the time before which the next one does not begin has not come
	came  bool   // that time has
	then  func() // what to do then
}

// newPart is one part of a step; it has a record from before, or gets one.
func newPart(n *node, path, kind string, every time.Duration) *part {
	m := n.list.m
	p := &part{node: n}
	if r := m.records[path]; r != nil {
		p.rec, p.made = *r, true
	} else {
		p.rec = m.make(path, kind, n.rec.Ord)
		if every > 0 {
			p.rec.Wait = every
		}
	}
	return p
}

// begin carries the part out; cut says that it was to end before.
func (p *part) begin(steps []*workflow.Step, vars expr.Values, cut bool, tells func()) {
	m := p.node.list.m
	if !p.made {
		m.record(p.rec)
	}
	p.list = p.node.list.within(p.rec.Path+".", p.rec.Ord, steps, vars)
	p.list.cancelled = cut
	p.list.begin(func(*list) { tells() })
}

// end records how the part has ended.
func (p *part) end(out map[string]any, failed *step.Failure) {
	m := p.node.list.m
	p.rec.Failed = failed
	switch {
	case failed == nil && p.list.failed != nil:
		p.rec.State, p.rec.Failed = step.Failed, p.list.failed
	case failed != nil:
		p.rec.State = step.Failed
	case p.list.cancelled:
		p.rec.State = step.Cancelled
	default:
		if p.rec.Output, p.rec.Failed = Encode(out); p.rec.Failed != nil {
			p.rec.State = step.Failed
			break
		}
		p.rec.State = step.Completed
	}
	p.rec.Folds = p.rec.State != step.Completed || !undoes(p.node.def)
	p.rec.Wait, p.rec.Pausing = step.Never, false
	delete(m.rounds, p.rec.Path)
	m.record(p.rec)
}

// due is the time before which the next round does not begin.
func (p *part) due() {
	if p.came = true; p.waits {
		p.waits = false
		p.then()
	}
}

// parts are those of a foreach, or of a parallel, with a field for each thing that the two have in common.
type parts struct {
	node   *node
	atOnce int
	total  int
	all    []*part
	now    int // at work
	failed int
	first  *step.Failure
	size   int
	cut    bool
	hard   bool
	busy   bool
	ended  bool

	path func(i int) string
	kind string
	run  func(i int, p *part, tells func())
	out  func(p *part) (map[string]any, *step.Failure) // of a part that has ended well
	done func()
}

// goOn begins parts while there is room. One that has a record has begun before, whatever has become of others.
func (s *parts) goOn() {
	if s.busy || s.ended {
		return
	}
	s.busy = true
	s.recorded()
	for len(s.all) < s.total && s.now < s.atOnce && !s.stops() {
		p := newPart(s.node, s.path(len(s.all)), s.kind, 0)
		s.all = append(s.all, p)
		s.carryOut(len(s.all) - 1)
	}
	s.busy = false
	if s.stops() {
		s.stop()
	}
	if s.now == 0 && (len(s.all) == s.total || s.stops()) && !s.ended {
		s.ended = true
		s.done()
	}
}

// recorded goes on with the parts that have records: first it is known what has become of those that have ended.
func (s *parts) recorded() {
	first := len(s.all)
	for len(s.all) < s.total && s.node.list.m.records[s.path(len(s.all))] != nil {
		p := newPart(s.node, s.path(len(s.all)), s.kind, 0)
		if s.all = append(s.all, p); p.rec.State.Ended() {
			s.count(p)
		}
	}
	for i := first; i < len(s.all); i++ {
		if !s.all[i].rec.State.Ended() {
			s.carryOut(i)
		}
	}
}

// carryOut carries out a part.
func (s *parts) carryOut(i int) {
	p := s.all[i]
	s.now++
	s.run(i, p, func() {
		s.now--
		var out map[string]any
		var failed *step.Failure
		if p.list.failed == nil && !p.list.cancelled {
			out, failed = s.out(p)
		}
		p.end(out, failed)
		s.count(p)
		s.goOn()
	})
}

// count takes the end of a part in.
func (s *parts) count(p *part) {
	switch p.rec.State {
	case step.Completed:
		if s.size += len(p.rec.Output); s.size > step.MaxOutput && s.first == nil {
			s.first = &step.Failure{Reason: ReasonTooLarge, Message: fmt.Sprintf(
				"the outputs of %d parts are larger than 16 MiB", len(s.all))}
			s.cut = true
		}
	case step.Failed:
		if s.failed++; s.first == nil {
			s.first = at(p.rec.Failed, p.rec.Path)
		}
	case step.Cancelled:
		s.cut = true
	case step.Started, step.Skipped, step.Unknown:
	}
}

// stops reports whether no more parts begin: one has failed and that is not let pass, or the step is to end.
func (s *parts) stops() bool { return s.cut || s.first != nil && !s.node.def.Continue }

// stop ends the parts that are at work.
func (s *parts) stop() {
	for _, p := range s.all {
		if p.list != nil && !p.list.ended && (!p.list.cancelled || s.hard && !p.list.hard) {
			p.list.cancel(s.hard)
		}
	}
}

func (s *parts) cancel(hard bool) {
	s.cut, s.hard = true, s.hard || hard
	s.goOn()
}

func (s *parts) finished() (all []*node) {
	for i, p := range s.all {
		if p.rec.State != step.Completed {
			continue // it has undone what it had completed
		}
		if p.list == nil {
			s.run(i, p, func() {}) // it has ended: nothing is recorded or done
		}
		all = append(all, p.list.completed...)
	}
	return all
}

// foreach carries out steps for each element of a list.
type foreach struct {
	parts
	do       *workflow.Foreach
	elements []any
}

func (f *foreach) begin() {
	v, err := f.do.List.Eval(f.node.list.m.ctx, f.node.list.values())
	if err != nil {
		f.node.composed(nil, evaluation(err), false)
		return
	}
	f.elements, _ = v.([]any)
	f.total, f.kind = len(f.elements), KindRound
	f.path = func(i int) string { return fmt.Sprintf("%s[%d]", f.node.base(), i) }
	f.run = func(i int, p *part, tells func()) {
		p.begin(f.do.Do, expr.Values{f.do.As: f.elements[i], "index": int64(i)}, f.stops(), tells)
	}
	f.out = func(p *part) (map[string]any, *step.Failure) {
		if f.do.Output == nil {
			return map[string]any{"value": p.list.own()}, nil
		}
		v, err := f.do.Output.Eval(f.node.list.m.ctx, p.list.values())
		if err != nil {
			return nil, evaluation(err)
		}
		return map[string]any{"value": v}, nil
	}
	f.done, f.cut = f.finish, f.node.cut()
	f.goOn()
}

func (f *foreach) finish() {
	items := []json.RawMessage{}
	for _, p := range f.all {
		if p.rec.State == step.Completed {
			items = append(items, valueOf(p.rec.Output))
		}
	}
	failed := f.first
	if failed != nil && failed.Reason != ReasonTooLarge && f.node.def.Continue {
		failed = nil
	}
	f.node.composed(map[string]any{"items": items, "count": f.total, "failed": f.failed}, failed, f.cut)
}

// valueOf is the value that the output of a round holds.
func valueOf(out json.RawMessage) json.RawMessage {
	var v struct {
		Value json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(out, &v); err != nil {
		return json.RawMessage("null") // it was encoded before it was recorded
	}
	return v.Value
}

// parallel carries out lists of steps at the same time.
type parallel struct {
	parts
	do *workflow.Parallel
}

func (p *parallel) begin() {
	p.kind = KindBranch
	p.path = func(i int) string { return p.node.prefix() + p.do.Branches[i].Name }
	p.run = func(i int, one *part, tells func()) { one.begin(p.do.Branches[i].Steps, nil, p.stops(), tells) }
	p.out = func(one *part) (map[string]any, *step.Failure) { return one.list.own(), nil }
	p.done = func() {
		out := map[string]any{}
		for i, one := range p.all {
			if one.rec.State == step.Completed {
				out[p.do.Branches[i].Name] = one.rec.Output
			}
		}
		p.node.composed(out, p.first, p.cut)
	}
	p.cut = p.node.cut()
	p.goOn()
}
