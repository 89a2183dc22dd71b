package gateway

import (
	"context"
	"net/http"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
	"github.com/pawl-dev/pawl/services/control/gateway/sse"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// stream answers with the submission's events as they are committed, until it has settled.
func (h *Handler) stream(
	ctx context.Context, w http.ResponseWriter, to target, f *submission.Following, def agent.Definition,
) {
	sse.SetHeaders(w.Header(), "no-cache") // exactly this value is the original's
	w.WriteHeader(http.StatusOK)
	out := sse.New(w)
	if out.Write(nil) != nil {
		return
	}
	defer out.Beat()()
	var frames []byte
	err := h.follow(ctx, to, f, def, func(events []flue.Event) error {
		frames = frames[:0]
		for _, e := range events {
			frames = flue.AppendFrame(frames, e)
		}
		return out.Write(frames)
	})
	switch {
	case err == nil && f.Submission.Status != submission.SettledStatus:
		cut()
	case err != nil:
		p, ok := problemOf(err)
		if !ok {
			h.Log.ErrorContext(ctx, "streaming a submission failed", "submission_id", f.Submission.ID, "error", err)
		}
		_ = out.Write(flue.AppendFrame(nil, p.Frame(to.instance)))
	}
}

// cut ends an answer so that nobody takes it for whole. Who has left does not see it, but who has closed one half of
// the connection has not left.
func cut() { panic(http.ErrAbortHandler) }

// apiOf is the protocol that a model is asked over; "" for a model that cannot be asked.
func (h *Handler) apiOf(ref model.Ref) model.API {
	m, err := h.Models.Model(ref)
	if err != nil {
		return ""
	}
	return m.API()
}

// show shows what the model is asked with once an event has come that begins a batch. It returns how many of the batch
// can be told before something else is to be shown.
func (h *Handler) show(
	ctx context.Context, t *flue.Translator, s submission.Submission, batch []event.Event,
) (n int, err error) {
	before := int64(0)
	switch first := &batch[0]; {
	case first.Type == event.Started:
		before = first.EntrySeq
	case flue.Outdates(first):
		before = first.EntrySeq + 1
	}
	if before > 0 {
		asked, err := h.Inputs.Input(ctx, s, before)
		if err != nil {
			return 0, err
		}
		t.Show(asked)
	}
	for n = 1; n < len(batch) && !flue.Outdates(&batch[n]); n++ {
		continue
	}
	return n, nil
}

// follow hands on the submission's events and returns why there are no more: nil when it completed or send has failed,
// because the reader has left.
func (h *Handler) follow(
	ctx context.Context, to target, f *submission.Following, def agent.Definition, send func([]flue.Event) error,
) error {
	t := flue.NewTranslator(f.Submission, def.Model, h.apiOf)
	for batch, err := range f.Events(ctx) {
		if err != nil {
			return err
		}
		for len(batch) > 0 {
			n := len(batch)
			if to.verbose && h.Inputs != nil {
				if n, err = h.show(ctx, t, f.Submission, batch); err != nil {
					return err
				}
			}
			if events := t.Translate(batch[:n]); len(events) > 0 && send(events) != nil {
				return nil
			}
			batch = batch[n:]
		}
	}
	switch s := f.Submission; {
	case s.Status != submission.SettledStatus:
		if cause := context.Cause(ctx); cause != ctx.Err() { //nolint:errorlint // a cause of ours, not that the reader left
			return cause
		}
	case s.Outcome != lane.Completed:
		return flue.NotCompleted(s)
	}
	return nil
}
