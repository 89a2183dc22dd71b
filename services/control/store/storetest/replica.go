package storetest

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/replica"
)

var replicaCases = []testCase{
	{"live until their lease ends", func(t *testing.T, db DB) {
		r := replica.Replica{ID: ident.New(), Addr: "addr:1", Version: "v1", Host: "host", Lock: "/lock"}
		_, err := db.Store.RegisterReplica(ctx(t), r, leaseTTL)
		ok(t, err)
		h := start(t, db.Store, "a", r.ID)
		owner, found, err := db.Second.OwnerOf(ctx(t), h.session())
		ok(t, err)
		if !found {
			t.Error("a live owner was not found")
		}
		equal(t, "the owner", owner, r)
		db.Advance(leaseTTL)
		if _, found, err = db.Second.OwnerOf(ctx(t), h.session()); err != nil || found {
			t.Errorf("a dead owner was found (%v)", err)
		}
	}},
	{"renew while they live and never after", func(t *testing.T, db DB) {
		id := live(t, db.Store)
		renew := func(want bool) {
			t.Helper()
			got, err := db.Second.RenewReplica(ctx(t), id, leaseTTL)
			ok(t, err)
			if got != want {
				t.Errorf("renewed: %v, want %v", got, want)
			}
		}
		for range 3 {
			db.Advance(leaseTTL - time.Second)
			renew(true)
		}
		db.Advance(leaseTTL + time.Second)
		renew(false)
		renew(false)
		id = live(t, db.Store)
		ok(t, db.Store.RemoveReplica(ctx(t), id))
		renew(false)
		id = ident.New()
		renew(false)
	}},
	{"either renew or are taken from", func(t *testing.T, db DB) {
		const n = 10
		heir := live(t, db.Store)
		for range n {
			id := live(t, db.Store)
			h := start(t, db.Store, ident.New(), id)
			db.Advance(leaseTTL)
			_, err := db.Store.RegisterReplica(ctx(t), replica.Replica{ID: heir}, leaseTTL)
			ok(t, err)
			var renewed atomic.Bool
			taken := 0
			together(t, 2, func(i int) error {
				if i == 0 {
					got, err := db.Store.RenewReplica(ctx(t), id, leaseTTL)
					renewed.Store(got)
					return err
				}
				out, err := db.Second.TakeOver(ctx(t), heir, nil, 10)
				taken = len(out.Leases)
				return err
			})
			if renewed.Load() || taken != 1 {
				t.Fatalf("after the lease: renewed %v, taken over %d", renewed.Load(), taken)
			}
			ok(t, db.Store.RemoveReplica(ctx(t), id))
			h = hold(db.Store, h.lease)
			h.lease.Fence.Epoch++
			h.commit(t, h.end(false))
		}
	}},
	{"tell their predecessors at the same lock", func(t *testing.T, db DB) {
		register := func(host, lock string) (string, []string) {
			t.Helper()
			r := replica.Replica{ID: ident.New(), Host: host, Lock: lock}
			dead, err := db.Store.RegisterReplica(ctx(t), r, leaseTTL)
			ok(t, err)
			return r.ID, dead
		}
		first, _ := register("host", "/lock")
		register("other", "/lock")
		register("host", "/other")
		register("", "")
		register("host", "")
		register("", "/lock")
		h := start(t, db.Store, "a", first)
		if _, dead := register("", ""); len(dead) != 0 {
			t.Errorf("no lock proves %v dead", dead)
		}
		second, dead := register("host", "/lock")
		equal(t, "the predecessors", dead, []string{first})
		if got, err := db.Store.RenewReplica(ctx(t), first, leaseTTL); err != nil || got {
			t.Errorf("a dead predecessor renewed its lease: %v, %v", got, err)
		}
		if got := takeOver(t, db.Store, second, dead...); len(got) != 1 || got[0].Fence.LaneID != h.session() {
			t.Errorf("took over %+v", got)
		}
	}},
	{"own nothing that is idle or ready", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		h.release(t, lane.Release{})
		for range 2 {
			if r, found, err := db.Store.OwnerOf(ctx(t), h.session()); err != nil || found {
				t.Errorf("owner %+v, %v", r, err)
			}
			h = claimOne(t, db.Store, live(t, db.Store))
			h.commit(t, h.end(false))
			queue(t, db.Store, "a")
		}
		if _, found, err := db.Store.OwnerOf(ctx(t), ident.New()); err != nil || found {
			t.Errorf("no session has an owner: %v, %v", found, err)
		}
	}},
}
