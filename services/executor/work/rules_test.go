package work

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/journal"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

const out = pawlv1.Stream_STREAM_STDOUT

// E1: an at-most-once call is on the disk before it starts, others need not be.
func TestE1Durable(t *testing.T) {
	within(t, func(r *rig) {
		r.down()
		var syncs atomic.Int32
		r.jcfg = journal.Config{Fsync: func(*os.File) error { syncs.Add(1); return nil }}
		r.up()
		r.connect()
		syncs.Store(0)
		r.box.OnStart = func(id string) error {
			if c, ok := r.j.Lookup(id); !ok || c.State != journal.Begun {
				t.Errorf("%s starts and is not in the journal", id)
			}
			if n := syncs.Load(); (n > 0) != (id == "amo") {
				t.Errorf("%s starts after %d syncs", id, n)
			}
			return nil
		}
		r.send(execute("pure", line("exit 0"), pure))
		r.want("accepted pure", "result pure exit 0")
		r.send(execute("idem", line("exit 0"), idempotent))
		r.want("accepted idem", "result idem exit 0")
		r.send(execute("amo", line("exit 0")))
		r.want("accepted amo", "result amo exit 0")
	})
}

// E1: what cannot be made durable does not run.
func TestE1Broken(t *testing.T) {
	within(t, func(r *rig) {
		r.down()
		var broken atomic.Bool
		r.jcfg = journal.Config{Fsync: func(*os.File) error {
			if broken.Load() {
				return errBroken
			}
			return nil
		}}
		r.up()
		r.connect()
		broken.Store(true)
		r.send(execute("a", line("exit 0")))
		r.want("rejected a NO_SPACE")
		r.runs("a", 0)
	})
}

// What is to end ends, although a full disk cannot remember who said so.
func TestE3FullDisk(t *testing.T) {
	within(t, func(r *rig) {
		r.down()
		var full atomic.Bool
		r.jcfg = journal.Config{NoSync: true, WriteAt: func(f *os.File, b []byte, off int64) (int, error) {
			if full.Load() {
				return 0, syscall.ENOSPC
			}
			return f.WriteAt(b, off)
		}}
		r.up()
		r.connect()
		r.send(execute("a", line("sleep 1h")))
		r.want("accepted a")
		full.Store(true)
		r.cancel("a", 7)
		r.want("result a exit 143")
		full.Store(false)
	})
}

// Control learns the new id of a journal that had to forget what is young.
func TestRenamedJournalReconnects(t *testing.T) {
	within(t, func(r *rig) {
		r.down()
		r.jcfg.Quota = 1000
		r.up()
		r.connect()
		id := r.j.ID()
		for i := range 20 {
			call := fmt.Sprint("c", i)
			r.send(execute(call, line("exit 0")))
			r.take()
			r.ack(call)
			synctest.Wait()
			if r.j.ID() == id {
				continue
			}
			r.s.mu.Lock()
			defer r.s.mu.Unlock()
			if !r.conn.closed {
				t.Error("the connection goes on under the old id")
			}
			return
		}
		t.Error("nothing was evicted")
	})
}

// What control sent to a journal that knew more is not done by one that has forgotten.
func TestRenamedJournalTakesNothing(t *testing.T) {
	within(t, func(r *rig) {
		r.down()
		r.jcfg.Quota = 1000
		r.up()
		conn := r.s.Connect(testWindow) // nobody calls Next, which would end it
		send := func(id string) {
			e := execute(id, line("exit 0"))
			conn.Receive(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Execute{Execute: e}})
			synctest.Wait()
		}
		for i := 0; r.j.ID() == conn.journal; i++ {
			call := fmt.Sprint("c", i)
			send(call)
			ack := &pawlv1.ResultAck{CallId: call}
			conn.Receive(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_ResultAck{ResultAck: ack}})
		}
		send("late")
		r.runs("late", 0)
	})
}

// E2: the same call again is answered with its present state and never run twice.
func TestE2Duplicate(t *testing.T) {
	within(t, func(r *rig) {
		e := execute("a", line("echo hi;sleep 1m;exit 3"))
		r.send(e)
		r.want("accepted a", "output a STDOUT 0+3")
		r.send(e)
		r.want("accepted a")
		time.Sleep(time.Hour)
		r.want("result a exit 3")
		r.send(e)
		r.want("result a exit 3")
		r.ack("a")
		r.send(e)
		r.want("status a TOMBSTONE")
		r.restart()
		r.send(e)
		r.want("status a TOMBSTONE")
		r.runs("a", 1)
	})
}

