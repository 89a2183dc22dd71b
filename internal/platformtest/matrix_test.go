package platformtest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	peerv1 "github.com/pawl-dev/pawl/gen/pawl/peer/v1"
	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// A row of the crash matrix (durability.md 2): the fault is injected at exactly its point, outcome is what must come of it.
type row struct {
	row     string
	name    string
	outcome string // R resume, Q requeue, U unknown
	run     func(w *world)
}

func TestMatrix(t *testing.T) {
	for _, r := range matrix {
		t.Run(r.row+" "+r.name, func(t *testing.T) { within(t, r.run) })
	}
}

var matrix = []row{
	{"1", "the client dies after admission", "R", func(w *world) {
		ctx, die := context.WithCancel(w.Context())
		gone := make(chan struct{})
		w.a.DB.Strike(func(s platformtest.Step) error {
			if s.String() == "after Admit" {
				die()
				<-gone
			}
			return nil
		})
		if _, err := w.try(ctx, w.a, "shell", one); err == nil {
			w.Fatal("the client got an answer")
		}
		close(gone)
		got, err := w.try(w.Context(), w.a, "shell", one)
		if err != nil || !got.GetReplayed() {
			w.Fatalf("the replay: %v, %v", got, err)
		}
		w.wait(w.a, got.GetSubmission().GetSubmissionId(), truth)
		w.finish(w.a, "shell", "one")
	}},
	{"2", "control dies before the admission is durable", "R", func(w *world) {
		admitAcross(w, "before Admit", false)
	}},
	{"2", "control dies after the admission, before its answer", "R", func(w *world) {
		admitAcross(w, "after Admit", true)
	}},
	{"3", "killed between claim and T1", "Q", func(w *world) {
		subs := []string{w.submit("sleep 1m;" + quick), w.submit("add effects second"), w.submit("add effects third")}
		killAt(w.a, "before T1")
		b := w.next(w.a)
		for _, id := range subs {
			w.wait(b, id, "")
		}
		w.finish(b, "shell", "quick", "second", "third")
	}},
	{"3", "killed after taking over, before anything else", "Q", func(w *world) {
		subs := []string{w.submit("sleep 1m;" + quick), w.submit("add effects second")}
		killAt(w.a, "before T1")
		b := w.c.Start("b", killsAt("after TakeOver"))
		w.dead(b)
		c := w.next(w.a)
		w.wait(c, subs[0], "quick result")
		if got := w.wait(c, subs[1], ""); got.GetAttempts() != 2 {
			w.Errorf("%d attempts, want 2", got.GetAttempts())
		}
		w.finish(c, "shell", "quick", "second")
	}},
	{"4", "killed while the model answers", "R", func(w *world) {
		id := w.submitTo(w.a, "paced", "say: an answer of six words altogether")
		killAt(w.a, "after flush")
		b := w.next(w.a)
		w.wait(b, id, "an answer of six words altogether")
		var kinds []string
		for _, e := range w.events(w.sessionID("paced")) {
			if e.Type == event.Text || e.Type == event.Restarted {
				kinds = append(kinds, string(e.Type)+" "+e.Reason)
			}
		}
		if len(kinds) < 3 || kinds[0] != "text " || kinds[1] != "restarted owner_changed" || kinds[2] != "text " {
			w.Errorf("the stream shows %q", kinds)
		}
		w.finish(b, "paced")
	}},
	{"5", "killed after the model's answer, before T2", "R", func(w *world) {
		killAt(w.a, "before T2")
		_, _ = w.try(w.Context(), w.a, "shell", one) // the answer may get lost
		w.dead(w.a)
		if n := w.count("Execute", ""); n != 0 {
			w.Errorf("%d calls were sent before they were durable", n)
		}
		b := w.next(w.a)
		w.wait(b, w.again(b, "shell", one), truth)
		w.finish(b, "shell", "one")
	}},
	{"6", "killed after T2, before Execute is sent", "R", func(w *world) {
		killAt(w.a, "after T2")
		_, _ = w.try(w.Context(), w.a, "shell", one) // the answer may get lost
		b := w.next(w.a)
		w.wait(b, w.again(b, "shell", one), truth)
		if w.count("Status", "UNKNOWN") != 1 || w.count("Execute", "") != 1 {
			w.Errorf("%d times unknown, %d times sent, want once each", w.count("Status", "UNKNOWN"), w.count("Execute", ""))
		}
		w.finish(b, "shell", "one")
	}},
	{"6", "killed while Execute is on its way", "R", func(w *world) {
		w.m.Tap(once(func(f platformtest.Frame) (platformtest.Fate, bool) {
			if f.Kind != "Execute" {
				return platformtest.Pass, false
			}
			_ = w.a.Strike()
			return platformtest.Drop, true
		}))
		_, _ = w.try(w.Context(), w.a, "shell", one) // the answer may get lost
		b := w.next(w.a)
		w.wait(b, w.again(b, "shell", one), truth)
		w.finish(b, "shell", "one")
	}},
	{"7", "killed while the command runs", "R", func(w *world) {
		id := w.submit(one)
		time.Sleep(10 * time.Second)
		w.a.Kill()
		b := w.next(w.a)
		w.wait(b, id, truth)
		w.output("shell", truth+"\n")
		w.finish(b, "shell", "one")
	}},
	{"7", "killed while the command runs, which ends while nobody is there", "R", func(w *world) {
		id := w.submit(one)
		time.Sleep(10 * time.Second)
		w.a.Kill()
		time.Sleep(30 * time.Minute)
		b := w.next(w.a)
		w.wait(b, id, truth)
		w.output("shell", truth+"\n")
		w.finish(b, "shell", "one")
	}},
	{"7", "killed while the command runs, another replica takes over when the lease is over", "R", func(w *world) {
		b := w.c.Start("b", nil)
		id := w.submit(one)
		time.Sleep(10 * time.Second)
		w.a.Kill()
		w.m.Dial(b)
		if got := w.wait(b, id, truth); got.GetAttempts() != 1 {
			w.Errorf("%d attempts, want 1", got.GetAttempts())
		}
		w.output("shell", truth+"\n")
		w.finish(b, "shell", "one")
	}},
	{"7", "killed again and again while the command runs", "R", func(w *world) {
		id := w.submit("add effects one;sleep 10m;echo the end")
		p := w.a
		for range 5 {
			time.Sleep(30 * time.Second)
			p.Kill()
			p = w.next(p)
		}
		if got := w.wait(p, id, "the end"); got.GetAttempts() != 5 {
			w.Errorf("%d attempts, want 5", got.GetAttempts())
		}
		w.finish(p, "shell", "one")
	}},
	{"8", "the result arrived, killed before its commit", "R", func(w *world) {
		killAt(w.a, "before T3")
		id := w.submit(one)
		b := w.next(w.a)
		w.wait(b, id, truth)
		w.finish(b, "shell", "one")
	}},
	{"8", "the first of two results arrived, killed before its commit", "R", func(w *world) {
		killAt(w.a, "before outcome")
		_, _ = w.try(w.Context(), w.a, "shell", one+"\n& "+quick) // the answer may get lost
		b := w.next(w.a)
		w.wait(b, w.again(b, "shell", one+"\n& "+quick), truth+"\nquick result")
		w.finish(b, "shell", "one", "quick")
	}},
	{"8", "the result arrived at a replica that does not own the session, which is killed before its commit", "R", func(w *world) {
		b, id := w.elsewhere()
		killAt(b, "before CompleteCall")
		b = w.next(b)
		w.wait(b, id, truth)
		w.finish(b, "shell", "one")
	}},
	{"9", "the result is durable, killed before it is acknowledged", "R", func(w *world) {
		killAt(w.a, "after T3")
		id := w.submit(one)
		b := w.next(w.a)
		w.wait(b, id, truth)
		w.finish(b, "shell", "one")
		if n := w.count("Result", ""); n < 2 {
			w.Errorf("%d results were sent: nothing was repeated", n)
		}
	}},
	{"9", "the first of two results is durable, killed before it is acknowledged", "R", func(w *world) {
		killAt(w.a, "after outcome")
		_, _ = w.try(w.Context(), w.a, "shell", one+"\n& "+quick) // the answer may get lost
		b := w.next(w.a)
		w.wait(b, w.again(b, "shell", one+"\n& "+quick), truth+"\nquick result")
		w.finish(b, "shell", "one", "quick")
	}},
	{"9", "the result is durable at a replica that does not own the session, which is killed before it acknowledges it", "R", func(w *world) {
		b, id := w.elsewhere()
		killAt(b, "after CompleteCall")
		b = w.next(b)
		w.wait(b, id, truth)
		w.finish(b, "shell", "one")
	}},
	{"9", "the acknowledgement is lost", "R", func(w *world) {
		cut := make(chan struct{})
		w.m.Tap(once(func(f platformtest.Frame) (platformtest.Fate, bool) {
			if f.Kind != "ResultAck" {
				return platformtest.Pass, false
			}
			w.m.Wire.Cut()
			close(cut)
			return platformtest.Drop, true
		}))
		id := w.submit(quick)
		w.wait(w.a, id, "quick result")
		<-cut
		w.m.Wire.Mend()
		w.finish(w.a, "shell", "quick")
	}},
	{"9", "results are kept until they are acknowledged, over restarts of both sides", "R", func(w *world) {
		w.m.Tap(func(f platformtest.Frame) platformtest.Fate {
			if f.Kind == "ResultAck" {
				return platformtest.Drop
			}
			return platformtest.Pass
		})
		id := w.submit(quick)
		w.wait(w.a, id, "quick result")
		p := w.a
		for range 3 {
			p.Kill()
			w.m.Kill()
			p = w.next(p)
			w.m.Start(p)
			time.Sleep(time.Minute)
		}
		w.m.Tap(nil)
		w.m.Crash()
		w.m.Start(p)
		w.finish(p, "shell", "quick")
		if n := w.count("Result", ""); n != 5 {
			w.Errorf("%d results were sent, want one over each connection", n)
		}
	}},
	{"10", "killed between the last result and T3", "R", func(w *world) {
		b, id := w.elsewhere()
		// The owner learns of the row that the other replica has completed.
		killAt(w.a, "before T3")
		w.dead(w.a)
		if c := w.calls(w.sessionID("shell")); len(c) != 1 || c[0].State != call.Done {
			w.Errorf("calls %+v", c)
		}
		w.wait(b, id, truth)
		w.finish(b, "shell", "one")
	}},
	{"10", "killed between T3 and the model", "R", func(w *world) {
		killAt(w.a, "before T4")
		id := w.submit(one)
		b := w.next(w.a)
		w.wait(b, id, truth)
		w.finish(b, "shell", "one")
	}},
	{"11", "settled, and the answer to who waits is lost", "R", func(w *world) {
		killAt(w.a, "after T4")
		id := w.submit(one)
		if got, err := w.tryWait(w.a, id); err == nil {
			w.Fatalf("the waiter got %v", got)
		}
		b := w.next(w.a)
		if got := w.wait(b, id, truth); got.GetAttempts() != 0 {
			w.Errorf("%d attempts, want 0", got.GetAttempts())
		}
		w.finish(b, "shell", "one")
	}},
	{"12", "a frozen replica wakes: its T1 is refused", "harmless", zombie("shell", "T1")},
	{"12", "a frozen replica wakes: its T2 is refused", "harmless", zombie("shell", "T2")},
	{"12", "a frozen replica wakes: its outcome of a call is refused", "harmless", zombie("shell", "outcome")},
	{"12", "a frozen replica wakes: its T3 is refused", "harmless", zombie("shell", "T3")},
	{"12", "a frozen replica wakes: its T4 is refused", "harmless", zombie("shell", "T4")},
	{"12", "a frozen replica wakes: its flush is refused", "harmless", zombie("paced", "flush")},
	{"12", "a frozen replica wakes after another one took over and before that one wrote anything", "harmless", func(w *world) {
		frozen, taken := make(chan struct{}), make(chan struct{})
		var first, second sync.Once
		w.a.DB.Strike(func(s platformtest.Step) error {
			if s.String() == "before T3" {
				first.Do(func() { w.a.Freeze(); close(frozen) })
			}
			return nil
		})
		id := w.submit(one)
		w.met(frozen)
		b := w.c.Start("b", func(p *platformtest.Platform, s platformtest.Step) error {
			if s.String() == "after TakeOver" && s.Leases > 0 {
				second.Do(func() { p.Freeze(); close(taken) })
			}
			return nil
		})
		w.met(taken)
		woke := time.Now()
		w.a.Thaw() // nothing but the epoch tells its T3 from one that may be written
		synctest.Wait()
		w.refused(w.a, "T3", woke)
		b.Thaw()
		w.move(b)
		w.wait(b, id, truth)
		w.finish(b, "shell", "one")
	}},
	{"12", "a frozen replica wakes: its Execute is refused", "harmless", func(w *world) {
		b := w.c.Start("b", nil)
		w.move(b)
		thaw := w.hold("Execute")
		id := w.submit(one) // a runs it, and its Execute is on its way to b
		synctest.Wait()
		w.a.Freeze()
		w.wait(b, id, truth)
		before := w.count("Execute", "")
		thaw()
		w.a.Thaw()
		time.Sleep(time.Minute)
		if w.count("Execute", "") != before+1 || w.count("Rejected", "STALE_EPOCH") != 1 {
			w.Errorf("%d of %d orders are the late one, %d were refused", w.count("Execute", "")-before, w.count("Execute", ""), w.count("Rejected", "STALE_EPOCH"))
		}
		w.finish(w.a, "shell", "one")
	}},
	{"12", "a frozen replica wakes: its Cancel is refused", "harmless", func(w *world) {
		b := w.c.Start("b", nil)
		w.move(b)
		thaw := w.hold("Cancel")
		id := w.submit(one)
		time.Sleep(10 * time.Second)
		if _, err := pawlv1.NewSubmissionServiceClient(w.a.GRPC).AbortSubmission(w.Context(), &pawlv1.AbortSubmissionRequest{SubmissionId: id}); err != nil {
			w.Fatal(err)
		}
		synctest.Wait()
		w.a.Freeze()
		got, err := w.tryWait(b, id)
		if err != nil || got.GetOutcome() != pawlv1.Outcome_OUTCOME_ABORTED {
			w.Errorf("settled %v %v, %v", got.GetOutcome(), got.GetError(), err)
		}
		before := w.count("Cancel", "")
		thaw()
		w.a.Thaw()
		time.Sleep(time.Minute)
		if w.count("Cancel", "") != before+1 || w.count("Rejected", "STALE_EPOCH") != 1 {
			w.Errorf("%d of %d cancels are the late one, %d were refused", w.count("Cancel", "")-before, w.count("Cancel", ""), w.count("Rejected", "STALE_EPOCH"))
		}
		w.finish(w.a, "shell", "one")
	}},
	{"13", "the daemon is killed before BEGIN is on the disk", "R", func(w *world) {
		w.m.Disk.OnSync(func() error { w.m.Strike(); return nil })
		id := w.submit(one)
		time.Sleep(time.Second)
		w.m.Kill()
		w.m.Disk.OnSync(nil)
		w.m.Start(w.a)
		w.wait(w.a, id, truth)
		w.finish(w.a, "shell", "one")
	}},
	{"13", "the host dies before BEGIN is on the disk", "R", func(w *world) {
		w.m.Disk.OnSync(func() error { w.m.Strike(); return nil })
		id := w.submit(one)
		time.Sleep(time.Second)
		w.m.Crash()
		w.m.Disk.OnSync(nil)
		w.m.Start(w.a)
		w.wait(w.a, id, truth)
		if w.count("Status", "UNKNOWN") != 1 {
			w.Errorf("%d times unknown, want once", w.count("Status", "UNKNOWN"))
		}
		w.finish(w.a, "shell", "one")
	}},
	{"14a", "the daemon is killed while the command runs", "R", func(w *world) {
		id := w.submit(one)
		time.Sleep(10 * time.Second)
		w.m.Kill()
		w.m.Start(w.a)
		w.wait(w.a, id, truth)
		w.output("shell", truth+"\n")
		w.finish(w.a, "shell", "one")
	}},
	{"14a", "the daemon is killed while the command runs, which ends while it is away", "R", func(w *world) {
		id := w.submit(one)
		time.Sleep(10 * time.Second)
		w.m.Kill()
		time.Sleep(90 * time.Second)
		w.m.Start(w.a)
		w.wait(w.a, id, truth)
		w.output("shell", truth+"\n")
		w.finish(w.a, "shell", "one")
	}},
	{"14a", "daemon and replica are killed while the command runs", "R", func(w *world) {
		id := w.submit(one)
		time.Sleep(10 * time.Second)
		w.a.Kill()
		w.m.Kill()
		time.Sleep(30 * time.Minute)
		b := w.next(w.a)
		w.m.Start(b)
		w.wait(b, id, truth)
		w.finish(b, "shell", "one")
	}},
	{"14b", "the keeper is killed, an at-most-once command", "U", func(w *world) {
		id := w.submit(one)
		time.Sleep(10 * time.Second)
		w.m.Box.Crash()
		w.wait(w.a, id, "unknown")
		w.unknown("shell")
		w.finish(w.a, "shell", "one")
	}},
	{"14b", "the host is killed, an at-most-once command", "U", func(w *world) {
		id := w.submit(one)
		time.Sleep(10 * time.Second)
		w.m.Crash()
		w.m.Start(w.a)
		w.wait(w.a, id, "unknown")
		w.unknown("shell")
		w.finish(w.a, "shell", "one")
	}},
	{"14b", "the host is killed, an at-most-once edit", "U", func(w *world) {
		w.m.Box.Put("f", "old")
		id := w.gated(`call: edit {"path":"f","oldText":"old","newText":"new"}`)
		w.wait(w.a, id, "unknown")
		w.unknown("shell")
		w.finish(w.a, "shell")
	}},
	{"14b", "the host is killed, a pure call", "R", func(w *world) {
		w.m.Box.Put("f", "content")
		id := w.gated(`call: read {"path":"f"}`)
		w.wait(w.a, id, "content")
		w.finish(w.a, "shell")
	}},
	{"14b", "the host is killed, an idempotent call", "R", func(w *world) {
		id := w.gated(`call: write {"path":"f","content":"written"}`)
		w.wait(w.a, id, "")
		if got, _ := w.m.Box.Get("f"); got != "written" {
			w.Errorf("the file holds %q", got)
		}
		w.finish(w.a, "shell")
	}},
	{"15", "the daemon is killed after END, before the result is sent", "R", func(w *world) {
		w.m.Tap(once(func(f platformtest.Frame) (platformtest.Fate, bool) {
			if f.Kind != "Result" {
				return platformtest.Pass, false
			}
			w.m.Strike()
			return platformtest.Drop, true
		}))
		id := w.submit(one)
		time.Sleep(90 * time.Second)
		w.m.Start(w.a)
		w.wait(w.a, id, truth)
		w.finish(w.a, "shell", "one")
	}},
	{"16", "the host is lost for good, an at-most-once command", "U", func(w *world) {
		id := w.submit(one)
		time.Sleep(10 * time.Second)
		w.m.Crash()
		w.wait(w.a, id, "unknown")
		w.unknown("shell")
		w.finish(w.a, "shell", "one")
	}},
	{"16", "the host is lost for good, a pure call whose workspace is nowhere else", "U", func(w *world) {
		w.m.Box.Put("f", "content")
		w.m.Box.Gate = make(chan struct{})
		id := w.submit(`call: read {"path":"f"}`)
		time.Sleep(10 * time.Second)
		w.m.Crash()
		w.wait(w.a, id, "was lost")
		w.unknown("shell")
		w.finish(w.a, "shell")
	}},
	{"16", "the host comes back without its disk, to a submission that is aborted", "U", func(w *world) {
		id := w.submit(one)
		time.Sleep(10 * time.Second)
		w.m.Crash()
		w.m.Disk.Lose(w)
		w.m.Tap(func(f platformtest.Frame) platformtest.Fate {
			if f.Kind == "Attach" {
				return platformtest.Drop // the answer to Cancel decides
			}
			return platformtest.Pass
		})
		if _, err := pawlv1.NewSubmissionServiceClient(w.a.GRPC).AbortSubmission(w.Context(), &pawlv1.AbortSubmissionRequest{SubmissionId: id}); err != nil {
			w.Fatal(err)
		}
		w.m.Start(w.a)
		got, err := w.tryWait(w.a, id)
		if err != nil || got.GetOutcome() != pawlv1.Outcome_OUTCOME_ABORTED {
			w.Errorf("settled %v %v, %v", got.GetOutcome(), got.GetError(), err)
		}
		if n := w.count("Status", ""); n == 0 {
			w.Error("the executor was not asked")
		}
		if c := w.calls(w.sessionID("shell")); len(c) != 1 || c[0].State != call.Lost {
			w.Errorf("the executor cannot know that it never ran the call, and control says %+v", c)
		}
		w.unknown("shell")
		w.finish(w.a, "shell", "one")
	}},
	{"17", "the result comes after it was given up", "U", func(w *world) {
		id := w.submit(one)
		time.Sleep(10 * time.Second)
		w.m.Kill()
		w.wait(w.a, id, "unknown")
		before := w.entries(w.sessionID("shell"))
		w.m.Start(w.a)
		time.Sleep(time.Minute)
		w.late(before)
		w.unknown("shell")
		w.finish(w.a, "shell", "one")
	}},
	{"18", "control and executor cannot reach each other for less than the grace", "R", func(w *world) {
		id := w.submit(one)
		time.Sleep(10 * time.Second)
		w.m.Wire.Cut()
		time.Sleep(90 * time.Second)
		w.m.Wire.Mend()
		w.wait(w.a, id, truth)
		w.output("shell", truth+"\n")
		w.finish(w.a, "shell", "one")
	}},
	{"18", "the connection is half open for less than the grace", "R", func(w *world) {
		id := w.submit(one)
		time.Sleep(10 * time.Second)
		w.m.Wire.Freeze()
		time.Sleep(90 * time.Second)
		w.m.Wire.Mend()
		w.wait(w.a, id, truth)
		w.output("shell", truth+"\n")
		w.finish(w.a, "shell", "one")
	}},
	{"18", "the executor finds another replica", "R", func(w *world) {
		b := w.c.Start("b", nil)
		id := w.submit(one)
		time.Sleep(10 * time.Second)
		w.m.Dial(b)
		w.m.Wire.Cut()
		w.m.Wire.Mend()
		w.wait(w.a, id, truth)
		w.begins("shell", truth+"\n")
		w.finish(w.a, "shell", "one")
	}},
	{"18", "frames are delayed and repeated", "R", func(w *world) {
		w.m.Tap(func(f platformtest.Frame) platformtest.Fate {
			if f.Kind == "Hello" || f.Kind == "Welcome" {
				return platformtest.Pass
			}
			time.Sleep(300 * time.Millisecond)
			return platformtest.Twice
		})
		id := w.submit(one)
		w.wait(w.a, id, truth)
		w.output("shell", truth+"\n")
		w.finish(w.a, "shell", "one")
	}},
	{"19", "control and executor cannot reach each other for longer than the grace", "U", func(w *world) {
		id := w.submit("add effects one;sleep 1h;add effects never")
		time.Sleep(10 * time.Second)
		w.m.Wire.Freeze()
		w.wait(w.a, id, "unknown")
		before := w.entries(w.sessionID("shell"))
		w.m.Wire.Mend()
		time.Sleep(time.Minute)
		if w.count("Cancel", "") == 0 {
			w.Error("the executor was not told to end what nobody waits for")
		}
		w.late(before)
		w.unknown("shell")
		time.Sleep(2 * time.Hour)
		w.finish(w.a, "shell", "one")
	}},
	{"20", "a replica cannot reach the database", "R", func(w *world) {
		b := w.c.Start("b", nil)
		id := w.submit(one)
		time.Sleep(10 * time.Second)
		lost := time.Now()
		w.a.DB.Lose(errors.New("no route to the database"))
		w.m.Dial(b)
		got := w.wait(b, id, truth)
		if got.GetAttempts() != 1 {
			w.Errorf("%d attempts, want 1", got.GetAttempts())
		}
		for _, x := range w.a.DB.Writes() {
			if x.At.After(lost) && x.Err == nil {
				w.Errorf("%s was written from beyond the partition", x.Op)
			}
		}
		w.a.DB.Lose(nil)
		time.Sleep(time.Minute)
		w.output("shell", truth+"\n")
		w.finish(w.a, "shell", "one") // a serves again
	}},
	{"21", "replicas cannot reach each other: a result needs no owner", "R", func(w *world) {
		b, id := w.elsewhere()
		w.wait(b, id, truth)
		w.finish(w.a, "shell", "one")
	}},
	{"21", "replicas cannot reach each other: a call goes through the executor's own", "R", func(w *world) {
		b := w.c.Start("b", nil)
		w.move(b)
		w.c.Peers("a", "b").Cut()
		w.c.Peers("b", "a").Cut()
		began := time.Now()
		id := w.submit(one)
		for len(w.effects()) == 0 && time.Since(began) < time.Hour {
			time.Sleep(time.Second)
		}
		if took := time.Since(began); took > 8*time.Second {
			w.Errorf("it took %s until the command began", took)
		}
		if got := w.wait(w.a, id, truth); got.GetAttempts() != 0 {
			w.Errorf("%d attempts were charged", got.GetAttempts())
		}
		w.output("shell", truth+"\n")
		w.finish(b, "shell", "one")
	}},
	{"22", "the database is away for longer than a lease", "R", func(w *world) {
		b := w.c.Start("b", nil)
		id := w.submit(one)
		time.Sleep(10 * time.Second)
		for _, p := range []*platformtest.Platform{w.a, b} {
			p.DB.Lose(errors.New("the database restarts"))
		}
		time.Sleep(30 * time.Second)
		for _, p := range []*platformtest.Platform{w.a, b} {
			p.DB.Lose(nil)
		}
		w.wait(b, id, truth)
		w.begins("shell", truth+"\n")
		w.finish(w.a, "shell", "one")
	}},
	{"22", "the database has written what it did not answer", "R", func(w *world) {
		var answered sync.Map
		w.a.DB.Strike(func(s platformtest.Step) error {
			if s.After && slices.Contains([]string{"T2", "T3", "T4"}, s.Op) {
				if _, again := answered.LoadOrStore(s.Op, true); !again {
					return errors.New("connection reset")
				}
			}
			return nil
		})
		w.wait(w.a, w.submit(one), truth)
		for _, op := range []string{"T2", "T3", "T4"} {
			if _, met := answered.Load(op); !met {
				w.Errorf("no fault at %s", op)
			}
		}
		w.finish(w.a, "shell", "one")
	}},
	{"24", "a replica drains", "R", func(w *world) {
		b := w.c.Start("b", nil)
		id := w.submit(one)
		time.Sleep(10 * time.Second)
		w.m.Dial(b)
		w.a.Stop()
		if got := w.wait(b, id, truth); got.GetAttempts() != 0 {
			w.Errorf("%d attempts were charged", got.GetAttempts())
		}
		w.output("shell", truth+"\n")
		w.finish(b, "shell", "one")
	}},
	{"25", "an input kills its replicas", "interrupted", func(w *world) {
		killAt(w.a, "before T2")
		_, _ = w.try(w.Context(), w.a, "shell", one) // the answer may get lost
		w.dead(w.a)
		for range 2 {
			w.dead(w.c.Start("a", killsAt("before T2")))
		}
		p := w.next(w.a)
		got, err := w.tryWait(p, w.again(p, "shell", one))
		if err != nil || got.GetOutcome() != pawlv1.Outcome_OUTCOME_INTERRUPTED || got.GetError().GetReason() != "STALLED" {
			w.Errorf("settled %v %v, %v", got.GetOutcome(), got.GetError(), err)
		}
		w.finish(p, "shell")
	}},
	{"26", "the model hangs", "expired", func(w *world) {
		w.expires(w.submitTo(w.a, "hung", "say: never"))
		w.finish(w.a, "hung")
	}},
	{"26", "a command hangs", "expired", func(w *world) {
		w.expires(w.submitTo(w.a, "hasty", "add effects one;trap;sleep 100h;add effects never"))
		w.finish(w.a, "hasty", "one")
		if len(w.m.Box.Held()) != 0 {
			w.Errorf("the executor still has %q", w.m.Box.Held())
		}
	}},
	{"29", "the database's disk is full", "R", func(w *world) {
		for _, op := range []string{"T1", "T2", "T3", "T4"} {
			began := time.Now()
			w.a.DB.Strike(func(s platformtest.Step) error {
				if s.String() == "before "+op && time.Since(began) < 30*time.Minute {
					return fmt.Errorf("writing: %w", syscall.ENOSPC)
				}
				return nil
			})
			w.submit("sleep 1m;echo before " + op)
			id := w.submit("add effects " + op + ";echo done " + op) // queued: T1 is a commit of its own
			if got := w.wait(w.a, id, "done "+op); got.GetAttempts() != 0 {
				w.Errorf("%d attempts were charged", got.GetAttempts())
			}
			if took := time.Since(began); took < 30*time.Minute || took > 35*time.Minute {
				w.Errorf("%s: it took %s", op, took)
			}
		}
		w.a.DB.Strike(nil)
		w.finish(w.a, "shell", "T1", "T2", "T3", "T4")
	}},
	{"29", "the database's disk is full until after the deadline", "expired", func(w *world) {
		began := time.Now()
		w.a.DB.Strike(func(s platformtest.Step) error {
			if s.String() == "before T3" && time.Since(began) < 30*time.Minute {
				return fmt.Errorf("writing: %w", syscall.ENOSPC)
			}
			return nil
		})
		got, err := w.tryWait(w.a, w.submitTo(w.a, "hasty", "add effects one\nadd effects never"))
		if err != nil || got.GetOutcome() != pawlv1.Outcome_OUTCOME_EXPIRED {
			w.Errorf("settled %v %v, %v", got.GetOutcome(), got.GetError(), err)
		}
		w.finish(w.a, "hasty", "one")
	}},
	{"29", "the quota of the executor's journal is used up", "R", func(w *world) {
		w.m.Kill()
		w.m.Quota = 4 << 10
		w.m.Start(w.a)
		w.m.Tap(func(f platformtest.Frame) platformtest.Fate { // what is not acknowledged stays
			if f.Kind == "ResultAck" {
				return platformtest.Drop
			}
			return platformtest.Pass
		})
		w.wait(w.a, w.submit("add effects one;bytes 8000"), "0000000")
		w.wait(w.a, w.submit("add effects refused"), "quota")
		w.m.Tap(nil)
		w.move(w.a)
		time.Sleep(time.Minute) // the result is sent again and acknowledged
		w.wait(w.a, w.submit(quick), "quick result")
		w.finish(w.a, "shell", "one", "quick")
	}},
	{"29", "the executor's disk is full", "R", func(w *world) {
		id := w.submit(one)
		time.Sleep(10 * time.Second)
		w.m.Disk.Fill(true)
		w.wait(w.a, id, truth) // nothing that runs is lost
		w.wait(w.a, w.submit("add effects refused"), "full")
		w.m.Disk.Fill(false)
		w.wait(w.a, w.submit(quick), "quick result")
		w.finish(w.a, "shell", "one", "quick")
	}},
}

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

// zombie is a replica that freezes before a write, of whose session another one takes over, and that then goes on with the write.
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
		time.Sleep(time.Minute)
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
			if n++; !errors.Is(x.Err, submission.ErrFenced) {
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

// elsewhere is a session that a runs on the machine, which is connected to b; then the two replicas lose each other. The command
// runs.
func (w *world) elsewhere() (b *platformtest.Platform, id string) {
	w.Helper()
	b = w.c.Start("b", nil)
	w.move(b)
	id = w.submit(one)
	time.Sleep(55 * time.Second) // when its executor has been silent and out of reach for longer than is left of it, the owner steps back
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

// gated submits a call of a file verb and lets the host die while it is at it.
func (w *world) gated(message string) string {
	w.Helper()
	w.m.Box.Gate = make(chan struct{})
	id := w.submit(message)
	time.Sleep(10 * time.Second)
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

// begins checks that the stream has the bytes of the command from the first on, each once. Whoever records a result without being the
// session's owner leaves the rest of the output to the result's entry.
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
func (w *world) expires(id string) {
	w.Helper()
	began := time.Now()
	got, err := w.tryWait(w.a, id)
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
