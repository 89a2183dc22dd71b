package journal

import (
	"fmt"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A year of one new lane per second, each with a short call that is acknowledged at once. Everything is a 500th
// of that, the lanes and the quota, so that the ratio of what comes to what may stay is the true one.
func TestAYearOfSessions(t *testing.T) {
	const scale = 500
	for name, revoke := range map[string]bool{"calls": false, "calls and revocations": true} {
		t.Run(name, func(t *testing.T) {
			now, cfg := t0, Config{NoSync: true, Quota: 64 << 20 / scale}
			cfg.Clock = func() time.Duration { return now }
			j := open(t, t.TempDir(), cfg)
			first := j.ID()
			for n := range 365 * 24 * 3600 / scale {
				now += scale * time.Second
				oneSession(t, j, n, revoke)
				if j.x.live > cfg.Quota+1000 || j.end > 4*cfg.Quota+compactAbove {
					t.Fatalf("after %d lanes: %d bytes live, %d in the file", n, j.x.live, j.end)
				}
			}
			if !revoke && j.ID() != first {
				t.Error("the journal had to forget what is younger than two days")
			}
			for n := range int(proves/time.Second) / scale {
				lane := fmt.Sprintf("01a22a62-59a1-78a5-a9b3-%012d", 365*24*3600/scale-1-n)
				if j.Epoch(lane) != 1 && !revoke {
					t.Fatalf("the fence of a lane is gone %v after its use", time.Duration(n*scale)*time.Second)
				}
			}
		})
	}
}

func oneSession(t *testing.T, j *Journal, n int, revoke bool) {
	t.Helper()
	b := Begin{
		CallID: fmt.Sprintf("01b22a62-59a1-78a5-a9b3-%012d", n),
		LaneID: fmt.Sprintf("01a22a62-59a1-78a5-a9b3-%012d", n),
		Epoch:  1, Dispatch: 1, Args: make([]byte, 32),
	}
	_, err := j.Begin(b)
	if err == nil && revoke {
		_, err = j.Revoke(fmt.Sprintf("01c22a62-59a1-78a5-a9b3-%012d", n), 1)
	}
	if err == nil {
		_, err = j.End(b, Finished, []byte("ok"))
	}
	if err == nil {
		_, err = j.Ack(b.CallID)
	}
	if err == nil {
		_, err = j.Sweep()
	}
	if err != nil {
		t.Fatalf("lane %d: %v", n, err)
	}
}

// Whatever the quota and the times to live take, in whatever order things happen and over restarts: a fence outlives
// every call of its lane, a call that is held stays, and while the journal has its id it knows all that owners used
// within two days.
func TestWhatMayBeForgotten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "journal")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		now := t0
		quota := rapid.Int64Range(500, 5000).Draw(t, "quota")
		cfg := Config{Clock: func() time.Duration { return now }, NoSync: true, Quota: quota}
		j, err := Open(dir, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { j.Close() }()
		w := witness{id: j.ID()}
		w.reset()
		number := rapid.IntRange(0, 12)
		call := func() Begin {
			n := number.Draw(t, "call")
			id, lane := fmt.Sprint("call-", n), fmt.Sprint("lane-", n%4)
			return Begin{CallID: id, LaneID: lane, Epoch: int64(n), Dispatch: 1}
		}
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(*rapid.T) {
				b := call()
				if _, known := j.Lookup(b.CallID); known {
					return
				}
				if _, err := j.Begin(b); err == nil {
					w.calls[b.CallID], w.lanes[b.LaneID] = now, now
				}
			},
			"end": func(*rapid.T) { b := call(); w.must(t, j, b, now) },
			"ack": func(*rapid.T) { b := call(); _, err = j.Ack(b.CallID); w.noError(t, err) },
			"raise": func(*rapid.T) {
				b := call()
				_, err = j.Raise(b.LaneID, b.Epoch+1)
				w.noError(t, err)
				w.lanes[b.LaneID] = now
			},
			"revoke": func(*rapid.T) {
				b := call()
				_, err = j.Revoke("x"+b.CallID, 1)
				w.noError(t, err)
				w.revoked["x"+b.CallID] = now
			},
			"hours": func(t *rapid.T) {
				now += time.Duration(rapid.IntRange(1, 30).Draw(t, "hours")) * time.Hour
			},
			"sweep": func(t *rapid.T) { _, err := j.Sweep(); w.noError(t, err) },
			"reopen": func(t *rapid.T) {
				w.noError(t, j.Compact())
				j.Close()
				j, err = Open(dir, cfg)
				w.noError(t, err)
			},
			"": func(t *rapid.T) { w.check(t, j, now) },
		})
	})
}

// witness remembers when owners used what, since the journal has its id.
type witness struct {
	id                    string
	calls, lanes, revoked map[string]time.Duration
}

func (w *witness) reset() {
	w.calls, w.lanes, w.revoked = map[string]time.Duration{}, map[string]time.Duration{}, map[string]time.Duration{}
}

func (w *witness) noError(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

// must ends a call that was begun.
func (w *witness) must(t *rapid.T, j *Journal, b Begin, now time.Duration) {
	if _, known := j.Lookup(b.CallID); !known {
		w.calls[b.CallID], w.lanes[b.LaneID] = now, now
	}
	_, err := j.End(b, Finished, make([]byte, 100))
	w.noError(t, err)
}

func (w *witness) check(t *rapid.T, j *Journal, now time.Duration) {
	if j.ID() != w.id {
		w.id = j.ID()
		w.reset()
	}
	for c := range j.Calls(func(*Call) bool { return true }) {
		if j.Epoch(c.LaneID) < c.Epoch {
			t.Fatalf("%s has epoch %d, the fence of its lane %d", c.CallID, c.Epoch, j.Epoch(c.LaneID))
		}
	}
	for id, at := range w.calls {
		if _, ok := j.Lookup(id); !ok && now-at < proves-renew {
			t.Fatalf("%s is forgotten after %v", id, now-at)
		}
	}
	for id, at := range w.lanes {
		if _, ok := j.x.lanes[id]; !ok && now-at < proves-renew {
			t.Fatalf("the fence of %s is forgotten after %v", id, now-at)
		}
	}
	for id, at := range w.revoked {
		if _, ok := j.Revoked(id); !ok && now-at < proves-renew {
			t.Fatalf("the revocation of %s is forgotten after %v", id, now-at)
		}
	}
	var size int64
	for m := j.x.aged.first; m != nil; m = m.next {
		if m.next != nil && m.next.at < m.at {
			t.Fatal("the queue is out of order")
		}
		size += m.cost
	}
	if size != j.x.aged.cost {
		t.Fatalf("%d bytes are in the queue, which counts %d", size, j.x.aged.cost)
	}
}
