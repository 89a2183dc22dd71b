package platformtest_test

import (
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/call"
)

// Rows 13 to 17: an executor, its host or its disk dies.
var executorRows = []row{
	{"13", "the daemon is killed before BEGIN is on the disk", "R", func(w *world) {
		w.m.Disk.OnSync(func() error { w.m.Strike(); return nil })
		id := w.submit(one)
		w.sleep(time.Second)
		w.m.Kill()
		w.m.Disk.OnSync(nil)
		w.m.Start(w.a)
		w.wait(w.a, id, truth)
		w.finish(w.a, "shell", "one")
	}},
	{"13", "the host dies before BEGIN is on the disk", "R", func(w *world) {
		w.m.Disk.OnSync(func() error { w.m.Strike(); return nil })
		id := w.submit(one)
		w.sleep(time.Second)
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
		w.sleep(10 * time.Second)
		w.m.Kill()
		w.m.Start(w.a)
		w.wait(w.a, id, truth)
		w.output("shell", truth+"\n")
		w.finish(w.a, "shell", "one")
	}},
	{"14a", "the daemon is killed while the command runs, which ends while it is away", "R", func(w *world) {
		id := w.submit(one)
		w.sleep(10 * time.Second)
		w.m.Kill()
		w.sleep(90 * time.Second)
		w.m.Start(w.a)
		w.wait(w.a, id, truth)
		w.output("shell", truth+"\n")
		w.finish(w.a, "shell", "one")
	}},
	{"14a", "daemon and replica are killed while the command runs", "R", func(w *world) {
		id := w.submit(one)
		w.sleep(10 * time.Second)
		w.a.Kill()
		w.m.Kill()
		w.sleep(30 * time.Minute)
		b := w.next(w.a)
		w.m.Start(b)
		w.wait(b, id, truth)
		w.finish(b, "shell", "one")
	}},
	{"14b", "the keeper is killed, an at-most-once command", "U", func(w *world) {
		id := w.submit(one)
		w.sleep(10 * time.Second)
		w.m.Box.Crash()
		w.wait(w.a, id, "unknown")
		w.unknown("shell")
		w.finish(w.a, "shell", "one")
	}},
	{"14b", "the host is killed, an at-most-once command", "U", func(w *world) {
		id := w.submit(one)
		w.sleep(10 * time.Second)
		w.m.Crash()
		w.m.Start(w.a)
		w.wait(w.a, id, "unknown")
		w.unknown("shell")
		w.finish(w.a, "shell", "one")
	}},
	{"14b", "the host is killed, an at-most-once edit", "U", func(w *world) {
		w.m.Box.Put("f", "old")
		id := w.gated(`tool edit: {"path":"f","oldText":"old","newText":"new"}`)
		w.wait(w.a, id, "unknown")
		w.unknown("shell")
		w.finish(w.a, "shell")
	}},
	{"14b", "the host is killed, a pure call", "R", func(w *world) {
		w.m.Box.Put("f", "content")
		id := w.gated(`tool read: {"path":"f"}`)
		w.wait(w.a, id, "content")
		w.finish(w.a, "shell")
	}},
	{"14b", "the host is killed, an idempotent call", "R", func(w *world) {
		id := w.gated(`tool write: {"path":"f","content":"written"}`)
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
		w.sleep(90 * time.Second)
		w.m.Start(w.a)
		w.wait(w.a, id, truth)
		w.finish(w.a, "shell", "one")
	}},
	{"16", "the host is lost for good, an at-most-once command", "U", func(w *world) {
		id := w.submit(one)
		w.sleep(10 * time.Second)
		w.m.Crash()
		w.wait(w.a, id, "unknown")
		w.unknown("shell")
		w.finish(w.a, "shell", "one")
	}},
	{"16", "the host is lost for good, a pure call whose workspace is nowhere else", "U", func(w *world) {
		w.m.Box.Put("f", "content")
		w.m.Box.Gate = make(chan struct{})
		id := w.submit(`tool read: {"path":"f"}`)
		w.sleep(10 * time.Second)
		w.m.Crash()
		w.wait(w.a, id, "was lost")
		w.unknown("shell")
		w.finish(w.a, "shell")
	}},
	{"16", "the host comes back without its disk, to a submission that is aborted", "U", func(w *world) {
		id := w.submit(one)
		w.sleep(10 * time.Second)
		w.m.Crash()
		w.m.Disk.Lose(w)
		w.m.Tap(func(f platformtest.Frame) platformtest.Fate {
			if f.Kind == "Attach" {
				return platformtest.Drop // the answer to Cancel decides
			}
			return platformtest.Pass
		})
		if _, err := pawlv1.NewSubmissionServiceClient(w.a.GRPC).AbortSubmission(w.Context(),
			&pawlv1.AbortSubmissionRequest{SubmissionId: id}); err != nil {
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
		w.sleep(10 * time.Second)
		w.m.Kill()
		w.wait(w.a, id, "unknown")
		before := w.entries(w.sessionID("shell"))
		w.m.Start(w.a)
		w.sleep(time.Minute)
		w.late(before)
		w.unknown("shell")
		w.finish(w.a, "shell", "one")
	}},
}
