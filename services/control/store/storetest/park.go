package storetest

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/store"
)

// moveMail delivers what was posted.
func moveMail(t tester, s store.Store) []lane.Mailed {
	t.Helper()
	got, err := s.MoveMail(ctx(t))
	ok(t, err)
	return got
}

// mail posts mail for lanes, and delivers it.
func mail(t tester, s store.Store, laneIDs ...string) {
	t.Helper()
	ok(t, s.Post(ctx(t), laneIDs...))
	moveMail(t, s)
}

// parked commits a park, and wants it to rest or not.
func (h *holder) parked(t tester, d *draft, want bool) lane.Committed {
	t.Helper()
	out := h.commit(t, d)
	if out.Parked != want {
		t.Fatalf("parked: %v, want %v", out.Parked, want)
	}
	return out
}

// resting starts a lane and parks it.
func resting(t tester, db DB, owner string, d time.Duration) *holder {
	t.Helper()
	h := start(t, db.Store, ident.New(), owner)
	h.parked(t, h.park(d), true)
	return h
}

// parkCases force every order of a park, the mail that it could miss, and what else may happen to its lane.
var parkCases = []testCase{
	{"rests a lane without an owner, its facts committed, until its time", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := startWithin(t, db.Store, "a", owner, time.Hour)
		c := h.park(time.Minute)
		c.Entries = h.step(1).Entries
		out := h.parked(t, c, true)
		equal(t, "the answer", out, lane.Committed{Parked: true, Ends: h.lease.Ends})
		if got := consistent(t, db.Second, h.session()); got.Owner != "" || len(got.Entries) != 2 {
			t.Errorf("at rest: %+v", got)
		}
		if got := claim(t, db.Second, owner, 10); len(got) != 0 {
			t.Fatalf("claimed too early: %+v", got)
		}
		db.Advance(time.Minute)
		next := claimOne(t, db.Second, owner)
		h.lease.Fence.Epoch, h.lease.Ends.In = 2, 59*time.Minute
		equal(t, "the lease", next.lease, h.lease)
	}},
	{"ends with the head's time", func(t *testing.T, db DB) {
		h := startWithin(t, db.Store, "a", live(t, db.Store), time.Minute)
		h.parked(t, h.park(lane.Never), true)
		db.Advance(time.Minute)
		claimOne(t, db.Second, live(t, db.Second))
	}},
	{"without an end waits for mail alone", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := resting(t, db, owner, lane.Never)
		db.Advance(1000 * time.Hour)
		if got := claimed(t, db.Second, owner, 10); len(got.Leases) != 0 || got.Next != lane.Never {
			t.Fatalf("claimed %+v", got)
		}
		mail(t, db.Second, h.session())
		claimOne(t, db.Second, owner)
	}},
	{"after mail that was seen rests", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		mail(t, db.Second, h.session())
		if h.lease.Mail = h.commit(t, h.step(0)).Mail; h.lease.Mail != 1 { // and looks at the facts after this
			t.Fatalf("mail is %d", h.lease.Mail)
		}
		h.parked(t, h.park(lane.Never), true)
	}},
	{"after mail that came since the look stays, with its facts committed", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		mail(t, db.Second, h.session())
		c := h.park(lane.Never)
		c.Entries = h.step(1).Entries
		out := h.parked(t, c, false)
		if got := consistent(t, db.Store, h.session()); len(got.Entries) != 2 || got.Owner == "" || out.Mail != 1 {
			t.Errorf("answered %+v, the lane is %+v", out, got)
		}
		h.lease.Mail = out.Mail // looks again
		h.parked(t, h.park(lane.Never), true)
	}},
	{"before mail is woken by it", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := resting(t, db, owner, lane.Never)
		ok(t, db.Second.Post(ctx(t), h.session()))
		moveMail(t, db.Second)
		if got := claimOne(t, db.Store, owner); got.lease.Mail != 1 {
			t.Errorf("mail is %d", got.lease.Mail)
		}
	}},
	{"between the post of mail and its delivery is woken by the delivery", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := start(t, db.Store, "a", owner)
		ok(t, db.Second.Post(ctx(t), h.session()))
		if out := h.commit(t, h.park(lane.Never)); !out.Parked { // one that delivers at once
			h.lease.Mail = out.Mail
			moveMail(t, db.Second)
			h.parked(t, h.park(lane.Never), true)
			return
		}
		if got := claim(t, db.Store, owner, 10); len(got) != 0 {
			t.Fatalf("claimed %+v before anything was delivered", got)
		}
		moveMail(t, db.Second)
		claimOne(t, db.Store, owner)
	}},
	{"is woken once by mail that comes twice, and once more while it is due", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := resting(t, db, owner, time.Hour)
		ok(t, db.Second.Post(ctx(t), h.session()))
		ok(t, db.Second.Post(ctx(t), h.session()))
		moveMail(t, db.Second)
		mail(t, db.Second, h.session())
		if got := claimOne(t, db.Store, owner); got.lease.Mail != 3 {
			t.Errorf("mail is %d, want 3", got.lease.Mail)
		}
		if got := claim(t, db.Store, owner, 10); len(got) != 0 {
			t.Errorf("claimed again: %+v", got)
		}
	}},
	{"by mail and time at once is woken once, and nothing is lost", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := resting(t, db, owner, time.Minute)
		db.Advance(time.Hour)
		mail(t, db.Second, h.session())
		got := claimOne(t, db.Store, owner)
		if got.lease.Mail != 1 || got.lease.Fence.Epoch != 2 || len(claim(t, db.Store, owner, 10)) != 0 {
			t.Errorf("claimed %+v", got.lease)
		}
	}},
	{"with a stale epoch writes nothing", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		heir := h.die(t, db.Second)
		before := read(t, db.Store, h.session())
		_, err := db.Store.Commit(ctx(t), h.park(lane.Never).commit())
		refused(t, err, lane.ErrFenced)
		equal(t, "the session", read(t, db.Store, h.session()), before)
		heir.commit(t, heir.end(false))
	}},
	{"whose answer was lost is told from a fence", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		c := h.park(lane.Never)
		h.parked(t, c, true)
		out, err := db.Second.Commit(ctx(t), c.commit())
		if ok(t, err); !out.Parked {
			t.Errorf("answered %+v", out)
		}
		mail(t, db.Second, h.session())
		claimOne(t, db.Second, live(t, db.Second))
		_, err = db.Store.Commit(ctx(t), c.commit())
		refused(t, err, lane.ErrFenced)
	}},
	{"meets an abort: before it, it stays, and after it, it is due", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := start(t, db.Store, "a", owner)
		abort(t, db.Second, h.id())
		if out := h.parked(t, h.park(lane.Never), false); out.Ends.Why != lane.Abort {
			t.Errorf("answered %+v", out)
		}
		h.commit(t, h.end(false))
		h = resting(t, db, owner, lane.Never)
		abort(t, db.Second, h.id())
		if got := claimOne(t, db.Store, owner); got.lease.Ends.Why != lane.Abort {
			t.Errorf("claimed %+v", got.lease)
		}
	}},
	{"and mail of lanes that are gone block nobody", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		gone, h := resting(t, db, owner, lane.Never), resting(t, db, owner, lane.Never)
		ok(t, db.Store.Post(ctx(t), gone.session(), ident.New()))
		db.Forget(gone.session())
		mail(t, db.Second, ident.New(), h.session())
		if got := claimOne(t, db.Store, owner); got.session() != h.session() {
			t.Errorf("claimed %+v", got.lease)
		}
		if got := moveMail(t, db.Store); len(got) != 0 {
			t.Errorf("what was posted to nobody is still there: %+v", got)
		}
	}},
	{"owners of running lanes are told of mail, once", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := start(t, db.Store, "a", owner)
		ok(t, db.Second.Post(ctx(t), h.session()))
		equal(t, "the mail", moveMail(t, db.Second), []lane.Mailed{{LaneID: h.session(), Owner: owner}})
		equal(t, "the mail", moveMail(t, db.Store), []lane.Mailed{})
		rests := resting(t, db, owner, lane.Never)
		ok(t, db.Second.Post(ctx(t), rests.session()))
		equal(t, "the mail", moveMail(t, db.Second), []lane.Mailed{{LaneID: rests.session()}})
	}},
	// A negative control: what happens to an owner that breaks the rule.
	{"loses a fact when the counter is read after the look", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := start(t, db.Store, "a", owner)
		// It looks at the facts here, and finds none.
		mail(t, db.Second, h.session())
		h.lease.Mail = h.commit(t, h.step(0)).Mail
		h.parked(t, h.park(lane.Never), true)
		if got := claim(t, db.Store, owner, 10); len(got) != 0 {
			t.Errorf("it was woken: the order does not matter, and the rule is not needed: %+v", got)
		}
	}},
	{"and mail at once lose no wake-up", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		for range 30 {
			h := start(t, db.Store, ident.New(), owner)
			var out lane.Committed
			var posted atomic.Bool
			together(t, 3, func(i int) (err error) {
				switch i {
				case 0:
					out, err = db.Store.Commit(ctx(t), h.park(lane.Never).commit())
				case 1:
					err = db.Second.Post(ctx(t), h.session())
					posted.Store(true)
				default:
					for !posted.Load() && err == nil {
						_, err = either(db, i).MoveMail(ctx(t))
					}
				}
				return err
			})
			moveMail(t, db.Store)
			db.Advance(100 * time.Millisecond) // the clock of who has moved the mail may be a little ahead
			if got := claim(t, db.Second, owner, 10); out.Parked != (len(got) == 1) {
				t.Fatalf("parked: %v, claimed %+v", out.Parked, got)
			}
		}
	}},
}
