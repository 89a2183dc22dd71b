package platformtest_test

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
)

// damage runs statements on a database that no replica has open.
func (w *world) damage(file string, statements ...string) {
	w.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		w.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			w.Error(err)
		}
	}()
	for _, q := range statements {
		res, err := db.ExecContext(w.Context(), q)
		if err != nil {
			w.Fatal(q, err)
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			w.Fatalf("%s changed %d rows, %v", q, n, err)
		}
	}
}

// A row that cannot be decoded ends the submissions that need it, and no other: neither a claim nor a take-over of many
// stops at it.
func TestDamagedRowsStopNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "db")
		w := &world{T: t}
		w.on(file, platformtest.Options{})
		const work = "sleep 1m;echo begun\necho done"
		ids := map[string]string{}
		for _, name := range []string{"a healthy", "b row", "c entry", "d input", "e healthy"} {
			ids[name] = w.in(name, work)
		}
		queued := w.in("b row", "say: next")
		ids["definition"] = w.submitTo(w.a, "hasty", work)
		w.sleep(10 * time.Second)
		w.a.Kill()
		w.m.Kill()
		if err := w.c.Store.Close(); err != nil {
			t.Fatal(err)
		}
		entries := `UPDATE entries SET body = substr(body, 2) WHERE submission_id = '`
		w.damage(file,
			`UPDATE submissions SET usage = '"x"' WHERE submission_id = '`+ids["b row"]+`'`,
			entries+ids["c entry"]+`' AND seq = 2`, entries+ids["d input"]+`' AND seq = 1`,
			`UPDATE definitions SET body = CAST('{' AS BLOB) WHERE name = 'hasty'`)

		edited := agents()
		for i := range edited {
			if edited[i].Name == "hasty" {
				edited[i].Description = "edited: the stored definition is needed"
			}
		}
		w.on(file, platformtest.Options{Agents: edited})
		began := time.Now()
		for name, want := range map[string]struct {
			outcome pawlv1.Outcome
			reason  string
		}{
			"a healthy":  {pawlv1.Outcome_OUTCOME_COMPLETED, ""},
			"b row":      {pawlv1.Outcome_OUTCOME_INTERRUPTED, "UNREADABLE"},
			"c entry":    {pawlv1.Outcome_OUTCOME_INTERRUPTED, "UNREADABLE"},
			"d input":    {pawlv1.Outcome_OUTCOME_INTERRUPTED, "UNREADABLE"},
			"e healthy":  {pawlv1.Outcome_OUTCOME_COMPLETED, ""},
			"definition": {pawlv1.Outcome_OUTCOME_FAILED, "DEFINITION_UNREADABLE"},
		} {
			got, err := w.tryWait(w.a, ids[name])
			if err != nil || got.GetOutcome() != want.outcome || got.GetError().GetReason() != want.reason {
				t.Errorf("%s settled %v %v, %v", name, got.GetOutcome(), got.GetError(), err)
			}
			if entry := map[string]string{"c entry": "entry 2 ", "d input": "entry 1 "}[name]; entry != "" {
				// Only what runs for it is waited for: to try again would cost pauses, and change nothing.
				took := got.GetSettledAt().AsTime().Sub(began)
				if !strings.Contains(got.GetError().GetMessage(), entry) || took > time.Minute {
					t.Errorf("%s settled after %v: %v", name, took, got.GetError())
				}
			}
		}
		w.wait(w.a, queued, "next")
		w.wait(w.a, w.submitTo(w.a, "hasty", "echo again"), "again")
		if took := time.Since(began); took > 10*time.Minute {
			t.Errorf("it took %s", took)
		}
	})
}
