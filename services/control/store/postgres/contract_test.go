package postgres_test

import (
	"context"
	"log/slog"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
	"github.com/pawl-dev/pawl/services/control/store/storetest"
)

// migrated is a database that has this version's tables.
var migrated = pgtest.Template{
	Key: "control store " + postgres.Format,
	Prepare: func(ctx context.Context, url string) error {
		s, err := postgres.Open(ctx, url, postgres.Options{})
		if err != nil {
			return err
		}
		return s.Close()
	},
}

// with is the url with one more option.
func with(t testing.TB, address, name, value string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set(name, value)
	u.RawQuery = q.Encode()
	return u.String()
}

func open(t testing.TB, address string, opts postgres.Options) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), address, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// apart is more than what the clocks of two replicas differ by.
const apart = 200 * time.Millisecond

// opener gives each test a database of its own with two stores, as two replicas have them, on a clock that tests move.
func opener(address func(t *testing.T) string) func(t *testing.T) storetest.DB {
	return func(t *testing.T) storetest.DB {
		address := address(t)
		var skipped, jumped atomic.Int64
		log := &storetest.Log{}
		opts := postgres.Options{
			ClockOffset:  func() time.Duration { return time.Duration(skipped.Load()) },
			ServerOffset: func() time.Duration { return time.Duration(jumped.Load()) },
			Log:          slog.New(slog.NewTextHandler(log, nil)),
		}
		s := open(t, address, opts)
		return storetest.DB{
			Store: s, Second: open(t, address, opts),
			Advance: func(d time.Duration) { skipped.Add(int64(d + apart)) },
			Jump:    func(d time.Duration) { jumped.Add(int64(d)) },
			Start:   func() store.Store { return open(t, address, opts) },
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
				return n
			},
			Logged: log.String,
		}
	}
}

func TestContract(t *testing.T) {
	storetest.Run(t, opener(func(t *testing.T) string { return migrated.URL(t) }))
}
