package storetest

import (
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/session"
)

// loggedOnce checks that the log has been told of a row once, however often the row was read.
func loggedOnce(t tester, db DB, row string) {
	t.Helper()
	if n := strings.Count(db.Logged(), row); n != 1 {
		t.Errorf("the log was told of %s %d times, want once:\n%s", row, n, db.Logged())
	}
}

// A row that cannot be decoded fails no list, and is reported.
var damageCases = []testCase{
	{"a token lets nobody in, and keeps no other from being listed", func(t *testing.T, db DB) {
		bad, worse, good := token("bad", someTime), token("worse", someTime), token("good", someTime)
		bad.Kind, bad.Labels = auth.Executor, auth.Labels{"k": "v"}
		worse.Agents = []string{"a"}
		for _, tok := range []auth.Token{bad, good, worse} {
			ok(t, db.Store.CreateToken(ctx(t), tok))
		}
		db.Exec(`UPDATE tokens SET labels = '[1]' WHERE name = 'bad'`)
		db.Exec(`UPDATE tokens SET agents = '{"a": 1}' WHERE name = 'worse'`)
		for range 2 {
			all, err := db.Store.ListTokens(ctx(t), session.DefaultTenant)
			ok(t, err)
			equal(t, "the tokens", all, []auth.Token{good})
		}
		for _, tok := range []auth.Token{bad, worse} {
			loggedOnce(t, db, "token "+tok.ID)
			// What a token is limited to is never guessed.
			if got, err := db.Store.FindToken(ctx(t), tok.Hash); err == nil {
				t.Errorf("a token was found whose limits cannot be read: %+v", got)
			}
		}
	}},
	{"an executor is known without its labels", func(t *testing.T, db DB) {
		for _, id := range []string{"bad", "good"} {
			connect(t, db.Store, fleet.Executor{ID: id, Labels: map[string]string{"k": "v"}})
		}
		db.Exec(`UPDATE executors SET labels = '[1]' WHERE executor_id = 'bad'`)
		for range 2 {
			all, err := db.Store.ListExecutors(ctx(t))
			ok(t, err)
			if len(all) != 2 || len(all[0].Labels) != 0 || len(all[1].Labels) != 1 {
				t.Errorf("the executors are %+v", all)
			}
		}
		loggedOnce(t, db, "executor bad")
	}},
	{"an entry is listed in its place, and says that it cannot be read", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		h.commit(t, h.step(3))
		db.Exec(`UPDATE entries SET body = substr(body, 2) WHERE seq = 3`)
		for range 2 {
			page, err := db.Store.Entries(ctx(t), h.session(), 0, 10)
			ok(t, err)
			if len(page) != 4 {
				t.Fatalf("%d entries, want 4", len(page))
			}
			for _, e := range page {
				if damaged := e.Seq == 3; (e.Unreadable != nil) != damaged || e.Message.Role == "" ||
					damaged && !strings.Contains(e.Message.Text(), "cannot be read") {
					t.Errorf("entry %d: %+v", e.Seq, e)
				}
			}
		}
		loggedOnce(t, db, "entry 3")
	}},
}
