package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
)

func TestStoresThatStartTogetherMigrateOnce(t *testing.T) {
	address := pgtest.URL(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := postgres.Open(t.Context(), address, postgres.Options{})
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
	if err := raw(t, address).QueryRow(t.Context(), `SELECT count(*) FROM goose_db_version WHERE version_id = 1`).Scan(&applied); err != nil {
		t.Fatal(err)
	}
	if applied != 1 {
		t.Errorf("migrated %d times", applied)
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	address := migrated.URL(t)
	if _, err := raw(t, address).Exec(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)`); err != nil {
		t.Fatal(err)
	}
	_, err := postgres.Open(t.Context(), address, postgres.Options{})
	refused(t, err, postgres.ErrNewerFormat)
}

func TestMigrationsGoDownAndUp(t *testing.T) {
	address := migrated.URL(t)
	conn := raw(t, address)
	err := open(t, address, postgres.Options{}).DownAndUp(t.Context(), func() {
		var left []string
		if err := conn.QueryRow(t.Context(), `SELECT array_agg(relname) FROM pg_class WHERE relnamespace = current_schema()::regnamespace
			AND relname NOT LIKE 'goose_db_version%'`).Scan(&left); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, address, postgres.Options{}).Admit(t.Context(), admission("a", "")); err != nil {
		t.Fatal(err)
	}
}

// A commit is on disk when it is answered, whatever the database's own default is.
func TestCommitsAreSynchronous(t *testing.T) {
	for _, byDefault := range []string{"on", "off"} {
		address := migrated.URL(t)
		if _, err := raw(t, address).Exec(t.Context(),
			`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = `+byDefault+`', current_database()); END $$`); err != nil {
			t.Fatal(err)
		}
		if got, err := open(t, address, postgres.Options{}).Setting(t.Context(), "synchronous_commit"); err != nil ||
			got != "on" {
			t.Errorf("synchronous_commit is %q where the default is %s, %v", got, byDefault, err)
		}
	}
}

// TestFailingToOpenIsToldInALine covers every way in which the password could get into a log.
func TestFailingToOpenIsToldInALine(t *testing.T) {
	silent := silentListener(t)
	good := migrated.URL(t)
	const password, encoded = "s3cr3t/pa:ss", "s3cr3t%2Fpa%3Ass"
	for name, c := range map[string]struct{ address, want string }{
		"nobody listens": {"postgres://user:" + encoded + "@127.0.0.1:1/db", "127.0.0.1:1 as user, database db: " +
			"connection refused: check host and port"},
		"several": {
			"postgres://user:" + encoded + "@127.0.0.1:1,127.0.0.1:2/db",
			"127.0.0.1:1, 127.0.0.1:2 as user, database db: connection refused",
		},
		"no such socket": {
			"postgres://user:" + encoded + "@/db?port=7&host=" + t.TempDir(),
			"7 as user, database db: there is no such socket: check the directory",
		},
		"no such name": {
			"postgres://user:" + encoded + "@no.such.host.invalid:5/db",
			"no.such.host.invalid:5 as user, database db: ",
		},
		"no answer": {"postgres://user:" + encoded + "@" + silent + "/db", silent +
			" as user, database db: no answer within 200ms: check the address"},
		"no such database": {strings.Replace(good, "/pawl_test_", "/no_such_", 1), "does not exist: check user, " +
			"password and database's name"},
		"not encoded": {"postgres://user:" + password + "@localhost:1/db", "special characters of the password " +
			"percent-encoded"},
		"not an address": {
			"postgres://user:" + password + "@@@:x",
			"want postgres://user:password@host:port/database",
		},
		"unknown parameter": {
			"postgres://user:" + encoded + "@localhost/db?pool_max_conns=lots",
			"want postgres://user:password@host:port/database",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := postgres.Open(t.Context(), c.address, postgres.Options{ConnectTimeout: 200 * time.Millisecond})
			if err == nil {
				t.Fatal("opened")
			}
			text := err.Error()
			if !strings.Contains(text, c.want) {
				t.Errorf("error = %q, want %q", text, c.want)
			}
			if strings.Contains(text, "s3cr3t") || strings.Contains(text, "pa:ss") || strings.Contains(text, "\n") {
				t.Errorf("error = %q", text)
			}
		})
	}
}

