package loop

import (
	"errors"
	"slices"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
)

// model is the one that the loop asks: the first that its definition names, until it was left for another one. A loop
// never goes back: what has failed a moment ago, after all retries, would cost the same retries again. The next
// submission of the session is another loop, and begins with the first.
func (l *loop) model() model.Ref {
	if ref, err := model.ParseRef(l.row.Model); err == nil && slices.Contains(l.as.def.Fallbacks, ref) {
		return ref
	}
	return l.as.def.Model
}

// fallback is the model that is asked in the place of m, after m's call has failed in a way that another model's may
// not. One that cannot be had, or whose window is known to be too small as well, is passed over.
func (l *loop) fallback(m model.Model, failure error) (to model.Ref, ok bool) {
	var e *model.Error
	if !errors.As(failure, &e) || !elsewhere(e.Kind) {
		return model.Ref{}, false
	}
	all := l.as.def.Models()
	for _, ref := range all[slices.Index(all, l.model())+1:] {
		other, err := l.tree.deps.Models.Model(ref)
		if err != nil {
			l.Log().Warn("a model cannot be fallen back on", "model", ref.String(), "error", err)
			continue
		}
		if e.Kind == model.KindContextOverflow && other.Window() != 0 && other.Window() <= m.Window() {
			continue
		}
		return ref, true
	}
	return model.Ref{}, false
}

// elsewhere reports whether a call that has failed so may succeed with another model: the provider is overloaded, away
// or out of credit, or the conversation does not fit. What the provider says of the request itself, of a key or of the
// answer's content is told as it is.
func elsewhere(k model.Kind) bool {
	switch k {
	case model.KindOverloaded, model.KindRateLimited, model.KindQuota, model.KindServer, model.KindNetwork,
		model.KindCut, model.KindStalled, model.KindContextOverflow:
		return true
	}
	return false
}

// switchTo goes on with another model, in one commit with the events that say so and the record of the failed call. An
// owner that comes after it asks the other model at once; one that comes because it was not written asks the first
// again.
func (l *loop) switchTo(to model.Ref, failure error, t *lane.Turn) error {
	s := event.Switch{From: l.model().String(), To: to.String(), Reason: "MODEL_FAILED", Message: failure.Error()}
	if e, ok := errs.Public(failure); ok {
		s.Reason = e.Reason()
	}
	l.Log().Warn("another model goes on", "turn", l.row.Turn, "from", s.From, "to", s.To, "reason", s.Message)
	l.DropText()
	text := s.To + " goes on in the place of " + s.From
	l.Push(l.Event(event.Event{Type: event.Restarted, Reason: "model_switched", Text: text}))
	l.Push(l.Event(event.Event{Type: event.ModelSwitched, Switch: &s}))
	spent := l.row.Usage
	if err := l.Commit(lane.Step{Spent: &spent, Model: s.To, Turn: t}, lane.With{}); err != nil {
		return err
	}
	l.compaction.learned, l.compaction.refused = 0, 0 // of the other model's window
	if l.as.def.Compacts().Model == nil {             // else the summariser is the same
		l.compaction.failures, l.compaction.again, l.compaction.halved = 0, 0, 0
	}
	return nil
}
