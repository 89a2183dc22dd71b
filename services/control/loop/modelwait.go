package loop

import (
	"time"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
)

// waitPeriod is how long a model may be silent before watchers are told, and how often they are told of the same wait.
const waitPeriod = 15 * time.Second

// modelWait is what the call of a model waits for, if it waits.
type modelWait struct {
	what  *model.Waiting // nil while the answer comes
	since time.Time
	next  time.Time // when watchers are told of it
}

// see takes note of a part of the model's stream.
func (w *modelWait) see(p model.Part) {
	switch p.Type {
	case model.PartUsage, model.PartRestart:
	case model.PartWaiting:
		if w.what == nil || w.what.Reason != p.Waiting.Reason {
			w.since = time.Now()
			w.next = w.since
			if p.Waiting.Reason == model.WaitFirstToken { // which is no news until it is slow
				w.next = w.since.Add(waitPeriod)
			}
		}
		w.what = p.Waiting
	default:
		w.what = nil
	}
}

// modelWaits tells watchers what the call waits for.
func (l *loop) modelWaits(w *modelWait) {
	if w.what == nil { // the answer came just now
		return
	}
	w.next = time.Now().Add(waitPeriod)
	l.Push(l.Event(event.Event{Type: event.ModelWaiting, Wait: &event.Wait{
		Reason: string(w.what.Reason), Since: w.since, Until: w.what.Until, Message: l.waitMessage(w),
	}}))
}

func (l *loop) waitMessage(w *modelWait) string {
	name := l.model().String()
	switch w.what.Reason {
	case model.WaitRateLimit:
		return "waiting for the rate limit of " + name + " until " + clock(w.what.Until) + because(w.what.Err)
	case model.WaitRetry:
		return "waiting to ask " + name + " again at " + clock(w.what.Until) + because(w.what.Err)
	}
	return name + " has sent nothing for " + time.Since(w.since).Round(time.Second).String() +
		"; the call is given up at " + clock(w.what.Until) + " unless anything comes before"
}

func because(err *model.Error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Text
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05 UTC") }
