package link

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/link/peer"
)

// asking counts how often the database is asked for executors.
type asking struct {
	*database
	times int
}

func (a *asking) GetExecutor(ctx context.Context, id string) (fleet.Executor, error) {
	a.times++
	return a.database.GetExecutor(ctx, id)
}

// Frames for an executor at another replica cost a query now and then, none each; an executor that moves is found again
// at once.
func TestFramesForAnotherReplicaCostNoQueries(t *testing.T) {
	within(t, 3, func(all []*plane) {
		db := &asking{database: all[0].cluster.db}
		all[2].deps.Fleet = db
		e := all[0].executor()
		send := func() {
			t.Helper()
			if err := all[2].Send(context.Background(), "e", attach("c")); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			send()
		}
		if n := len(e.take()); n != 100 || db.times != 1 {
			t.Errorf("%d frames came, for %d queries", n, db.times)
		}
		e.close()
		synctest.Wait()
		e = all[1].executor() // it has moved
		send()
		if n := len(e.take()); n != 1 || db.times != 2 {
			t.Errorf("%d frames came, for %d queries", n, db.times)
		}
		time.Sleep(placeFor)
		send()
		if db.times != 3 {
			t.Errorf("after a while there were %d queries", db.times)
		}
		e.close()
		synctest.Wait()
		if err := all[2].Send(context.Background(), "e", attach("c")); !errors.Is(err, peer.ErrNotHere) {
			t.Errorf("it is away: %v", err)
		}
		if len(all[2].places.found) != 0 {
			t.Errorf("it is believed to be at %v", all[2].places.found)
		}
	})
}
