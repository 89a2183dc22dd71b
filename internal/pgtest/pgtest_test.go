package pgtest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/pgtest"
)

// crash is set for the copy of this binary that starts a cluster and waits to be killed.
const crash = "PGTEST_CRASH"

func TestMain(m *testing.M) {
	if os.Getenv(crash) == "" {
		os.Exit(m.Run())
	}
	cluster, err := pgtest.Start(context.Background(), pgtest.Options{NoFsync: true})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(cluster.URL)
	select {}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func count(t *testing.T, conn *pgx.Conn, sql string, args ...any) int {
	t.Helper()
	var n int
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

const named = "SELECT count(*) FROM pg_database WHERE datname = $1"

func database(t *testing.T, url string) string {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Error(err)
		return ""
	}
	return config.Database
}

// notes is a template with one table and one row. prepared counts; the key is new for each run, so that a server that
// outlives the run does not hide the preparation.
func notes(prepared *atomic.Int32) pgtest.Template {
	return pgtest.Template{Key: rand(), Prepare: func(ctx context.Context, url string) error {
		prepared.Add(1)
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(ctx) }()
		_, err = conn.Exec(ctx, "CREATE TABLE note (text text NOT NULL); INSERT INTO note VALUES ('from the template')")
		return err
	}}
}

func rand() string { return time.Now().Format(time.RFC3339Nano) }

func TestParallelTestsHaveTheirOwnClone(t *testing.T) {
	var prepared atomic.Int32
	template := notes(&prepared)
	t.Run("group", func(t *testing.T) {
		for range 4 {
			t.Run("test", func(t *testing.T) {
				t.Parallel()
				conn := connect(t, template.URL(t))
				if _, err := conn.Exec(t.Context(), "INSERT INTO note VALUES ('from the test')"); err != nil {
					t.Fatal(err)
				}
				if n := count(t, conn, "SELECT count(*) FROM note"); n != 2 {
					t.Errorf("got %d notes, want the template's and this test's", n)
				}
			})
		}
	})
	if n := prepared.Load(); n != 1 {
		t.Errorf("the template was prepared %d times, want once", n)
	}
}

func TestEmptyDatabase(t *testing.T) {
	conn := connect(t, pgtest.URL(t))
	if n := count(t, conn, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); n != 0 {
		t.Errorf("got %d tables, want none", n)
	}
}

func TestDatabaseIsDroppedWithItsTest(t *testing.T) {
	outer := connect(t, pgtest.URL(t))
	var name string
	t.Run("inner", func(t *testing.T) {
		conn := connect(t, pgtest.URL(t)) // still open when the database goes
		name = conn.Config().Database
		if count(t, outer, named, name) != 1 {
			t.Errorf("database %s is not there", name)
		}
	})
	if count(t, outer, named, name) != 0 {
		t.Errorf("database %s is still there", name)
	}
}

// recorder fails like a test, without failing this one.
type recorder struct {
	testing.TB
	failure string
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	panic(r)
}

func TestFailedPreparationLeavesNothing(t *testing.T) {
	fail, draft := true, ""
	template := pgtest.Template{Key: rand(), Prepare: func(_ context.Context, url string) error {
		if fail {
			draft = database(t, url)
			return errors.New("bad migration")
		}
		return nil
	}}
	r := &recorder{TB: t}
	func() {
		defer func() { _ = recover() }()
		template.URL(r)
	}()
	if !strings.Contains(r.failure, "bad migration") {
		t.Fatalf("got %q, want the cause", r.failure)
	}
	conn := connect(t, pgtest.URL(t))
	if count(t, conn, named, draft) != 0 {
		t.Errorf("draft %s is left", draft)
	}
	fail = false
	connect(t, template.URL(t))
}

func TestClusterEndsWithItsProcess(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	self := exec.CommandContext(ctx, os.Args[0])
	self.Env = append(os.Environ(), crash+"=1")
	out, err := self.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, strings.TrimSpace(line))
	var data string
	if err := conn.QueryRow(ctx, "SHOW data_directory").Scan(&data); err != nil {
		t.Fatal(err)
	}
	if err := self.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = self.Wait() // killed, as asked
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(filepath.Dir(data)); errors.Is(err, os.ErrNotExist) {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s is still there", filepath.Dir(data))
		}
	}
	if err := conn.Ping(ctx); err == nil {
		t.Error("the server still answers")
	}
}

func TestStop(t *testing.T) {
	cluster, err := pgtest.Start(t.Context(), pgtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, cluster.URL)
	var fsync, data string
	row := conn.QueryRow(t.Context(), "SELECT current_setting('fsync'), current_setting('data_directory')")
	if err := row.Scan(&fsync, &data); err != nil {
		t.Fatal(err)
	}
	if fsync != "on" {
		t.Error("the zero value of Options does not keep commits")
	}
	if err := cluster.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(data)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data is still there: %v", err)
	}
	if err := cluster.Stop(); err != nil {
		t.Errorf("a second stop: %v", err)
	}
}

// A crash loses connections and nothing that was committed.
func TestCrash(t *testing.T) {
	cluster, err := pgtest.Start(t.Context(), pgtest.Options{NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	before := connect(t, cluster.URL)
	if _, err := before.Exec(t.Context(), "CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := cluster.Crash(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := before.Ping(t.Context()); err == nil {
		t.Error("a connection survived the crash")
	}
	if n := count(t, connect(t, cluster.URL), "SELECT count(*) FROM kept"); n != 1 {
		t.Errorf("%d rows", n)
	}
}

// The server's clock jumps at once for all sessions, while it runs and while it starts again.
func TestClock(t *testing.T) {
	cluster, err := pgtest.Start(t.Context(), pgtest.Options{NoFsync: true, Clock: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	conn := connect(t, cluster.URL)
	apart := func(conn *pgx.Conn) (d time.Duration) {
		var now time.Time
		if err := conn.QueryRow(t.Context(), "SELECT clock_timestamp()").Scan(&now); err != nil {
			t.Fatal(err)
		}
		return time.Until(now).Round(time.Minute)
	}
	for _, want := range []time.Duration{0, 3 * time.Hour, -2 * time.Hour, 0} {
		if err := cluster.SetClock(want); err != nil {
			t.Fatal(err)
		}
		if got := apart(conn); got != want {
			t.Errorf("the clock is %v apart, want %v", got, want)
		}
	}
	if err := cluster.SetClock(-time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Crash(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := apart(connect(t, cluster.URL)); got != -time.Hour {
		t.Errorf("after a crash the clock is %v apart, want an hour", got)
	}
}