// E2: other arguments under a known id are a conflict, whatever the state.
func TestE2Conflict(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("a", line("sleep 1m")))
		r.want("accepted a")
		r.send(execute("a", line("echo other")))
		r.want("rejected a CONFLICT")
		time.Sleep(time.Hour)
		r.want("result a exit 0")
		r.send(execute("a", line("echo other")))
		r.want("rejected a CONFLICT")
		r.ack("a")
		r.restart()
		r.send(execute("a", line("echo other")))
		r.want("rejected a CONFLICT")
		r.runs("a", 1)
	})
}

// E3: a lower epoch than the highest seen is rejected, over restarts, and the rejection says which one is known.
func TestE3StaleEpoch(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("a", line("sleep 1h"), epoch(5)))
		r.want("accepted a")
		r.send(execute("b", line("exit 0"), epoch(4)))
		r.want("rejected b STALE_EPOCH, knows 5")
		r.cancel("a", 4)
		r.want("rejected a STALE_EPOCH, knows 5")
		r.cancel("unseen", 4)
		r.want("rejected unseen STALE_EPOCH, knows 5")
		// Attach raises it, whether the call is known or not.
		r.attach("a", 6, 1, 0, 0)
		r.want("status a RUNNING")
		r.send(execute("b", line("exit 0"), epoch(5)))
		r.want("rejected b STALE_EPOCH, knows 6")
		r.attach("c", 7, 1, 0, 0)
		r.want("status c UNKNOWN")
		r.send(execute("b", line("exit 0"), epoch(6)))
		r.want("rejected b STALE_EPOCH, knows 7")
		r.restart()
		r.send(execute("b", line("exit 0"), epoch(6)))
		r.want("rejected b STALE_EPOCH, knows 7")
		r.send(execute("b", line("exit 0"), epoch(7), pure))
		r.want("accepted b", "result b exit 0")
		// An Execute of a pure verb raises it at once, and so does a Cancel.
		r.box.Gate = make(chan struct{})
		r.send(execute("d", textVerb("none"), epoch(8), pure))
		r.want("accepted d")
		r.send(execute("e", line("exit 0"), epoch(7)))
		r.want("rejected e STALE_EPOCH, knows 8")
		close(r.box.Gate)
		r.want("result d NOT_FOUND")
		r.cancel("a", 9)
		r.want("result a exit 143")
		r.send(execute("e", line("exit 0"), epoch(8)))
		r.want("rejected e STALE_EPOCH, knows 9")
		r.runs("b", 1)
		r.runs("e", 0)
		r.runs("unseen", 0)
	})
}

// E3: after UNKNOWN the dispatch that was named never runs; a later one may.
func TestE3Revoked(t *testing.T) {
	within(t, func(r *rig) {
		r.attach("a", 1, 2, 0, 0)
		r.want("status a UNKNOWN")
		r.send(execute("a", line("exit 0"), dispatch(1)))
		r.want("rejected a REVOKED")
		r.send(execute("a", line("exit 0"), dispatch(2)))
		r.want("rejected a REVOKED")
		r.restart()
		r.send(execute("a", line("exit 0"), dispatch(2)))
		r.want("rejected a REVOKED")
		r.send(execute("a", line("exit 0"), dispatch(3)))
		r.want("accepted a", "result a exit 0")
		// The old Execute, still in the network, is a duplicate now.
		r.send(execute("a", line("exit 0"), dispatch(2)))
		r.want("result a exit 0")
		r.runs("a", 1)
	})
}

// E3: UNKNOWN is told only when the revocation is on the disk, and it binds at once.
func TestE3RevocationDurable(t *testing.T) {
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
		r.attach("a", 1, 1, 0, 0)
		r.want()
		r.send(execute("a", line("exit 0"), pure))
		r.want("rejected a REVOKED")
		close(gate)
		r.want("status a UNKNOWN")
	})
}

