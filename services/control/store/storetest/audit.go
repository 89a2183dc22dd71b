package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/retention"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

func auditEvent(resource string) audit.Event {
	return audit.Event{
		ID: ident.New(), Tenant: session.DefaultTenant, Verb: "prompt", Method: "m", Resource: resource, Allowed: true,
		Who: audit.Who{TokenID: "t", Kind: "client", Role: "user", Name: "n", OnBehalfOf: "o", Source: "10.0.0.1"},
	}
}

// listed is the resources of a page.
func listed(t tester, db DB, f audit.Filter) (resources string) {
	t.Helper()
	for page := 0; ; page++ {
		events, next, err := db.Second.ListAudit(ctx(t), f)
		ok(t, err)
		for _, e := range events {
			resources += e.Resource
		}
		if f.BeforeID = next; next == "" || page > 100 {
			return resources
		}
	}
}

var auditCases = []testCase{
	{"are stored once, and selected", func(t *testing.T, db DB) {
		var all []audit.Event
		for i := range 6 {
			e := auditEvent(fmt.Sprint(i))
			switch i {
			case 1:
				e.Tenant, e.Allowed, e.Reason = "other", false, "FORBIDDEN"
			case 2:
				e.Who.TokenID = ""
			case 3:
				e.Verb = "abort"
			}
			all = append(all, e)
		}
		ok(t, db.Store.AppendAudit(ctx(t), all[:3]))
		ok(t, db.Second.AppendAudit(ctx(t), all[:3])) // as after an answer that was lost
		db.Advance(time.Hour)
		ok(t, db.Store.AppendAudit(ctx(t), all[2:]))
		first, next, err := db.Store.ListAudit(ctx(t), audit.Filter{Limit: 10})
		ok(t, err)
		equal(t, "the next page", next, "")
		for i := range all {
			all[i].At = first[len(first)-1-i].At
		}
		later := all[3].At
		if d := later.Sub(all[0].At); d < time.Hour || d > time.Hour+time.Minute {
			t.Errorf("an hour later is %v later", d)
		}
		equal(t, "the events", first, []audit.Event{all[5], all[4], all[3], all[2], all[1], all[0]})
		for want, f := range map[string]audit.Filter{
			"543210": {}, "54320": {Tenant: session.DefaultTenant}, "1": {Tenant: "other"}, "": {Tenant: "none"},
			"54310": {TokenID: "t"}, "3": {Verb: "abort"}, "543": {From: later}, "210": {To: later},
			"5430": {Tenant: session.DefaultTenant, TokenID: "t"},
		} {
			f.Limit = 2
			equal(t, fmt.Sprintf("the events of %+v", f), listed(t, db, f), want)
		}
	}},
	{"of admissions are stored with them", func(t *testing.T, db DB) {
		put := func(name, resource string) submission.Admission {
			a, e := keyed(name, "key"), auditEvent(resource)
			a.Record = &e
			return a
		}
		first := put("a", "0")
		admit(t, db.Store, first)
		admit(t, db.Second, put("a", "a replay"))
		conflict := put("a", "a conflict")
		conflict.InputHash = []byte("another")
		_, err := db.Store.Admit(ctx(t), conflict)
		refused(t, err, submission.ErrIdempotencyConflict)
		queued, without := put("a", "1"), admission("b")
		queued.IdempotencyKey = ""
		admit(t, db.Store, queued)
		admit(t, db.Store, without)
		again := put("b", "2")
		ok(t, db.Store.AppendAudit(ctx(t), []audit.Event{*again.Record}))
		admit(t, db.Store, again)
		equal(t, "the events", listed(t, db, audit.Filter{Limit: 10}), "210")
		page, _, err := db.Store.ListAudit(ctx(t), audit.Filter{Limit: 10})
		ok(t, err)
		if e := page[2]; e.At.IsZero() || e.Who != first.Record.Who {
			t.Errorf("it is stored as %+v", e)
		}
	}},
	{"are listed without those that cannot be decoded", func(t *testing.T, db DB) {
		ok(t, db.Store.AppendAudit(ctx(t), []audit.Event{auditEvent("0"), auditEvent("1"), auditEvent("2")}))
		db.Exec(`UPDATE audit SET verb = 'bad', body = '[]' WHERE event_id = (SELECT event_id FROM audit
			ORDER BY event_id LIMIT 1 OFFSET 1)`)
		equal(t, "the events", listed(t, db, audit.Filter{Limit: 1}), "20")
	}},
	{"go by their age", func(t *testing.T, db DB) {
		ok(t, db.Store.AppendAudit(ctx(t), []audit.Event{auditEvent("0"), auditEvent("1"), auditEvent("2")}))
		db.Advance(time.Hour)
		ok(t, db.Store.AppendAudit(ctx(t), []audit.Event{auditEvent("3")}))
		if n := deleteAll(t, db.Second, retention.Audit, time.Hour, 2); n != 3 {
			t.Errorf("%d events went, want 3", n)
		}
		equal(t, "the events", listed(t, db, audit.Filter{Limit: 10}), "3")
	}},
}
