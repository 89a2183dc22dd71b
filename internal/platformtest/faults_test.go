package platformtest_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	peerv1 "github.com/pawl-dev/pawl/gen/pawl/peer/v1"
	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
)

func admitAcross(w *world, step string, replayed bool) {
	killAt(w.a, step)
	if _, err := w.try(w.Context(), w.a, "shell", one); err == nil {
		w.Fatal("the client got an answer")
	}
	b := w.next(w.a)
	if all, err := w.c.Store.DispatchedCalls(w.Context(), "m"); err != nil || len(all) > 0 && !replayed {
		w.Fatalf("calls %v, %v", all, err)
	}
	got, err := w.try(w.Context(), b, "shell", one)
	if err != nil || got.GetReplayed() != replayed {
		w.Fatalf("again: %v, %v", got, err)
	}
	w.wait(b, got.GetSubmission().GetSubmissionId(), truth)
	w.finish(b, "shell", "one")
}

// zombie is a replica that freezes before a write, of whose session another one takes over, and that then goes on with
// the write.
func zombie(agent, op string) func(w *world) {
	return func(w *world) {
		b := w.c.Start("b", nil)
		frozen := make(chan struct{})
		var first sync.Once
		w.a.DB.Strike(func(s platformtest.Step) error {
			if s.String() == "before "+op {
				first.Do(func() { w.a.Freeze(); close(frozen) })
			}
			return nil
		})
		const both = "sleep 10s;" + quick + "\n& add effects second"
		_, _ = w.try(w.Context(), w.a, agent, both)        // the answer may get lost
		after := w.submitTo(b, agent, "add effects third") // queued: its T1 is a commit
		w.met(frozen)
		w.move(b)
		w.wait(b, w.again(b, agent, both), "quick result")
		w.wait(b, after, "")
		woke := time.Now()
		w.a.Thaw()
		w.sleep(time.Minute)
		w.refused(w.a, op, woke)
		w.finish(w.a, agent, "quick", "second", "third")
	}
}

// met waits for a fault to happen.
func (w *world) met(fault <-chan struct{}) {
	w.Helper()
	select {
	case <-fault:
	case <-time.After(10 * time.Hour):
		w.Fatal("the fault was not met")
	}
}

// refused checks that the one write of a kind that a replica made since then was fenced.
func (w *world) refused(p *platformtest.Platform, op string, since time.Time) {
	w.Helper()
	n := 0
	for _, x := range p.DB.Writes() {
		if x.Op == op && !x.At.Before(since) {
			if n++; !errors.Is(x.Err, lane.ErrFenced) {
				w.Errorf("the late %s came to %v", op, x.Err)
			}
		}
	}
	if n != 1 {
		w.Errorf("%d late writes of %s", n, op)
	}
}

// once is a tap that acts at one frame and lets all others pass.
func once(f func(platformtest.Frame) (platformtest.Fate, bool)) func(platformtest.Frame) platformtest.Fate {
	var done atomic.Bool
	return func(frame platformtest.Frame) platformtest.Fate {
		if done.Load() {
			return platformtest.Pass
		}
		fate, acted := f(frame)
		if acted {
			done.Store(true)
		}
		return fate
	}
}

// elsewhere is a session that a runs on the machine, which is connected to b; then the two replicas lose each other.
// The command runs.
func (w *world) elsewhere() (b *platformtest.Platform, id string) {
	w.Helper()
	b = w.c.Start("b", nil)
	w.move(b)
	id = w.submit(one)
	// when its executor has been silent and out of reach for longer than is left of it, the owner steps back
	w.sleep(55 * time.Second)
	if got := w.effects(); len(got) != 1 {
		w.Fatalf("the command does not run: %q", got)
	}
	w.c.Peers("a", "b").Cut()
	w.c.Peers("b", "a").Cut()
	return b, id
}

// move lets the machine connect to p.
func (w *world) move(p *platformtest.Platform) {
	w.Helper()
	w.m.Dial(p)
	w.m.Wire.Cut()
	w.m.Wire.Mend()
	w.m.Welcomed()
	synctest.Wait()
}

// drain ends a replica as SIGTERM does. Another one has to have its lane within a time.
func (w *world) drain(p, to *platformtest.Platform, within time.Duration) {
	w.Helper()
	taken := make(chan struct{})
	to.DB.Strike(func(s platformtest.Step) error {
		if s.String() == "after Claim" && s.Leases > 0 {
			close(taken) // there is one lane
		}
		return nil
	})
	go p.Stop()
	select {
	case <-taken:
	case <-time.After(within):
		w.Errorf("after %s the lane is not handed over", within)
	}
	w.dead(p)
	to.DB.Strike(nil)
}

// gated submits a call of a file verb and lets the host die while it is at it.
func (w *world) gated(message string) string {
	w.Helper()
	w.m.Box.Gate = make(chan struct{})
	id := w.submit(message)
	w.sleep(10 * time.Second)
	w.m.Crash()
	w.m.Box.Gate = nil
	w.m.Start(w.a)
	return id
}

// late checks that a result that came too late is kept beside the record and changed nothing.
func (w *world) late(before []session.Entry) {
	w.Helper()
	id := w.sessionID("shell")
	for _, c := range w.calls(id) {
		if c.State != call.Lost || len(c.LateReply) == 0 {
			w.Errorf("the call is %s, its late reply %q", c.State, c.LateReply)
		}
	}
	if now := w.entries(id); len(now) != len(before) {
		w.Errorf("%d entries became %d", len(before), len(now))
	}
}

// output checks that the bytes in the stream are those of the command, each once.
func (w *world) output(agent, want string) {
	w.Helper()
	if got := w.shown(agent); got != want {
		w.Errorf("the stream has %q, want %q", got, want)
	}
}

// begins checks that the stream has the bytes of the command from the first on, each once. Whoever records a result
// without being the session's owner leaves the rest of the output to the result's entry.
func (w *world) begins(agent, want string) {
	w.Helper()
	if got := w.shown(agent); !strings.HasPrefix(want, got) || got == "" {
		w.Errorf("the stream has %q, want a beginning of %q", got, want)
	}
}

// shown is the output in the stream, without gaps or repetitions.
func (w *world) shown(agent string) (got string) {
	w.Helper()
	for _, e := range w.events(w.sessionID(agent)) {
		if e.Type != event.ToolOutput {
			continue
		}
		if e.Output.Offset != int64(len(got)) {
			w.Errorf("output at %d follows output up to %d", e.Output.Offset, len(got))
		}
		got += string(e.Output.Data)
	}
	return got
}

// expires waits for a submission that meets its deadline.
func (w *world) expires(p *platformtest.Platform, id string) {
	w.Helper()
	began := time.Now()
	got, err := w.tryWait(p, id)
	if err != nil || got.GetOutcome() != pawlv1.Outcome_OUTCOME_EXPIRED {
		w.Errorf("settled %v %v, %v", got.GetOutcome(), got.GetError(), err)
	}
	if took := time.Since(began); took < 5*time.Minute || took > 6*time.Minute {
		w.Errorf("it took %s", took)
	}
}

// hold keeps a frame of a kind that one replica forwards to another on its way, until release.
func (w *world) hold(kind string) (release func()) {
	gate := make(chan struct{})
	w.c.Relay(func(_ string, req any) {
		f, ok := req.(*peerv1.ForwardRequest)
		if ok && strings.HasSuffix(fmt.Sprintf("%T", f.GetFrame().GetFrame()), "_"+kind) {
			<-gate
		}
	})
	return func() {
		w.c.Relay(nil)
		close(gate)
	}
}
