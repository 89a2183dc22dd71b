package work

import (
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/executor/journal"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

func TestCancelRunning(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("a", line("echo x;trap;sleep 1h")))
		r.want("accepted a", "output a STDOUT 0+2")
		r.cancel("a", 1)
		r.want()
		pass(time.Minute)
		got := r.take()
		if brief(got) != "result a exit 143" {
			t.Fatal(brief(got))
		}
		x := got[0].GetResult().GetExec()
		if !x.GetCancelled() || !x.GetConfirmed() || string(x.GetStdout().GetHead()) != "x\n" {
			t.Errorf("%v", x)
		}
		r.cancel("a", 1) // its true result
		r.want("result a exit 143")
		r.ack("a")
		r.cancel("a", 1)
		r.want("status a TOMBSTONE")
		r.box.Gate = make(chan struct{})
		r.send(execute("w", putFile("f", "x")))
		r.want("accepted w")
		r.cancel("w", 1)
		r.want("result w CANCELLED")
		close(r.box.Gate)
		if _, there := r.box.Get("f"); there {
			t.Error("a cancelled write wrote")
		}
	})
}

// A Cancel that comes before its call revokes it for good.
func TestCancelBeforeArrival(t *testing.T) {
	within(t, func(r *rig) {
		r.cancel("a", 2)
		r.want("status a UNKNOWN")
		r.send(execute("a", line("exit 0"), epoch(2), dispatch(9)))
		r.want("rejected a REVOKED")
		r.send(execute("b", line("exit 0"), epoch(1)))
		r.want("rejected b STALE_EPOCH, knows 2")
		r.restart()
		r.cancel("a", 2)
		r.want("status a UNKNOWN")
		r.send(execute("a", line("exit 0"), epoch(2), dispatch(9)))
		r.want("rejected a REVOKED")
		r.runs("a", 0)
	})
}

// A Cancel that arrives while the call is being recorded is obeyed.
func TestCancelWhileStarting(t *testing.T) {
	within(t, func(r *rig) {
		r.down()
		gate := make(chan struct{})
		var slow atomic.Bool
		r.jcfg = journal.Config{Fsync: func(*os.File) error {
			if slow.Load() {
				<-gate
			}
			return nil
		}}
		r.up()
		r.connect()
		slow.Store(true)
		r.send(execute("a", line("exit 0")))
		r.cancel("a", 1)
		r.want()
		close(gate)
		r.want("accepted a", "result a CANCELLED")
		r.runs("a", 0)
	})
}

// A start whose outcome is not known is asked for until it is.
func TestStartInDoubt(t *testing.T) {
	within(t, func(r *rig) {
		r.box.Down(sandbox.ErrUnavailable)
		r.send(execute("a", line("exit 0")))
		pass(time.Minute)
		r.want()
		r.box.Down(nil)
		pass(time.Minute)
		r.want("accepted a", "result a UNAVAILABLE")
		r.runs("a", 0)
		r.box.OnStart = func(id string) error { return sandbox.ErrNotFound.With("no such directory") }
		r.send(execute("b", line("exit 0")))
		r.want("accepted b", "result b NOT_FOUND")
	})
}

func TestDeadlines(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("cmd", line("echo x;sleep 1h"), timeout(time.Minute)))
		r.want("accepted cmd", "output cmd STDOUT 0+2")
		pass(59 * time.Second)
		r.want()
		pass(2 * time.Second)
		got := r.take()
		x := got[len(got)-1].GetResult().GetExec()
		if x.GetExitCode() != 124 || !x.GetTimedOut() || string(x.GetStdout().GetHead()) != "x\n" {
			t.Fatalf("%s: %v", brief(got), x)
		}
		r.box.Gate = make(chan struct{})
		r.send(execute("w", putFile("f", "x"), timeout(time.Minute)))
		r.want("accepted w")
		pass(2 * time.Minute)
		r.want("result w TIMEOUT")
		close(r.box.Gate)
	})
}
