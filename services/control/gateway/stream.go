package gateway

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/submission"
)

const (
	// heartbeatEvery keeps idle streams open through proxies.
	heartbeatEvery = 15 * time.Second
	// stalled is how long a reader may take nothing before it counts as gone. It slows nobody meanwhile: events wait in
	// the log.
	stalled = 2 * time.Minute
)

// stream answers with the submission's events as they are committed, until it has settled.
func (h *handler) stream(
	ctx context.Context, w http.ResponseWriter, to target, f *submission.Following, def agent.Definition,
) {
	streamHeaders(w.Header(), "no-cache") // exactly this value is the original's
	w.WriteHeader(http.StatusOK)
	ctx, unwatch := auth.Watch(ctx, h.Auth, to.secret)
	defer unwatch()
	out := newSink(w)
	if out.write(nil) != nil {
		return
	}
	defer out.beat()()
	if err := h.follow(ctx, out, to, f, def); err != nil {
		p, ok := problemOf(err)
		if !ok {
			h.Log.ErrorContext(ctx, "streaming a submission failed", "submission_id", f.Submission.ID, "error", err)
		}
		_ = out.write(flue.AppendFrame(nil, p.Frame(to.instance)))
	}
}

// streamHeaders are those of a stream of events. The last one keeps nginx, and proxies that follow it, from holding
// events back.
func streamHeaders(head http.Header, cacheControl string) {
	head.Set("Content-Type", "text/event-stream")
	head.Set("Cache-Control", cacheControl)
	head.Set("Connection", "keep-alive")
	head.Set("X-Accel-Buffering", "no")
}

// apiOf is the protocol that a model is asked over; "" for a model that cannot be asked.
func (h *handler) apiOf(ref model.Ref) model.API {
	m, err := h.Models.Model(ref)
	if err != nil {
		return ""
	}
	return m.API()
}

// follow writes the submission's events and returns why there are no more: nil when it completed or the reader has
// left.
func (h *handler) follow(
	ctx context.Context, out *sink, to target, f *submission.Following, def agent.Definition,
) error {
	t := flue.NewTranslator(f.Submission, def.Model, h.apiOf)
	var frames []byte
	for batch, err := range f.Events(ctx) {
		if err != nil {
			return err
		}
		if to.verbose && h.Inputs != nil && batch[0].Type == event.Started {
			asked, err := h.Inputs.Input(ctx, f.Submission, batch[0].EntrySeq)
			if err != nil {
				return err
			}
			t.Show(asked)
		}
		frames = frames[:0]
		for _, e := range t.Translate(batch) {
			frames = flue.AppendFrame(frames, e)
		}
		if len(frames) > 0 && out.write(frames) != nil {
			return nil
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

// sink writes whole blocks of a stream, each at once.
type sink struct {
	mu  sync.Mutex // guards what follows
	w   http.ResponseWriter
	ctl *http.ResponseController
}

func newSink(w http.ResponseWriter) *sink {
	return &sink{w: w, ctl: http.NewResponseController(w)}
}

func (s *sink) write(blocks []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.ctl.SetWriteDeadline(time.Now().Add(stalled)) // some writers have none
	if _, err := s.w.Write(blocks); err != nil {
		return err
	}
	return s.ctl.Flush()
}

// beat writes heartbeats until the returned function is called, which waits for the last one.
func (s *sink) beat() (stop func()) {
	ctx, quit := context.WithCancel(context.Background())
	var beating sync.WaitGroup
	beating.Go(func() {
		for range await.Ticks(ctx, heartbeatEvery) {
			if contain.Do(func() error { return s.write([]byte(flue.Heartbeat)) }) != nil {
				return // whoever writes events finds out why
			}
		}
	})
	return func() {
		quit()
		beating.Wait()
	}
}
