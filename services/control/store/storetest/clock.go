package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/store"
)

const (
	far     = 3 * time.Hour
	timeout = time.Hour
	pause   = time.Minute
)

// clockCases: times go on evenly while a replica lives, however the clock of the database's machine is set.
var clockCases = append(jumpCases(), []testCase{
	{"a replica that starts takes from the dead at once, while another lives", func(t *testing.T, db DB) {
		dead, alive := live(t, db.Store), live(t, db.Second)
		start(t, db.Store, "a", dead)
		db.Advance(leaseTTL - time.Second)
		renews(t, db.Second, alive)
		late := db.Start()
		heir := live(t, late)
		if got := takeOver(t, late, heir); len(got) != 0 {
			t.Errorf("took from the living: %+v", got)
		}
		db.Advance(2 * time.Second)
		if got := takeOver(t, late, heir); len(got) != 1 {
			t.Errorf("took over %d lanes of the dead", len(got))
		}
	}},
	{"one that starts just after the only one has died takes from it when its lease ends", func(t *testing.T, db DB) {
		start(t, db.Store, "a", live(t, db.Store))
		db.Advance(5 * time.Second)
		late := db.Start()
		heir := live(t, late)
		db.Advance(leaseTTL - 5*time.Second + time.Second)
		if got := takeOver(t, late, heir); len(got) != 1 {
			t.Errorf("took over %d lanes of the dead", len(got))
		}
	}},
	{"a replica that starts long after the last one has died takes from it within a lease", func(t *testing.T, db DB) {
		start(t, db.Store, "a", live(t, db.Store))
		db.Advance(timeout / 2)
		late := db.Start()
		heir := live(t, late)
		for range 4 {
			db.Advance(leaseTTL / 4)
			renews(t, late, heir)
		}
		got := takeOver(t, late, heir)
		if len(got) != 1 {
			t.Errorf("took over %d lanes of the dead", len(got))
		}
	}},
	{"a clock that goes back while nobody lives prolongs no lease", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		resting := start(t, db.Store, "b", h.owner(t))
		resting.release(t, lane.Release{Stalled: resting.id(), Cause: "it failed", Pause: pause})
		db.Advance(leaseTTL + 5*time.Second)
		db.Jump(-far)
		late := db.Start()
		heir := live(t, late)
		for range 5 {
			db.Advance(leaseTTL / 4)
			renews(t, late, heir)
		}
		if got := takeOver(t, late, heir); len(got) != 1 {
			t.Errorf("took over %d lanes of the dead", len(got))
		}
		db.Advance(pause)
		if got := claimed(t, late, heir, 1); len(got.Leases) != 1 {
			t.Errorf("a lane that rests is due in %v", got.Next)
		}
	}},
	{"replicas that stopped leave no doubt about the time", func(t *testing.T, db DB) {
		one, two := live(t, db.Store), live(t, db.Second)
		ok(t, db.Store.RemoveReplica(ctx(t), one))
		db.Advance(time.Second)
		ok(t, db.Second.RemoveReplica(ctx(t), two))
		db.Advance(timeout)
		late := db.Start()
		dead, heir := live(t, late), live(t, late)
		start(t, late, "a", dead)
		ok(t, late.RemoveReplica(ctx(t), dead))
		if got := takeOver(t, late, heir); len(got) != 1 {
			t.Errorf("took over %d lanes", len(got))
		}
	}},
}...)

// jumped is what a jump must not change.
type jumped struct {
	alive, dead string // replicas, that of Second and one that does not renew its lease any more
	runs, rests *holder
}

// beforeJump makes a lane that runs with a deadline, one that pauses after an error, and one of a replica that dies.
func beforeJump(t *testing.T, db DB) jumped {
	t.Helper()
	j := jumped{alive: live(t, db.Second), dead: live(t, db.Store)}
	a := admission("runs")
	a.Owner, a.Timeout = j.alive, timeout
	j.runs = hold(db.Second, *admit(t, db.Second, a).Lease)
	j.rests = start(t, db.Second, "rests", j.alive)
	j.rests.release(t, lane.Release{Stalled: j.rests.id(), Cause: "it failed", Pause: pause})
	start(t, db.Store, "dead", j.dead)
	return j
}

