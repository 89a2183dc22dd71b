package link

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/replica"
)

// Whatever is written about an executor is written in the end: within one lease of the time when the database is well
// again, however long it was not. It is not written over and over.
func TestFactsAreWrittenInTheEnd(t *testing.T) {
	for op, c := range map[string]struct {
		happens func(e *executor)
		holds   func(e fleet.Executor) bool
	}{
		"Disconnect": {
			func(e *executor) { e.close() },
			func(e fleet.Executor) bool { return !e.Connected() },
		},
		"SetDraining": {
			func(e *executor) {
				e.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Draining{Draining: &pawlv1.Draining{}}})
			},
			func(e fleet.Executor) bool { return e.Draining },
		},
		"SetBegun": {
			func(e *executor) { e.begun.Store(7) },
			func(e fleet.Executor) bool { return e.Journal.Begun == 7 },
		},
	} {
		t.Run(op, func(t *testing.T) {
			within(t, 1, func(all []*plane) {
				db := all[0].cluster.db
				e := all[0].executor()
				db.fail(op, errors.New("the disk is full"))
				c.happens(e)
				time.Sleep(time.Hour)
				if n := db.tried(op); c.holds(db.known()) || n < 100 || n > 800 {
					t.Errorf("after %d tries in an hour: %+v", n, db.known())
				}
				if op != "Disconnect" {
					e.lives()
				}
				before := all[0].owner.fleet.Load()
				db.fail(op, nil)
				time.Sleep(replica.TTL)
				synctest.Wait()
				if !c.holds(db.known()) {
					t.Errorf("the database is well again and has %+v", db.known())
				}
				if op == "Disconnect" && all[0].owner.fleet.Load() == before {
					t.Error("nobody was told that the executor is away")
				}
				tried := db.tried(op)
				time.Sleep(time.Hour)
				if n := db.tried(op); n != tried {
					t.Errorf("it was written %d times more", n-tried)
				}
			})
		})
	}
}

// What an executor begins is recorded at once, or soon after the last time: the replica may die.
func TestBegunCallsAreRecordedSoon(t *testing.T) {
	within(t, 1, func(all []*plane) {
		db := all[0].cluster.db
		e := all[0].executor()
		for n := range int64(50) {
			e.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Accepted{
				Accepted: &pawlv1.Accepted{CallId: "c", Begun: n + 1},
			}})
			synctest.Wait()
			if got := db.known().Journal.Begun; n == 0 && got != 1 {
				t.Errorf("the first call is not recorded: %d", got)
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(begunEvery)
		synctest.Wait()
		if got, n := db.known().Journal.Begun, db.tried("SetBegun"); got != 50 || n > 4 {
			t.Errorf("%d calls are recorded, with %d writes", got, n)
		}
	})
}

// A connection that was recorded, and of which the answer was lost, is none. The executor does not count as connected.
func TestConnectionWhoseRecordWasNotAnswered(t *testing.T) {
	within(t, 1, func(all []*plane) {
		db := all[0].cluster.db
		db.loses["Connect"] = errors.New("the connection to the database was lost")
		if e := all[0].connect(first("j")); e.ended() == nil {
			t.Error("it is connected")
		}
		if !db.known().Connected() {
			t.Error("it was not recorded to begin with")
		}
		time.Sleep(replica.TTL)
		synctest.Wait()
		if db.known().Connected() {
			t.Errorf("it counts as connected: %+v", db.known())
		}
	})
}

// A connection that is being made is not taken for one that has ended, however long that takes.
func TestConnectionThatIsBeingMade(t *testing.T) {
	within(t, 1, func(all []*plane) {
		p := all[0]
		row := fleet.Executor{ID: "e", Replica: p.id, ConnectionEpoch: 1}
		p.opening["e"]++
		if err := p.compareAway(context.Background(), row); err != nil || p.cluster.db.tried("Disconnect") != 0 {
			t.Errorf("its end was recorded: %v", err)
		}
		p.opened("e")
		if err := p.compareAway(context.Background(), row); err != nil || p.cluster.db.tried("Disconnect") != 1 {
			t.Errorf("it is none, and its end was not recorded: %v", err)
		}
		if len(p.opening) != 0 {
			t.Errorf("%v is being made", p.opening)
		}
	})
}

// The rows are read while executors are connected here, and once more when the last one has left.
func TestRowsAreReadWhileThereAreConnections(t *testing.T) {
	within(t, 1, func(all []*plane) {
		p, db := all[0], all[0].cluster.db
		read := func() int {
			before := db.tried("ListExecutors")
			time.Sleep(time.Minute)
			synctest.Wait()
			return db.tried("ListExecutors") - before
		}
		if n := read(); n != 0 {
			t.Errorf("they were read %d times before anybody came", n)
		}
		e := p.executor()
		if n := read(); n != 12 {
			t.Errorf("they were read %d times in a minute", n)
		}
		e.close()
		if n := read(); n != 1 {
			t.Errorf("they were read %d times after the last one left", n)
		}
	})
}

// The rows of executors that are connected elsewhere are left alone.
func TestFactsOfOthersAreLeft(t *testing.T) {
	within(t, 2, func(all []*plane) {
		e := all[0].executor()
		time.Sleep(time.Hour)
		e.lives()
		if db := all[0].cluster.db; !db.known().Connected() || db.tried("Disconnect") != 0 {
			t.Errorf("%+v", db.known())
		}
	})
}

// A connection whose row was deleted, or is another replica's, or nobody's, ends: nobody would send anything over it.
func TestConnectionWithoutItsRow(t *testing.T) {
	for name, change := range map[string]func(d *database){
		"deleted": func(d *database) { delete(d.all, "e") },
		"nobody's": func(d *database) {
			e := d.all["e"]
			e.Replica = ""
			d.all["e"] = e
		},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, 1, func(all []*plane) {
				e := all[0].executor()
				db := all[0].cluster.db
				db.mu.Lock()
				change(db)
				db.mu.Unlock()
				time.Sleep(replica.TTL)
				e.refusedFor("SUPERSEDED")
			})
		})
	}
}