// E4: results stay until they are acknowledged, over connections and restarts.
func TestE4UntilAcknowledged(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("cmd", line("echo hi;exit 1")))
		r.send(execute("text", textVerb("none"), pure))
		r.send(execute("write", putFile("f", "content")))
		r.take()
		for range 2 {
			r.connect()
			time.Sleep(2 * attachWait)
			got := brief(r.take())
			for _, want := range []string{"result cmd exit 1", "result text NOT_FOUND", "result write file 7"} {
				if !strings.Contains(got, want) {
					t.Errorf("%q is not in %q", want, got)
				}
			}
			r.restart()
		}
		r.take()
		r.attach("cmd", 1, 1, 0, 0)
		r.want("status cmd FINISHED", "output cmd STDOUT 0+3", "result cmd exit 1")
		for _, id := range []string{"cmd", "text", "write"} {
			r.ack(id)
		}
		time.Sleep(time.Minute)
		if held := r.box.Held(); len(held) > 0 {
			t.Errorf("the sandbox still holds %v", held)
		}
		r.restart()
		time.Sleep(time.Minute)
		r.want()
		if got := r.inflight(); got != "" {
			t.Errorf("in flight: %s", got)
		}
		r.attach("text", 1, 1, 0, 0)
		r.want("status text TOMBSTONE")
	})
}

// E4: the sandbox forgets a command only after its acknowledgement is on the disk.
func TestE4ForgetAfterAck(t *testing.T) {
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
		r.send(execute("a", line("exit 0")))
		r.want("accepted a", "result a exit 0")
		slow.Store(true)
		r.ack("a")
		time.Sleep(time.Hour)
		if held := r.box.Held(); len(held) != 1 {
			t.Errorf("forgotten before the acknowledgement was durable")
		}
		close(gate)
		time.Sleep(time.Minute)
		if held := r.box.Held(); len(held) != 0 {
			t.Errorf("the sandbox still holds %v", held)
		}
	})
}

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

func TestCancelRunning(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("a", line("echo x;trap;sleep 1h")))
		r.want("accepted a", "output a STDOUT 0+2")
		r.cancel("a", 1)
		r.want()
		time.Sleep(time.Minute)
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

func TestCapacityAndDraining(t *testing.T) {
	within(t, func(r *rig) {
		r.down()
		r.slots = 2
		r.up()
		r.connect()
		r.send(execute("a", line("sleep 1m")))
		r.send(execute("b", line("sleep 1h")))
		r.take()
		r.send(execute("c", line("exit 0")))
		r.want("rejected c CAPACITY")
		time.Sleep(2 * time.Minute)
		r.want("result a exit 0")
		r.send(execute("c", line("exit 0"))) // a finished call takes no slot
		r.want("accepted c", "result c exit 0")
		r.s.Drain()
		r.want("draining")
		r.send(execute("d", line("exit 0")))
		r.want("rejected d DRAINING")
		r.send(execute("b", line("sleep 1h"))) // what is here is answered
		r.want("accepted b")
		r.connect()
		time.Sleep(2 * attachWait)
		if got := brief(r.take()); !strings.HasPrefix(got, "draining") {
			t.Error(got)
		}
	})
}

// Control sends a dispatch that was refused for want of a slot again, the same one: it runs once, when there is room.
func TestSameDispatchAfterCapacity(t *testing.T) {
	within(t, func(r *rig) {
		r.down()
		r.slots = 1
		r.up()
		r.connect()
		r.send(execute("a", line("sleep 1m")))
		r.want("accepted a")
		b := execute("b", line("exit 0"), epoch(2))
		r.send(b)
		r.send(b)
		r.want("rejected b CAPACITY", "rejected b CAPACITY")
		if _, known := r.j.Lookup("b"); known || r.inflight() != "a RUNNING" {
			t.Errorf("a refusal leaves a trace: in flight are %s", r.inflight())
		}
		r.send(execute("b", line("exit 0"), epoch(1))) // the lane has another owner since
		r.want("rejected b STALE_EPOCH, knows 2")
		time.Sleep(time.Minute)
		r.want("result a exit 0")
		r.send(b)
		r.want("accepted b", "result b exit 0")
		r.send(b)
		r.want("result b exit 0")
		r.ack("b")
		r.send(b)
		r.want("status b TOMBSTONE")
		r.runs("b", 1)
	})
}

// Who asks for a refused call instead of sending it again gets its revocation: only a later dispatch runs.
func TestRefusedCallThatIsAskedFor(t *testing.T) {
	within(t, func(r *rig) {
		r.down()
		r.slots = 1
		r.up()
		r.connect()
		r.send(execute("a", line("sleep 1m")))
		r.want("accepted a")
		r.send(execute("b", line("exit 0")))
		r.want("rejected b CAPACITY")
		r.attach("b", 1, 1, 0, 0)
		r.want("status b UNKNOWN")
		time.Sleep(time.Minute)
		r.want("result a exit 0")
		r.send(execute("b", line("exit 0")))
		r.want("rejected b REVOKED")
		r.send(execute("b", line("exit 0"), dispatch(2)))
		r.want("accepted b", "result b exit 0")
		r.runs("b", 1)
	})
}

