package gateway

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// heartbeatEvery keeps idle streams open through proxies.
const heartbeatEvery = 15 * time.Second

// stream answers with the submission's events as they are committed, until it has settled.
func (h *handler) stream(w http.ResponseWriter, r *http.Request, f *submission.Following, instance string) {
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Connection", "keep-alive")
	w.WriteHeader(http.StatusOK)
	if out.Flush() != nil {
		return
	}
	t := newTranslator(f.Submission, instance)
	batches, done := make(chan batch), make(chan struct{})
	defer func() { <-done }()
	ctx := r.Context()
	go func() {
		defer close(done)
		defer close(batches)
		for events, err := range f.Events(ctx) {
			select {
			case batches <- batch{events, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	beat := time.NewTicker(heartbeatEvery)
	defer beat.Stop()
	for {
		var frames []byte
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			frames = []byte(": heartbeat\n\n")
		case b, open := <-batches:
			if !open {
				h.endStream(w, f, instance)
				return
			}
			frames = t.frames(b)
			if b.err != nil {
				h.Log.Error("streaming a submission failed", "submission_id", f.Submission.ID, "error", b.err)
				frames = errorFrame(instance, internal())
			}
		}
		if _, err := w.Write(frames); err != nil {
			return
		}
		if out.Flush() != nil {
			return
		}
	}
}

// batch is events of a submission, or the failure to read them.
type batch struct {
	events []event.Event
	err    error
}

// endStream adds the error frame of a submission that did not complete.
func (h *handler) endStream(w http.ResponseWriter, f *submission.Following, instance string) {
	if s := f.Submission; s.Status == submission.SettledStatus && s.Outcome != submission.Completed {
		_, _ = w.Write(errorFrame(instance, notCompleted(s)))
	}
}

func errorFrame(instance string, p *problem) []byte {
	body, err := encode(map[string]any{"type": "error", "instanceId": instance, "error": p})
	if err != nil {
		return nil // strings always encode
	}
	return frame("error", 0, body)
}

func frame(kind string, id int, body []byte) []byte {
	return fmt.Appendf(nil, "event: %s\nid: %s\ndata: %s\n\n", kind, strconv.Itoa(id), body)
}