// silentListener is the address of one that accepts and says nothing.
func silentListener(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// Only a database that is there may take the whole of ConnectTimeout. One that refuses is given a second, as it may be
// restarted.
func TestAnAbsentDatabaseEndsTheStartSoon(t *testing.T) {
	for name, c := range map[string]struct {
		address           string
		timeout           time.Duration
		atLeast, lessThan time.Duration
	}{
		"refused":    {"127.0.0.1:1", time.Minute, time.Second, 20 * time.Second},
		"unresolved": {"no.such.host.invalid:5", time.Minute, time.Second, 20 * time.Second},
		"silent":     {silentListener(t), 4 * time.Second, 4 * time.Second, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			_, err := postgres.Open(t.Context(), "postgres://u:p@"+c.address+"/db",
				postgres.Options{ConnectTimeout: c.timeout})
			if took := time.Since(began); !errors.Is(err, postgres.ErrUnavailable) || took < c.atLeast ||
				took >= c.lessThan {
				t.Errorf("%v after %v", err, took)
			}
		})
	}
}

func TestClosedStoreRefusesWork(t *testing.T) {
	s, err := postgres.Open(t.Context(), migrated.URL(t), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Admit(t.Context(), admission("a", "")); err == nil {
		t.Error("admitted")
	}
}

// TestStatementsFindTheirRowsByIndex plans the hot statements on empty tables, as a new installation does, where a
// planner left to itself would settle on reading whole tables, and keep to it while they grow. Row-level security adds
// its own conditions to those that may run within a tenant, and must not choose their indexes.
func TestStatementsFindTheirRowsByIndex(t *testing.T) {
	asSuperuser := open(t, migrated.URL(t), postgres.Options{})
	address, _ := ordinary(t, "CREATEROLE")
	asOwner := open(t, address, postgres.Options{})
	parameter := regexp.MustCompile(`\$\d+`)
	within := 0
	// What never runs within a tenant, though its role may use the tables.
	platforms := regexp.MustCompile(`^(release|commit.*|claim.*|end, .*|plain \d+: .*` +
		`(lane_id|event_floor|SELECT p\.id|s\.submission_id|a\.approval_id|r\.agent).*)$`)
	for name, sql := range postgres.Hot() {
		t.Run(name, func(t *testing.T) {
			seen := map[string]bool{}
			for _, p := range parameter.FindAllString(sql, -1) {
				seen[p] = true
			}
			for _, c := range []struct {
				s      *postgres.Store
				tenant string
			}{{asSuperuser, ""}, {asOwner, ""}, {asOwner, "default"}} {
				plan, err := c.s.Explain(t.Context(), c.tenant, sql, len(seen))
				if err != nil {
					t.Fatal(err)
				}
				if c.tenant == "" || plan != "" && !platforms.MatchString(name) {
					within += len(c.tenant)
					wellPlanned(t, name, plan)
				}
				if c.tenant == "" && strings.Contains(plan, "pawl.tenant") {
					t.Errorf("what the platform does itself looks for a tenant in\n%s", plan)
				}
			}
		})
	}
	if n := within / len("default"); n < 25 {
		t.Errorf("%d statements may run within a tenant", n)
	}
}

// TestCommitsFindTheirRowsByKey plans the statements of commits on tables of some hundred rows that are known, where to
// read all lanes in order of their keys seems cheap to the planner.
func TestCommitsFindTheirRowsByKey(t *testing.T) {
	address := migrated.URL(t)
	s := open(t, address, postgres.Options{})
	for n := range 200 {
		if _, err := s.Admit(t.Context(), admission(fmt.Sprint(n), "")); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // nothing is left to lose
	for _, sql := range []string{
		"UPDATE lanes SET flush = gen_random_uuid()", "VACUUM FULL lanes", "ANALYZE lanes", "ANALYZE submissions",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	parameter := regexp.MustCompile(`\$\d+`)
	for name, sql := range postgres.Hot() {
		if !strings.HasPrefix(name, "commit") {
			continue
		}
		seen := map[string]bool{}
		for _, p := range parameter.FindAllString(sql, -1) {
			seen[p] = true
		}
		plan, err := s.Explain(t.Context(), "", sql, len(seen))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(plan, "\n")
		for i, line := range lines {
			if strings.Contains(line, "Scan using") && !strings.Contains(lines[min(i+1, len(lines)-1)], "Index Cond") {
				t.Errorf("%s reads all of an index:\n%s", name, plan)
			}
		}
	}
}

var (
	// What is due, and what runs, is all that these indexes hold.
	whole = regexp.MustCompile(`^(end, overdue|take over|plain \d+: WITH open AS.*)$`)
	// All calls of a loop, the submissions of a sub-agent's conversation, which is one, and those of a damaged lane.
	wantsAll = regexp.MustCompile(`^(lost|claim, repair|end, recount|plain .*(has_calls|k\.session_id).*)$`)
)

func wellPlanned(t *testing.T, name, plan string) {
	t.Helper()
	for _, bad := range []string{
		"Seq Scan on lanes", "Seq Scan on submissions", "Seq Scan on sessions",
		"Seq Scan on tool_calls", "Seq Scan on segments", "Seq Scan on runs", "Seq Scan on run_steps",
		"Seq Scan on run_signals", "Seq Scan on run_blobs", "Seq Scan on conc_keys", "Seq Scan on schedules",
		"Seq Scan on receipts", "Seq Scan on deletions", "Hash Join", "Merge Join", "Bitmap",
	} {
		if strings.Contains(plan, bad) {
			t.Errorf("%s in\n%s", bad, plan)
		}
	}
	for i, much := range []string{
		`(?m)Scan using (?:submissions_session|tool_calls_(?:pkey|submission)|entries|segments)_?\w* on .*\n` +
			`\s+Index Cond: \((?:session_id|lane_id|submission_id) = [\w.$]+\)$`,
		`Aggregate .*\n\s+->  Index Only Scan using segments`,
	} {
		m := regexp.MustCompile(much).FindString(plan)
		if m != "" && (i > 0 || !wantsAll.MatchString(name)) {
			t.Errorf("too much is read for\n%s\nin\n%s", m, plan)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)Scan using (\w+) on .*\n(.*)`).FindAllStringSubmatch(plan, -1) {
		if m[1] == "sessions_agent" {
			t.Errorf("one session is found among all of its agent's in\n%s", plan)
		}
		if !strings.Contains(m[2], "Index Cond") && !(whole.MatchString(name) &&
			strings.HasPrefix(m[1], "lanes_")) {
			t.Errorf("%s is read from end to end in\n%s", m[1], plan)
		}
	}
}

func TestEveryTableHasATenant(t *testing.T) {
	rows, err := raw(t, migrated.URL(t)).Query(t.Context(), `SELECT t.table_name, c.column_name IS NOT NULL FROM information_schema.tables t
		LEFT JOIN information_schema.columns c ON c.table_schema = t.table_schema AND c.table_name = t.table_name AND c.column_name = 'tenant'
		WHERE t.table_schema = current_schema() AND t.table_name <> 'goose_db_version'`)
	if err != nil {
		t.Fatal(err)
	}
	var table string
	var has bool
	tables := 0
	if _, err := pgx.ForEachRow(rows, []any{&table, &has}, func() error {
		tables++
		if !has {
			t.Errorf("table %s has no tenant", table)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if tables < 12 {
		t.Errorf("there are %d tables", tables)
	}
}