// The same dispatch again starts a call only if nothing is known of it. Neither a full nor a draining executor, nor one
// that has room again, gives another answer for a call that is known.
func TestRulesOfTheSameDispatch(t *testing.T) {
	hash := []byte("hash")
	for name, c := range map[string]struct {
		facts facts
		want  verdict
	}{
		"unknown":                {want: start},
		"revoked":                {facts: facts{isBarred: true, revoked: 1}, want: reject},
		"an earlier one revoked": {facts: facts{isBarred: true}, want: start},
		"runs":                   {facts: facts{known: true, state: journal.Begun}, want: present},
		"finished":               {facts: facts{known: true, state: journal.Finished}, want: present},
		"interrupted":            {facts: facts{known: true, state: journal.Interrupted}, want: present},
		"interrupted, idempotent": {
			facts: facts{known: true, state: journal.Interrupted, safety: journal.Idempotent}, want: present,
		},
		"interrupted, pure": {
			facts: facts{known: true, state: journal.Interrupted, safety: journal.Pure}, want: present,
		},
		"acknowledged": {facts: facts{known: true, state: journal.Tombstone}, want: present},
		"finished, now revoked": {
			facts: facts{known: true, state: journal.Finished, isBarred: true, revoked: 9}, want: present,
		},
		"of an owner that is past": {facts: facts{epoch: 2}, want: reject},
	} {
		t.Run(name, func(t *testing.T) {
			f := c.facts
			f.args, f.dispatch = hash, 1
			for _, room := range []struct {
				slots    int
				draining bool
			}{{slots: 1}, {}, {slots: 1, draining: true}} {
				f.slots, f.draining = room.slots, room.draining
				want := c.want
				if want == start && (room.slots == 0 || room.draining) {
					want = reject
				}
				if got, why := onExecute(f, 1, 1, hash); got != want {
					t.Errorf("%+v: %d (%v), want %d", room, got, why, want)
				}
			}
		})
	}
}

func TestUnsupported(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("a"))
		r.want("rejected a UNSUPPORTED")
		r.send(execute("../a", line("exit 0")))
		r.want("rejected ../a UNSUPPORTED")
		r.cancel("../a", 1)
		r.want("rejected ../a UNSUPPORTED")
	})
}

func TestPing(t *testing.T) {
	within(t, func(r *rig) {
		ping := func(n uint64) {
			r.conn.Receive(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Ping{Ping: &pawlv1.Ping{Nonce: n}}})
		}
		ping(1)
		r.want("heartbeat 1 ")
		r.send(execute("a", line("exit 0")))
		r.take()
		r.attach("b", 1, 1, 0, 0)
		r.take()
		ping(2)
		r.want("heartbeat 2 a")
		r.connect()
		r.take()
		ping(3)
		r.want("heartbeat 3 ") // of this connection
	})
}

// A start whose outcome is not known is asked for until it is.
func TestStartInDoubt(t *testing.T) {
	within(t, func(r *rig) {
		r.box.Down(sandbox.ErrUnavailable)
		r.send(execute("a", line("exit 0")))
		time.Sleep(time.Minute)
		r.want()
		r.box.Down(nil)
		time.Sleep(time.Minute)
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
		time.Sleep(59 * time.Second)
		r.want()
		time.Sleep(2 * time.Second)
		got := r.take()
		x := got[len(got)-1].GetResult().GetExec()
		if x.GetExitCode() != 124 || !x.GetTimedOut() || string(x.GetStdout().GetHead()) != "x\n" {
			t.Fatalf("%s: %v", brief(got), x)
		}
		r.box.Gate = make(chan struct{})
		r.send(execute("w", putFile("f", "x"), timeout(time.Minute)))
		r.want("accepted w")
		time.Sleep(2 * time.Minute)
		r.want("result w TIMEOUT")
		close(r.box.Gate)
	})
}

// Calls of which nothing but this process knows are cut short by Close and leave no end behind.
func TestCloseRecordsNoEnd(t *testing.T) {
	within(t, func(r *rig) {
		r.box.Gate = make(chan struct{})
		r.send(execute("w", putFile("f", "x")))
		r.want("accepted w")
		r.s.Close()
		if c, _ := r.j.Lookup("w"); c.State != journal.Begun {
			t.Errorf("state %v", c.State)
		}
		close(r.box.Gate)
	})
}
