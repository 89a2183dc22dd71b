package sqlite_test

import (
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
	"github.com/pawl-dev/pawl/services/control/store/storetest"
)

// opener opens databases at path(t) on a clock that tests move.
func opener(path func(t *testing.T) string) func(t *testing.T) storetest.DB {
	return func(t *testing.T) storetest.DB {
		var skipped, jumped atomic.Int64
		log := &storetest.Log{}
		began := time.Now()
		s, err := sqlite.Open(t.Context(), path(t), sqlite.Options{
			Clock: sqlite.Clock{
				Wall:    func() time.Time { return time.Now().Add(time.Duration(jumped.Load())) },
				Elapsed: func() time.Duration { return time.Since(began) + time.Duration(skipped.Load()) },
			},
			Log: slog.New(slog.NewTextHandler(log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return storetest.DB{
			Store: s, Second: s, Advance: func(d time.Duration) { skipped.Add(int64(d)) },
			Jump: func(d time.Duration) { jumped.Add(int64(d)) }, Start: func() store.Store { return s },
			Forget: func(id string) {
				if err := s.Forget(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			},
			Exec: func(q string) {
				if err := s.ExecText(t.Context(), q); err != nil {
					t.Fatal(err)
				}
			},
			Count: func(q string) int {
				n, err := s.CountText(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				return int(n)
			},
			Logged: log.String,
		}
	}
}

func TestContractOnFile(t *testing.T) {
	storetest.Run(t, opener(func(t *testing.T) string { return filepath.Join(t.TempDir(), "pawl.db") }))
}

func TestContractInMemory(t *testing.T) {
	storetest.Run(t, opener(func(*testing.T) string { return sqlite.Memory }))
}
