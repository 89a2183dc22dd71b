package work

import (
	"strings"
	"testing"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/journal"
)

const out = pawlv1.Stream_STREAM_STDOUT

// E2: the same call again is answered with its present state and never run twice.
func TestE2Duplicate(t *testing.T) {
	within(t, func(r *rig) {
		e := execute("a", line("echo hi;sleep 1m;exit 3"))
		r.send(e)
		r.want("accepted a", "output a STDOUT 0+3")
		r.send(e)
		r.want("accepted a")
		pass(time.Hour)
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
		pass(time.Hour)
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
		pass(2 * time.Minute)
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
		pass(2 * attachWait)
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
		pass(time.Minute)
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
		pass(time.Minute)
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
