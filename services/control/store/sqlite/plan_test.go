package sqlite

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// whole are parts of the statements of package rows that may read a whole table: of a handful of rows, in the order of
// the table until there are enough, or rarely and on a reader.
var whole = []string{
	"FROM tokens WHERE tenant", "FROM executors e LEFT JOIN", "replicas", "FROM segments ORDER BY rowid LIMIT",
	"FROM segments ORDER BY rowid DESC LIMIT 1", "deleted_at FROM tenants", "1 FROM executors WHERE tenant",
	"FROM turns ORDER BY rowid LIMIT",
	"UNION SELECT c.agent_digest",
	"ORDER BY dispatched_at, call_id", // sorts the few that it returns
}

// TestPlans keeps every statement from reading a whole table or sorting it, so that no cost grows with the number of
// rows.
func TestPlans(t *testing.T) {
	small := []statement{ // tables of a handful of rows
		watchRunning[3],                                             // when the database is opened
		tenants, sumBodies, makeScratch, writeScratch, countScratch, // of the tests
	}
	small = slices.AppendSeq(small, maps.Values(tenantsOf))
	for _, q := range plainStatements {
		if slices.ContainsFunc(whole, func(part string) bool { return strings.Contains(statements[q], part) }) {
			small = append(small, q)
		}
	}
	s, err := Open(t.Context(), Memory, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // nothing was written
	scans := map[statement]bool{}
	for _, q := range small {
		scans[q] = true
	}
	err = s.read(t.Context(), func(c *conn) error {
		for q, text := range statements {
			if scans[statement(q)] || strings.HasPrefix(text, "CREATE") || q == int(begin) || q == int(commit) ||
				q == int(rollback) {
				continue
			}
			statements = append(statements, "EXPLAIN QUERY PLAN "+text)
			c.prepared = append(c.prepared, nil)
			err := c.rows(statement(len(statements)-1), func(r row) (bool, error) {
				plan := r.text(3)
				if strings.HasPrefix(plan, "SCAN") && !strings.Contains(plan, "INDEX") && plan != "SCAN CONSTANT ROW" &&
					plan != "SCAN found" || // of rows that another part of the statement has found
					strings.Contains(plan, "TEMP B-TREE") {
					t.Errorf("%s\n\t%s", text, plan)
				}
				return true, nil
			}, make([]any, max(strings.Count(text, "?"), strings.Count(text, "$")))...)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