// goesOn checks that no time has passed but some seconds.
func (j *jumped) goesOn(t *testing.T, s store.Store, who string) {
	t.Helper()
	held, err := s.Own(ctx(t), j.alive)
	ok(t, err)
	if len(held) != 1 || (held[0].Ends.In-timeout).Abs() > 10*time.Second {
		t.Errorf("%s: what runs has %+v left", who, held)
	}
	if got := claimed(t, s, j.alive, 1); len(got.Leases) != 0 || (got.Next-pause).Abs() > 10*time.Second {
		t.Errorf("%s: what pauses is due in %v, %d lanes claimed", who, got.Next, len(got.Leases))
	}
	if got := takeOver(t, s, j.alive); len(got) != 0 {
		t.Errorf("%s: took from the living: %+v", who, got)
	}
	if ended, err := s.Force(ctx(t), 10); err != nil || len(ended) != 0 {
		t.Errorf("%s: settled %+v, %v", who, ended, err)
	}
	if _, found, err := s.OwnerOf(ctx(t), j.runs.session()); err != nil || !found {
		t.Errorf("%s: the owner is taken for dead, %v", who, err)
	}
}

func jumpCases() (cases []testCase) {
	for name, by := range map[string]time.Duration{"forwards": far, "back": -far} {
		cases = append(cases, testCase{"a jump " + name + " changes nothing", func(t *testing.T, db DB) {
			j := beforeJump(t, db)
			for i, by := range []time.Duration{by, -by, -by, 2 * by} {
				db.Jump(by)
				j.goesOn(t, db.Store, fmt.Sprint("nobody has looked at jump ", i))
				renews(t, db.Store, j.dead)
				renews(t, db.Second, j.alive)
				for who, s := range map[string]store.Store{"one": db.Store, "two": db.Second, "new": db.Start()} {
					j.goesOn(t, s, fmt.Sprint(who, " after jump ", i))
				}
			}
			db.Advance(leaseTTL - time.Second)
			renews(t, db.Second, j.alive)
			db.Advance(2 * time.Second)
			if got := takeOver(t, db.Second, j.alive); len(got) != 1 {
				t.Errorf("took over %d lanes of the dead", len(got))
			}
			db.Advance(pause - leaseTTL)
			if got := claimed(t, db.Second, j.alive, 1); len(got.Leases) != 1 {
				t.Errorf("what pauses is due in %v", got.Next)
			}
			db.Advance(timeout - pause + lane.ForceGrace)
			if ended, err := db.Second.Force(ctx(t), 10); err != nil || len(ended) != 1 {
				t.Errorf("settled %+v, %v", ended, err)
			}
		}}, testCase{"one that starts after a jump " + name + " follows those that live", func(t *testing.T, db DB) {
			j := beforeJump(t, db)
			db.Jump(by)
			late := db.Start()
			heir := live(t, late)
			if got := takeOver(t, late, heir); len(got) != 0 {
				t.Fatalf("took from the living: %+v", got)
			}
			renews(t, db.Second, j.alive)
			renews(t, late, heir)
			j.goesOn(t, late, "new")
			j.goesOn(t, db.Second, "old")
		}}, testCase{"one that has seen a jump " + name + " dies and another one starts", func(t *testing.T, db DB) {
			j := beforeJump(t, db)
			db.Jump(by)
			renews(t, db.Second, j.alive)
			late := db.Start()
			live(t, late)
			j.goesOn(t, late, "new")
		}})
	}
	return cases
}

func renews(t *testing.T, s store.Store, id string) {
	t.Helper()
	renewed, err := s.RenewReplica(ctx(t), id, leaseTTL)
	ok(t, err)
	if !renewed {
		t.Errorf("a replica that lives could not renew its lease")
	}
}
