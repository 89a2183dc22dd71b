package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

func openAt(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func admission(name string) submission.Admission {
	return submission.Admission{
		ID: ident.New(), Key: session.Key{Tenant: session.DefaultTenant, Agent: "a", Instance: "i", Name: name},
		Input: []byte(`{}`), AgentDigest: "d",
	}
}

func TestFileKeepsWhatWasAnswered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c#d%20", "pawl.db") // the directory is made; the name is no URL
	s := openAt(t, path)
	a := admission("x")
	if _, err := s.Admit(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = openAt(t, path)
	defer closeStore(t, s)
	if _, err := s.GetSubmission(t.Context(), session.DefaultTenant, a.ID); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("others may read the database: %v", mode)
	}
}

// TestFileSurvivesKill kills a process that admits as fast as it can and looks for what it was told is admitted.
func TestFileSurvivesKill(t *testing.T) {
	const dir = "PAWL_TEST_KILLED_DIR"
	if path := os.Getenv(dir); path != "" {
		s := openAt(t, path)
		for {
			a := admission("x")
			if _, err := s.Admit(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			fmt.Println("admitted", a.ID)
		}
	}
	path := filepath.Join(t.TempDir(), "pawl.db")
	cmd := exec.Command(os.Args[0], "-test.run=^TestFileSurvivesKill$")
	cmd.Env = append(os.Environ(), dir+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for len(ids) < 50 {
		var id string
		if _, err := fmt.Fscanln(out, new(string), &id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for {
		var id string
		if _, err := fmt.Fscanln(out, new(string), &id); err != nil {
			break
		}
		ids = append(ids, id)
	}
	cmd.Wait() //nolint:errcheck // it was killed
	s := openAt(t, path)
	defer closeStore(t, s)
	for i, id := range ids {
		sub, err := s.GetSubmission(t.Context(), session.DefaultTenant, id)
		if err != nil || sub.Seq != int64(i)+1 {
			t.Fatalf("submission %d of %d: seq %d, %v", i+1, len(ids), sub.Seq, err)
		}
	}
}

func TestFileHasOneUser(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pawl.db")
	s := openAt(t, path)
	_, err := Open(t.Context(), path, Options{})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Errorf("opening it twice: %v", err)
	}
	closeStore(t, s)
	closeStore(t, openAt(t, path))
}

func TestFileOfANewerFormatIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pawl.db")
	s := openAt(t, path)
	err := s.write(t.Context(), func(x tx) error {
		x.wrote = true
		_, err := x.raw.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	for range 2 { // refusing it leaves it unlocked
		if _, err := Open(t.Context(), path, Options{}); !errors.Is(err, ErrNewerFormat) {
			t.Fatalf("opening it: %v", err)
		}
	}
}

func TestFileThatIsNoDatabaseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pawl.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, Options{}); err == nil || !strings.Contains(err.Error(),
		"not a SQLite database") {
		t.Errorf("opening it: %v", err)
	}
}

func TestMigrationsGoDownAndUp(t *testing.T) {
	s := openAt(t, Memory)
	defer closeStore(t, s)
	err := s.read(t.Context(), func(c *conn) error {
		err := migrator(c, func(p *goose.Provider) error {
			_, err := p.DownTo(t.Context(), 0)
			return err
		})
		return errors.Join(err, migrate(t.Context(), c))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Admit(t.Context(), admission("x")); err != nil {
		t.Fatal(err)
	}
}

// A commit is on disk when it is answered, whichever connection made it.
func TestEveryConnectionIsSynchronous(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "pawl.db"))
	defer closeStore(t, s)
	check := func(c *conn) error {
		r, err := c.row(synchronous)
		if err == nil && r.int(0) != 2 {
			t.Errorf("PRAGMA synchronous is %d, want 2, which is FULL", r.int(0))
		}
		return err
	}
	for _, err := range []error{s.writes.read(t.Context(), check), s.read(t.Context(), check)} {
		if err != nil {
			t.Error(err)
		}
	}
}

var synchronous = sql(`PRAGMA synchronous`)

// The log is bounded in bytes, whatever the size of a page is.
func TestLogIsBounded(t *testing.T) {
	for _, size := range []int64{1024, 2048, 8192} {
		path := filepath.Join(t.TempDir(), "pawl.db")
		made, err := connect(path + fmt.Sprint("?_pragma=page_size(", size, ")"))
		if err == nil {
			_, err = made.raw.ExecContext(t.Context(), `CREATE TABLE other (n INTEGER, tenant TEXT)`, nil)
		}
		if err = errors.Join(err, made.close()); err != nil {
			t.Fatal(err)
		}
		s := openAt(t, path)
		if err := s.writes.read(t.Context(), func(c *conn) error {
			pages, err := c.row(autocheckpoint)
			if err == nil && pages.int(0)*size != logBytes {
				t.Errorf("it is written to the file after %d pages of %d bytes", pages.int(0), size)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		closeStore(t, s)
	}
}

var autocheckpoint = sql(`PRAGMA wal_autocheckpoint`)

func TestClosedStoreRefuses(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "pawl.db"))
	closeStore(t, s)
	if _, err := s.Admit(t.Context(), admission("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("writing: %v", err)
	}
	if _, err := s.ListExecutors(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("reading: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

// TestWriteEndsDefinitely holds the writer and ends the contexts of what has begun and of what waits.
func TestWriteEndsDefinitely(t *testing.T) {
	for _, path := range []string{Memory, filepath.Join(t.TempDir(), "pawl.db")} {
		synctest.Test(t, func(t *testing.T) {
			s := openAt(t, path)
			ctx, cancel := context.WithCancel(t.Context())
			inside, release := make(chan struct{}), make(chan struct{})
			begun, waits := make(chan error, 1), make(chan error, 1)
			go func() {
				begun <- s.write(ctx, func(x tx) error {
					close(inside)
					<-release
					_, err := x.admit(admission("begun"))
					return err
				})
			}()
			<-inside
			go func() {
				_, err := s.Admit(ctx, admission("waits"))
				waits <- err
			}()
			synctest.Wait()
			cancel()
			if err := <-waits; !errors.Is(err, context.Canceled) {
				t.Errorf("what waits: %v", err)
			}
			synctest.Wait()
			select {
			case err := <-begun:
				t.Errorf("what has begun was answered before it ended: %v", err)
			default:
			}
			close(release)
			if err := <-begun; err != nil {
				t.Errorf("what has begun: %v", err)
			}
			found, err := s.ListSessions(t.Context(), session.Filter{Tenant: session.DefaultTenant, Limit: 10})
			if err != nil || len(found) != 1 || found[0].Key.Name != "begun" {
				t.Errorf("written: %+v, %v", found, err)
			}
			closeStore(t, s)
		})
	}
}

// TestGroupIsAllOrEach fails one operation of a group after it has written: only that one is undone.
func TestGroupIsAllOrEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openAt(t, Memory)
		defer closeStore(t, s)
		release := make(chan struct{})
		first := make(chan error, 1)
		go func() { first <- s.write(t.Context(), func(tx) error { <-release; return nil }) }()
		synctest.Wait()
		bad := errors.New("bad")
		runs := 0
		answers := make([]chan error, 4)
		for i := range answers {
			answers[i] = make(chan error, 1)
			go func() {
				answers[i] <- s.write(t.Context(), func(x tx) error {
					runs++
					if _, err := x.admit(admission(fmt.Sprint(i))); err != nil {
						return err
					}
					if i == 2 {
						return bad
					}
					return nil
				})
			}()
			synctest.Wait() // one after the other: the one that fails is the third of its group
		}
		close(release)
		for i, answer := range answers {
			if err := <-answer; (i == 2) != errors.Is(err, bad) {
				t.Errorf("operation %d: %v", i, err)
			}
		}
		found, err := s.ListSessions(t.Context(), session.Filter{Tenant: session.DefaultTenant, Limit: 10})
		if err != nil || len(found) != 3 {
			t.Errorf("%d operations left something, %v", len(found), err)
		}
		if runs <= 4 {
			t.Errorf("the operations were not in one group: %d runs", runs)
		}
		<-first
	})
}

// TestFakeTime shows that nothing here hides from a bubble: the lease ends by fake time, and every goroutine at Close.
func TestFakeTime(t *testing.T) {
	for _, path := range []string{Memory, filepath.Join(t.TempDir(), "pawl.db")} {
		synctest.Test(t, func(t *testing.T) {
			s := openAt(t, path)
			ctx, cancel := context.WithCancel(t.Context())
			listened := make(chan error, 1)
			go func() { listened <- s.Listen(ctx, nil) }()
			a := admission("x")
			a.Owner, a.Timeout = ident.New(), time.Hour
			out, err := s.Admit(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			if want := (lane.Ends{In: time.Hour, Why: lane.Deadline}); out.Lease.Ends != want {
				t.Errorf("it ends in %v, want %v", out.Lease.Ends, want)
			}
			time.Sleep(24 * time.Hour)
			cancel()
			if err := <-listened; err != nil {
				t.Errorf("listening: %v", err)
			}
			if out, err := s.TakeOver(t.Context(), ident.New(), nil, 1); err != nil || len(out.Leases) != 1 {
				t.Errorf("took over %+v, %v", out, err)
			}
			closeStore(t, s)
		})
	}
}

func TestEveryTableHasATenant(t *testing.T) {
	s := openAt(t, Memory)
	defer closeStore(t, s)
	tables := 0
	if err := s.write(t.Context(), func(tx tx) error {
		return tx.rows(tenants, func(r row) (bool, error) {
			tables++
			if !r.bool(1) {
				t.Errorf("table %s has no tenant", r.text(0))
			}
			return true, nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	if tables < 12 {
		t.Errorf("there are %d tables", tables)
	}
}

var tenants = sql(`SELECT m.name, EXISTS (SELECT 1 FROM pragma_table_info(m.name) WHERE name = 'tenant') FROM sqlite_master m
	WHERE m.type = 'table' AND m.name <> 'goose_db_version' AND m.name NOT LIKE 'sqlite_%'`)

// What a commit writes is the tenant's whose session it is.
func TestRowsAreTheirSessionsTenants(t *testing.T) {
	s := openAt(t, Memory)
	defer closeStore(t, s)
	a := admission("x")
	a.Key.Tenant, a.Owner = "acme", ident.New()
	out, err := s.Admit(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	l := out.Lease
	if _, err := s.Commit(t.Context(), lane.Commit{
		Fence: l.Fence, ID: ident.New(), EventHead: l.EventHead, Steps: []lane.Step{{
			LoopID: a.ID, SessionID: l.Root().SessionID, EntryHead: 1,
			Entries: []session.Entry{{Seq: 2, Kind: session.Assistant}},
			Events:  []event.Event{{Seq: l.EventHead + 1, Type: event.EntryAdded, EntrySeq: 2}},
			Calls:   []call.Call{{ID: "c", Tool: "bash"}},
			Turn:    &lane.Turn{Turn: 1, Prefix: []byte("digest"), PrefixBody: []byte("body")},
		}},
	}); err != nil {
		t.Fatal(err)
	}
	for table, q := range tenantsOf {
		if err := s.read(t.Context(), func(c *conn) error {
			all, err := c.texts(q)
			for _, tenant := range all {
				if tenant != "acme" {
					t.Errorf("%s has a row of tenant %s", table, tenant)
				}
			}
			if len(all) == 0 {
				t.Errorf("%s has no rows", table)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

var tenantsOf = map[string]statement{
	"sessions": sql(`SELECT tenant FROM sessions`), "lanes": sql(`SELECT tenant FROM lanes`),
	"submissions": sql(`SELECT tenant FROM submissions`), "entries": sql(`SELECT tenant FROM entries`),
	"segments": sql(`SELECT tenant FROM segments`), "tool_calls": sql(`SELECT tenant FROM tool_calls`),
	"turns": sql(`SELECT tenant FROM turns`), "prefixes": sql(`SELECT tenant FROM prefixes`),
}

// TestTenantsTakeTurnsAtWriting: what one tenant has waiting to be written holds nobody else up, and its own order is
// kept.
func TestTenantsTakeTurnsAtWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openAt(t, Memory)
		defer closeStore(t, s)
		release := make(chan struct{})
		var all sync.WaitGroup
		var order []int // -1 is the other tenant's
		write := func(tenant string, n int) {
			all.Go(func() {
				err := s.writer.write(t.Context(), tenant, func(tx) error { order = append(order, n); return nil })
				if err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		all.Go(func() {
			if err := s.write(t.Context(), func(tx) error { <-release; return nil }); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		for n := range 1000 {
			write("busy", n)
		}
		write("b", -1)
		close(release)
		all.Wait()
		if at := slices.Index(order, -1); at > 1 || len(order) != 1001 {
			t.Errorf("the other tenant's write is at %d of %d", at, len(order))
		}
		if busy := slices.DeleteFunc(order, func(n int) bool { return n < 0 }); !slices.IsSorted(busy) {
			t.Errorf("the order is %v", busy)
		}
	})
}
