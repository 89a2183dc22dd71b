package platformtest_test

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
)

// Rows 1 to 11: a replica dies.
var replicaRows = []row{
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
			w.Errorf("%d times unknown, %d times sent, want once each", w.count("Status", "UNKNOWN"),
				w.count("Execute", ""))
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
		w.sleep(10 * time.Second)
		w.a.Kill()
		b := w.next(w.a)
		w.wait(b, id, truth)
		w.output("shell", truth+"\n")
		w.finish(b, "shell", "one")
	}},
	{"7", "killed while the command runs, which ends while nobody is there", "R", func(w *world) {
		id := w.submit(one)
		w.sleep(10 * time.Second)
		w.a.Kill()
		w.sleep(30 * time.Minute)
		b := w.next(w.a)
		w.wait(b, id, truth)
		w.output("shell", truth+"\n")
		w.finish(b, "shell", "one")
	}},
	{"7", "killed while the command runs, another replica takes over when the lease is over", "R", func(w *world) {
		b := w.c.Start("b", nil)
		id := w.submit(one)
		w.sleep(10 * time.Second)
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
			w.sleep(30 * time.Second)
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
	{
		"8", "the result arrived at a replica that does not own the session, which is killed before its commit", "R",
		func(w *world) {
			b, id := w.elsewhere()
			killAt(b, "before CompleteCall")
			b = w.next(b)
			w.wait(b, id, truth)
			w.finish(b, "shell", "one")
		},
	},
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
	{"9", "the result is durable at a replica that does not own the session, which is killed before it acknowledges " +
		"it", "R", func(w *world) {
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
			w.sleep(time.Minute)
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
}
