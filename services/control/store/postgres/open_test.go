package postgres_test

import (
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

// TestFailingToOpenIsToldInALine covers every way in which the password could get into a log.
func TestFailingToOpenIsToldInALine(t *testing.T) {
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	good := migrated.URL(t)
	const password = "s3cr3t/pa:ss"
	for name, address := range map[string]string{
		"nobody listens":    "postgres://user:s3cr3t%2Fpa%3Ass@localhost:1/db?sslmode=disable",
		"no answer":         fmt.Sprintf("postgres://user:s3cr3t%%2Fpa%%3Ass@%s/db?sslmode=disable", silent.Addr()),
		"no such database":  strings.Replace(good, "/pawl_test_", "/no_such_", 1),
		"not encoded":       "postgres://user:" + password + "@localhost:1/db",
		"not an address":    "postgres://user:" + password + "@@@:x",
		"unknown parameter": "postgres://user:s3cr3t%2Fpa%3Ass@localhost/db?pool_max_conns=lots",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := postgres.Open(t.Context(), address, postgres.Options{ConnectTimeout: 200 * time.Millisecond})
			if err == nil {
				t.Fatal("opened")
			}
			t.Log(err)
			if text := err.Error(); strings.Contains(text, "s3cr3t") || strings.Contains(text, "pa:ss") || strings.Contains(text, "\n") {
				t.Errorf("error = %q", text)
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

// TestStatementsFindTheirRowsByIndex plans the hot statements on empty tables, as a new installation does, where a planner left
// to itself would settle on reading whole tables, and keep to it while they grow.
func TestStatementsFindTheirRowsByIndex(t *testing.T) {
	address := migrated.URL(t)
	s := open(t, address, postgres.Options{})
	parameter := regexp.MustCompile(`\$\d+`)
	for name, sql := range postgres.Hot() {
		t.Run(name, func(t *testing.T) {
			seen := map[string]bool{}
			for _, p := range parameter.FindAllString(sql, -1) {
				seen[p] = true
			}
			plan, err := s.Explain(t.Context(), sql, len(seen))
			if err != nil {
				t.Fatal(err)
			}
			for _, bad := range []string{"Seq Scan on lanes", "Seq Scan on submissions", "Seq Scan on sessions", "Seq Scan on tool_calls", "Seq Scan on segments", "Hash Join", "Merge Join"} {
				if strings.Contains(plan, bad) {
					t.Errorf("%s in\n%s", bad, plan)
				}
			}
			for _, m := range regexp.MustCompile(`(?m)Scan using (\w+) on .*\n(.*)`).FindAllStringSubmatch(plan, -1) {
				if !strings.Contains(m[2], "Index Cond") && m[1] != "lanes_ready" {
					t.Errorf("%s is read from end to end in\n%s", m[1], plan)
				}
			}
		})
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
