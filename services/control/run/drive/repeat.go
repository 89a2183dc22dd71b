package drive

import (
	"encoding/json"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/workflow"
	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// repeat carries out steps until something holds.
type repeat struct {
	node *node
	do   *workflow.Repeat
	now  *part
	all  []*part
	cut  bool
	hard bool
}

func (r *repeat) begin() {
	r.cut = r.node.cut()
	r.round()
}

// round carries out the next round.
func (r *repeat) round() {
	m := r.node.list.m
	for {
		i := len(r.all)
		path := fmt.Sprintf("%s[%d]", r.node.base(), i)
		if r.cut && m.records[path] == nil {
			r.node.composed(nil, nil, true)
			return
		}
		every, err := r.do.Every.Eval(m.ctx, r.node.list.values())
		if err != nil {
			r.node.composed(nil, evaluation(err), false)
			return
		}
		p := newPart(r.node, path, KindRound, every)
		r.all = append(r.all, p)
		if !p.rec.State.Ended() {
			r.now = p
			if p.came = every == 0; !p.came {
				m.rounds[path] = p
			}
			p.begin(r.do.Do, expr.Values{"index": int64(i)}, r.cut, func() { r.tells(p) })
			return
		}
		if r.ends(p) {
			return
		}
	}
}

// tells takes in that the steps of a round have ended.
func (r *repeat) tells(p *part) {
	if p.list.failed != nil || p.list.cancelled {
		r.close(p, nil, nil)
		return
	}
	holds, err := r.do.Until.Holds(p.node.list.m.ctx, p.list.values())
	if err != nil {
		r.close(p, nil, evaluation(err))
		return
	}
	out := map[string]any{"value": p.list.own(), "done": holds}
	if !holds && !p.came && len(r.all) < r.do.Max && !r.cut {
		p.waits, p.then = true, func() { r.close(p, out, nil) }
		return
	}
	r.close(p, out, nil)
}

// close ends a round, and goes on.
func (r *repeat) close(p *part, out map[string]any, failed *step.Failure) {
	r.now = nil
	p.end(out, failed)
	if !r.ends(p) {
		r.round()
	}
}

// ends takes the end of a round in; true when it was the last one.
func (r *repeat) ends(p *part) bool {
	switch {
	case p.rec.State == step.Failed:
		r.node.composed(nil, at(p.rec.Failed, p.rec.Path), r.cut)
		return true
	case p.rec.State != step.Completed:
		r.cut = true
		return false
	}
	var last struct {
		Value json.RawMessage `json:"value"`
		Done  bool            `json:"done"`
	}
	if err := json.Unmarshal(p.rec.Output, &last); err != nil {
		r.node.composed(nil, evaluation(err), false)
		return true
	}
	if !last.Done && len(r.all) < r.do.Max {
		return false
	}
	r.node.composed(map[string]any{"rounds": len(r.all), "done": last.Done, "last": last.Value}, nil, false)
	return true
}

func (r *repeat) cancel(hard bool) {
	r.cut, r.hard = true, r.hard || hard
	p := r.now
	switch {
	case p == nil:
	case p.waits:
		p.due()
	default:
		p.list.cancel(hard)
	}
}

func (r *repeat) finished() (all []*node) {
	for i, p := range r.all {
		if p.rec.State != step.Completed {
			continue
		}
		if p.list == nil {
			p.begin(r.do.Do, expr.Values{"index": int64(i)}, false, func() {})
		}
		all = append(all, p.list.completed...)
	}
	return all
}
