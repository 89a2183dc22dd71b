package postgres_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
)

func TestStoresThatStartTogetherBehindAPoolerMigrateOnce(t *testing.T) {
	for name, direct := range map[string]bool{"with a direct address": true, "without one": false} {
		t.Run(name, func(t *testing.T) {
			address := pgtest.URL(t)
			opts := postgres.Options{}
			if direct {
				opts.Direct = address
			}
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					s, err := postgres.Open(t.Context(), pgtest.Pooled(t, address), opts)
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := s.ClusterSecret(t.Context(), []byte("secret")); err != nil {
						t.Error(err)
					}
					if err := s.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			var applied int
			if err := raw(t, address).QueryRow(t.Context(),
				`SELECT count(*) FROM goose_db_version WHERE version_id = 1`).Scan(&applied); err != nil ||
				applied != 1 {
				t.Errorf("migrated %d times, %v", applied, err)
			}
		})
	}
}

// Transactions that lock many lanes are planned as those of direct connections are, and leave nothing behind in the
// session.
func TestPlanningIsPartOfTheTransactionBehindAPooler(t *testing.T) {
	address := migrated.URL(t)
	for at, want := range map[string][2]string{address: {"off", "off"}, pgtest.Pooled(t, address): {"off", "on"}} {
		s := open(t, at, postgres.Options{})
		in, err := s.SettingInBatch(t.Context(), "enable_hashjoin")
		if err != nil {
			t.Fatal(err)
		}
		after, err := s.Setting(t.Context(), "enable_hashjoin")
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]string{in, after}; got != want {
			t.Errorf("at %s enable_hashjoin is %v in the transaction and after it, want %v", at, got, want)
		}
	}
}

// Hints need a session: they are heard over the direct address, and not missed where there is none.
func TestNotesBehindAPooler(t *testing.T) {
	address := migrated.URL(t)
	pooled := pgtest.Pooled(t, address)
	s, other := open(t, pooled, postgres.Options{Direct: address}), open(t, pooled, postgres.Options{})
	l := listen(t, s)
	listen(t, other)
	until(t, raw(t, address), someoneListens)
	other.Notify("a")
	if got := <-l.heard; len(got) != 1 || got[0] != "a" {
		t.Errorf("heard %v", got)
	}
}

func TestDirectAddressLeadsToTheServerAndTheSameDatabase(t *testing.T) {
	address := migrated.URL(t)
	pooled := pgtest.Pooled(t, address)
	for want, opts := range map[string]postgres.Options{
		"a pooler is behind it that shares sessions":                      {Direct: pooled},
		"leads to another database":                                       {Direct: migrated.URL(t)},
		"the direct address: the database's address cannot be understood": {Direct: "postgres://user:s3cr3t@@@:x"},
	} {
		at := pooled
		if want == "leads to another database" {
			at = pgtest.Pooled(t, pgtest.URL(t)) // which is empty
		}
		_, err := postgres.Open(t.Context(), at, opts)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("error = %v, want %q", err, want)
		}
	}
}

const ignoring = "ignore_startup_parameters = plan_cache_mode, jit, enable_seqscan, enable_bitmapscan, " +
	"enable_hashjoin, enable_mergejoin"

// One that cannot be recognised is told by what it does to prepared statements, with the cure.
func TestPoolerThatIsNotRecognisedIsTold(t *testing.T) {
	// as if it had been applied
	address := with(t, pgtest.Pooled(t, migrated.URL(t), ignoring), "plan_cache_mode", "auto")
	var told atomic.Bool
	s, err := postgres.Open(t.Context(), address, postgres.Options{RetryFor: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := 0; n < 1000 && !told.Load(); n++ {
				_, err := s.FindSession(t.Context(), key(fmt.Sprint(i)))
				if err != nil && strings.Contains(err.Error(), "default_query_exec_mode=cache_describe") {
					told.Store(true)
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if !told.Load() {
		t.Error("nothing says what is wrong")
	}
}

// A pooler that accepts startup parameters and drops them is known by their having no effect.
func TestPoolerThatIgnoresParametersIsRecognised(t *testing.T) {
	s := open(t, pgtest.Pooled(t, migrated.URL(t), ignoring), postgres.Options{})
	var wg sync.WaitGroup
	for i := range 16 { // more than there are sessions
		wg.Go(func() {
			for range 20 {
				if _, err := s.Admit(t.Context(), admission(fmt.Sprint(i), "")); err != nil {
					t.Error(err)
				}
				if _, err := s.FindSession(t.Context(), key(fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// What would have to be set for a session, and is not, is refused: a commit that a crash undoes could issue an epoch
// twice.
func TestAsynchronousCommitsBehindAPoolerAreRefused(t *testing.T) {
	address := migrated.URL(t)
	if _, err := raw(t, address).Exec(t.Context(),
		`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$`); err != nil {
		t.Fatal(err)
	}
	_, err := postgres.Open(t.Context(), pgtest.Pooled(t, address), postgres.Options{})
	if err == nil || !strings.Contains(err.Error(), "ALTER ROLE") {
		t.Errorf("error = %v", err)
	}
}
