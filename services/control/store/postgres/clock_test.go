package postgres

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pawl-dev/pawl/services/control/replica"
)

// world is replicas that share a row of the table clock, on a server whose clock jumps.
type world struct {
	t        *rapid.T      // nil outside of a property
	real     time.Duration // that has passed
	jumped   time.Duration // of the server's clock
	ahead    time.Duration // the row
	seen     time.Time     // the row
	replicas []*one
	leases   []time.Time // of all replicas that ever lived
}

type one struct {
	clock clock
	lease int
	last  time.Duration // when it renewed its lease
	knew  bool          // the time, when it did
	away  time.Duration // until when it cannot reach the server
}

// trusted is for how long a replica trusts its own lease: after that it has given itself up.
const trusted = replica.TTL - 3*time.Second

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (w *world) server() time.Time { return start.Add(w.real + w.jumped) }

// truth is the time that the platform's clock should tell, if one has always lived.
func (w *world) truth() time.Time { return start.Add(w.real) }

// look is what a replica sees.
func (w *world) look(r *one) look {
	here := r.clock.elapsed()
	l := look{server: w.server(), ahead: w.ahead, seen: w.seen, asked: here, now: here}
	for _, expires := range w.leases {
		l.leases = l.leases || expires.After(w.seen)
	}
	return l
}

func (w *world) judge(r *one) {
	if v := r.clock.judge(w.look(r)); v.vouches {
		w.ahead, w.seen = v.ahead, v.seen
	}
}

func (w *world) renew(r *one) {
	w.judge(r)
	w.leases[r.lease], r.last, r.knew = r.clock.now().Add(replica.TTL), w.real, r.clock.certain()
}

func (w *world) start() *one {
	r := &one{lease: len(w.leases)}
	r.clock.elapsed = func() time.Duration { return w.real }
	w.leases = append(w.leases, time.Time{})
	w.renew(r)
	w.replicas = append(w.replicas, r)
	return r
}

// However the server's clock jumps, and whichever replicas start and die: as long as one lives, no replica that may
// take lanes from the dead is ahead by more than a jump that is too small to matter, or behind by more than jumps that
// looked like no time while replicas were cut off. None takes lanes from the living.
func TestClockOfManyReplicas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, seen: time.Unix(0, 0)}
		w.start()
		for range rapid.IntRange(1, 100).Draw(t, "seconds") {
			w.real += time.Second
			if rapid.IntRange(0, 9).Draw(t, "jumps") == 0 {
				by := time.Duration(rapid.IntRange(10, 20000).Draw(t, "by")) * time.Second
				if rapid.Bool().Draw(t, "back") {
					by = -by
				}
				w.jumped += by
			}
			if rapid.IntRange(0, 9).Draw(t, "starts") == 0 && len(w.replicas) < 5 {
				w.start()
			}
			if n := len(w.replicas); n > 1 && rapid.IntRange(0, 9).Draw(t, "dies") == 0 {
				w.die(rapid.IntRange(0, n-1).Draw(t, "who"))
			}
			for _, r := range w.replicas {
				if w.real >= r.away+4*time.Second && rapid.IntRange(0, 19).Draw(t, "is cut off") == 0 {
					r.away = w.real + time.Duration(rapid.IntRange(1, 7).Draw(t, "for"))*time.Second
				}
				if w.real < r.away {
					continue
				}
				if w.real-r.last >= 4*time.Second {
					w.renew(r)
				} else if !r.clock.agrees(w.look(r)) {
					w.judge(r)
				}
			}
			w.check()
		}
	})
}

// die is the death of a replica, if one is left that knows the time.
func (w *world) die(i int) {
	for k, r := range w.replicas {
		if k != i && r.clock.certain() && w.real-r.last < trusted {
			w.replicas = append(w.replicas[:i:i], w.replicas[i+1:]...)
			return
		}
	}
}

func (w *world) check() {
	for i, r := range w.replicas {
		if !r.clock.certain() {
			continue
		}
		if off := r.clock.now().Sub(w.truth()); off > vouchedFor || off < -4*replica.TTL {
			w.t.Fatalf("replica %d is off by %v", i, off)
		}
		for k, other := range w.replicas {
			lives := other.knew && w.real-other.last < trusted
			if lives && !w.leases[other.lease].After(r.clock.now()) {
				w.t.Fatalf("replica %d takes %d for dead", i, k)
			}
		}
	}
}

// A replica that was suspended believes those that were not. One that was alone believes itself.
func TestClockOfASuspendedReplica(t *testing.T) {
	for name, alone := range map[string]bool{"alone": true, "beside others": false} {
		w := &world{seen: time.Unix(0, 0)}
		slept := time.Duration(0)
		r := w.start()
		r.clock.elapsed = func() time.Duration { return w.real - slept }
		other := w.start()
		for range 3602 {
			w.real += time.Second
			slept += time.Second
			if !alone && w.real%(4*time.Second) == 0 {
				w.renew(other)
			}
		}
		if r.clock.agrees(w.look(r)) {
			t.Errorf("%s: it agrees with a clock that an hour has passed on", name)
		}
		w.judge(r)
		want := w.truth()
		if alone {
			want = start
		}
		if got := r.clock.now(); got.Sub(want).Abs() > time.Second {
			t.Errorf("%s: it is %v, want %v", name, got, want)
		}
	}
}
