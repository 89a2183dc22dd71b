package platformtest_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
)

// on is a world whose database is a file, with the machine of the world before it if there is one.
func (w *world) on(file string, o platformtest.Options) {
	w.Helper()
	db, err := sqlite.Open(w.Context(), file, sqlite.Options{})
	if err != nil {
		w.Fatal(err)
	}
	o.Store, o.Models = db, models{&w.asking}
	if o.Agents == nil {
		o.Agents = agents()
	}
	w.c = platformtest.New(w.T, o)
	w.a = w.c.Start("a", nil)
	if w.m == nil {
		w.m = w.c.Machine(w.a, "m")
	}
	w.m.Start(w.a)
	synctest.Wait()
}

// off ends the replica, the daemon and the database.
func (w *world) off() {
	w.Helper()
	w.m.Stop()
	w.a.Stop()
	if err := w.c.Store.Close(); err != nil {
		w.Fatal(err)
	}
}

// The database is set back to a backup of before several changes of owner. The executor knows a higher epoch of the
// session than the database then: the epoch is raised above it, nothing is lost, and a warning says so.
func TestRestoredDatabaseIsRaisedAboveWhatExecutorsKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file, backup := filepath.Join(t.TempDir(), "db"), filepath.Join(t.TempDir(), "db")
		w := &world{T: t}
		w.on(file, platformtest.Options{})
		w.wait(w.a, w.submit(quick), "quick result")
		w.off()
		old, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(backup, old, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}

		w.on(file, platformtest.Options{})
		id := w.submit(asked("", "add effects lost;sleep 1m"))
		for range 5 {
			w.sleep(5 * time.Second)
			w.a.Kill()
			w.a = w.next(w.a)
		}
		w.wait(w.a, id, "")
		w.off()

		log, logger := logged()
		w.on(backup, platformtest.Options{Log: logger})
		before := w.count("Rejected", "STALE_EPOCH")
		w.wait(w.a, w.submit(asked("", one)+"\n& "+asked("", "add effects beside")), truth)
		if w.count("Rejected", "STALE_EPOCH") == before {
			t.Error("the executor knows no higher epoch")
		}
		log.one(t, "the epoch of a lane was raised above one that an executor knows", "epoch", "raised_to", "reason")
		w.finishTree(w.a, "shell", "quick", "lost", "one", "beside")
	})
}
