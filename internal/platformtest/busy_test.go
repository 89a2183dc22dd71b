package platformtest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/session"
)

const (
	host  = "sleep 5s;add effects one;echo one\nsleep 5s;add effects two;echo two"
	steer = "add effects steered;echo steered"
)

// send submits to a session that may be busy, with an idempotency key.
func (w *world) send(
	ctx context.Context, p *platformtest.Platform, message string, busy pawlv1.WhenBusy,
) (*pawlv1.Submission, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	got, err := pawlv1.NewSubmissionServiceClient(p.GRPC).Submit(ctx, &pawlv1.SubmitRequest{
		Key: key("shell"), Message: message, IdempotencyKey: fmt.Sprint(busy, message), WhenBusy: busy,
	})
	return got.GetSubmission(), err
}

// inputs is how many entries each submission's input is in.
func (w *world) inputs() map[string]int {
	w.Helper()
	n := map[string]int{}
	for _, e := range w.entries(w.sessionID("shell")) {
		if e.Kind == session.Input {
			n[e.SubmissionID]++
		}
	}
	return n
}

// inputOnce checks that a submission's input is in the conversation once, and that it is settled as its host is if it
// has joined one.
func (w *world) inputOnce(id string) {
	w.Helper()
	if n := w.inputs()[id]; n != 1 {
		w.Errorf("%d inputs of %s", n, id)
	}
	sub, err := w.c.Store.GetSubmission(w.Context(), session.DefaultTenant, id)
	if err != nil {
		w.Fatal(err)
	}
	if sub.Host == "" {
		return
	}
	of, err := w.c.Store.GetSubmission(w.Context(), session.DefaultTenant, sub.Host)
	if err != nil || sub.Outcome != of.Outcome || sub.ResultEntry != of.ResultEntry {
		w.Errorf("a steer settled as %+v, its host as %+v, %v", sub, of, err)
	}
}

// A replica is killed at every commit of a submission that is steered while its command runs. The steer is not lost,
// and what it asks for is done once.
func TestSteerKilledAtEveryCommit(t *testing.T) {
	atEveryCommit(t, 6, func(w *world, n int64, after bool) bool {
		met := w.atCommit(w.a, n, after, w.a.Strike)
		_, _ = w.try(w.Context(), w.a, "shell", host) // the answers may get lost
		w.sleep(time.Second)
		if !met.Load() {
			_, _ = w.send(w.Context(), w.a, steer, pawlv1.WhenBusy_WHEN_BUSY_STEER)
		}
		select {
		case <-w.a.Dead():
		case <-time.After(time.Hour):
		}
		w.a.DB.Strike(nil)
		p := w.a
		if met.Load() {
			p = w.next(w.a)
		}
		id := w.again(p, "shell", host)
		one, err := w.send(w.Context(), p, steer, pawlv1.WhenBusy_WHEN_BUSY_STEER)
		if err != nil {
			w.Fatal(err)
		}
		w.wait(p, id, "")
		w.wait(p, one.GetSubmissionId(), "steered")
		w.inputOnce(one.GetSubmissionId())
		left, err := w.c.Store.GetSubmission(w.Context(), session.DefaultTenant, one.GetSubmissionId())
		effects := []string{"one", "steered"} // what the host had yet to do is replaced
		if err != nil || left.Host == "" {
			effects = append(effects, "two")
		}
		w.finish(p, "shell", effects...)
		return met.Load()
	})
}

// Two replicas: the steer comes to one, and the session runs at the other. It joins within a second.
func TestSteerAtAnotherReplica(t *testing.T) {
	within(t, func(w *world) {
		b := w.c.Start("b", nil)
		id := w.submit(host)
		w.sleep(time.Second)
		one, err := w.send(w.Context(), b, steer, pawlv1.WhenBusy_WHEN_BUSY_STEER)
		if err != nil || one.GetHostSubmissionId() != id || one.GetWhenBusy() != pawlv1.WhenBusy_WHEN_BUSY_STEER {
			w.Fatalf("the answer: %v, %v", one, err)
		}
		got := w.wait(b, one.GetSubmissionId(), "steered")
		if got.GetHostSubmissionId() != id {
			w.Errorf("it did not join: %v", got)
		}
		w.wait(w.a, id, "steered")
		w.inputOnce(one.GetSubmissionId())
		w.finish(w.a, "shell", "one", "steered")
	})
}

// A replica is killed at every commit of a submission that is interrupted. What interrupts runs before what is queued,
// once, and what is queued is not lost.
func TestInterruptKilledAtEveryCommit(t *testing.T) {
	const first, queued, urgent = "sleep 100h", "add effects queued", "add effects urgent"
	atEveryCommit(t, 6, func(w *world, n int64, after bool) bool {
		met := w.atCommit(w.a, n, after, w.a.Strike)
		_, _ = w.try(w.Context(), w.a, "shell", first)
		w.sleep(time.Second)
		if !met.Load() {
			_, _ = w.try(w.Context(), w.a, "shell", queued)
			_, _ = w.send(w.Context(), w.a, urgent, pawlv1.WhenBusy_WHEN_BUSY_INTERRUPT)
		}
		select {
		case <-w.a.Dead():
		case <-time.After(time.Hour):
		}
		w.a.DB.Strike(nil)
		p := w.a
		if met.Load() {
			p = w.next(w.a)
		}
		id, second := w.again(p, "shell", first), w.submitTo(p, "shell", queued)
		one, err := w.send(w.Context(), p, urgent, pawlv1.WhenBusy_WHEN_BUSY_INTERRUPT)
		if err != nil {
			w.Fatal(err)
		}
		if got, err := w.tryWait(p, id); err != nil || got.GetOutcome() != pawlv1.Outcome_OUTCOME_ABORTED {
			w.Errorf("what was interrupted: %v, %v", got, err)
		}
		w.wait(p, one.GetSubmissionId(), "")
		w.wait(p, second, "")
		w.sleep(time.Minute)
		if got := fmt.Sprint(w.effects()); got != "[urgent queued]" {
			w.Errorf("effects %s", got)
		}
		w.checkStream("shell")
		w.inputOnce(second)
		return met.Load()
	})
}
