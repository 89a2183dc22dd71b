package work

import (
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
)

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
