package work

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/executor/journal"
)

// E5: calls go on without a connection.
func TestE5GoesOn(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("a", line("echo 1;sleep 1m;echo 2;add f done")))
		r.want("accepted a", "output a STDOUT 0+2")
		r.disconnect()
		time.Sleep(time.Hour)
		if c, ok := r.box.Get("f"); !ok || c != "done\n" {
			t.Fatalf("the command did not go on: %q", c)
		}
		if got := r.inflight(); got != "a FINISHED" {
			t.Fatalf("in flight: %s", got)
		}
		r.connect()
		r.want() // control has a moment to attach
		r.attach("a", 1, 1, 2, 0)
		r.want("status a FINISHED", "output a STDOUT 2+2", "result a exit 0")
	})
}

// E6: after a restart a command that runs goes on and one that ended has its true result.
func TestE6FoundAgain(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("long", line("echo 1;sleep 1h;echo 2")))
		r.send(execute("short", line("echo x;sleep 1m;exit 7")))
		r.take()
		r.down()
		time.Sleep(10 * time.Minute)
		r.up()
		synctest.Wait()
		if got := r.inflight(); got != "long RUNNING, short FINISHED" {
			t.Fatalf("in flight: %s", got)
		}
		r.connect()
		r.attach("long", 2, 1, 2, 0)
		r.want("status long RUNNING")
		r.attach("short", 2, 1, 0, 0)
		r.want("status short FINISHED", "output short STDOUT 0+2", "result short exit 7")
		time.Sleep(2 * time.Hour)
		r.want("output long STDOUT 2+2", "result long exit 0")
		r.send(execute("long", line("echo 1;sleep 1h;echo 2"), epoch(2)))
		r.want("result long exit 0")
		r.runs("long", 1)
		r.runs("short", 1)
	})
}

// E6: a command that was begun and whose end nobody saw is interrupted, if it must not run twice.
func TestE6Interrupted(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("amo", line("sleep 1h")))
		r.send(execute("idem", line("sleep 1h"), idempotent))
		r.take()
		r.down()
		r.box.Crash()
		r.up()
		if got := r.inflight(); got != "amo INTERRUPTED" {
			t.Fatalf("in flight: %s", got)
		}
		r.connect()
		r.want("result amo INTERRUPTED")
		r.attach("amo", 1, 1, 0, 0)
		r.want("status amo INTERRUPTED", "result amo INTERRUPTED")
		r.send(execute("amo", line("sleep 1h"), dispatch(2)))
		r.want("result amo INTERRUPTED")
		r.attach("idem", 1, 1, 0, 0)
		r.want("status idem UNKNOWN")
		r.send(execute("idem", line("sleep 1h"), idempotent, dispatch(2)))
		r.want("accepted idem")
		r.restart()
		r.want("result amo INTERRUPTED") // still, and not decided anew
		r.runs("amo", 1)
		r.runs("idem", 2)
	})
}

// The keeper dies while the daemon lives: the same outcome, at once; what may run again may be dispatched anew.
func TestInterruptedAlive(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("amo", line("echo x;sleep 1h")))
		r.want("accepted amo", "output amo STDOUT 0+2")
		r.send(execute("idem", line("sleep 1h"), idempotent))
		r.want("accepted idem")
		r.box.Crash()
		got := brief(r.take())
		if !strings.Contains(got, "result amo INTERRUPTED") || !strings.Contains(got, "result idem INTERRUPTED") {
			t.Fatal(got)
		}
		r.send(execute("amo", line("echo x;sleep 1h"), dispatch(2)))
		r.want("result amo INTERRUPTED")
		r.send(execute("idem", line("sleep 1h"), idempotent, dispatch(1)))
		r.want("result idem INTERRUPTED")
		r.send(execute("idem", line("sleep 1h"), idempotent, dispatch(2)))
		r.want("accepted idem")
		r.runs("amo", 1)
		r.runs("idem", 2)
	})
}

// E6: a command that the sandbox never heard of never ran: UNKNOWN, and revoked.
func TestE6NeverRan(t *testing.T) {
	within(t, func(r *rig) {
		// BEGIN is durable, and the daemon dies before Start.
		lsn, err := r.j.Begin(journal.Begin{
			CallID: "a", LaneID: "s", Epoch: 1, Dispatch: 1, Exec: true, Witness: r.s.cfg.Witness(),
			Args: execute("a", line("exit 0")).ArgsSha256,
		})
		if err != nil || r.j.Wait(lsn) != nil {
			t.Fatal(err)
		}
		r.restart()
		if got := r.inflight(); got != "" {
			t.Fatalf("in flight: %s", got)
		}
		r.attach("a", 1, 1, 0, 0)
		r.want("status a UNKNOWN")
		r.send(execute("a", line("exit 0")))
		r.want("rejected a REVOKED")
		r.send(execute("a", line("exit 0"), dispatch(2)))
		r.want("accepted a", "result a exit 0")
		r.runs("a", 1)
	})
}

// E6: "never started" proves something only if whoever says so would have been asked to start the command. It proves
// nothing when nobody is known who would have been asked, and no clock makes up for that.
func TestE6NeverStarted(t *testing.T) {
	for name, c := range map[string]struct{ before, after, want string }{
		"the same witness": {before: "k1", after: "k1"},
		"another witness":  {before: "k1", after: "k2", want: "a INTERRUPTED"},
		"nobody was there": {want: "a INTERRUPTED"},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(r *rig) {
				r.down()
				r.witness = func() string { return c.before }
				r.up()
				r.connect()
				r.send(execute("a", line("sleep 1m")))
				r.want("accepted a")
				r.down()
				time.Sleep(time.Hour)
				if err := r.box.Forget(context.Background(), "a"); err != nil {
					t.Fatal(err)
				}
				r.witness = func() string { return c.after }
				r.up()
				if got := r.inflight(); got != c.want {
					t.Errorf("in flight: %q, want %q", got, c.want)
				}
			})
		})
	}
}

// E6: a file verb that was begun and cut short is interrupted if it must not run twice, and unknown otherwise.
func TestE6Verbs(t *testing.T) {
	within(t, func(r *rig) {
		r.box.Gate = make(chan struct{})
		r.send(execute("amo", putFile("a", "x")))
		r.send(execute("idem", putFile("b", "x"), idempotent))
		r.send(execute("pure", textVerb("b"), pure))
		r.take()
		r.down()
		close(r.box.Gate)
		r.up()
		if got := r.inflight(); got != "amo INTERRUPTED" {
			t.Fatalf("in flight: %s", got)
		}
		r.connect()
		r.want("result amo INTERRUPTED")
		for _, id := range []string{"idem", "pure"} {
			r.attach(id, 1, 1, 0, 0)
			r.want("status " + id + " UNKNOWN")
		}
	})
}
