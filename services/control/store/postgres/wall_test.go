package postgres_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/deletion"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	records "github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
	"github.com/pawl-dev/pawl/services/control/store/storetest"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

// ofThePlatform says why the tenants' role may not touch a table at all.
var ofThePlatform = map[string]string{
	"replicas":     "the processes of the installation",
	"clock":        "the time of the installation",
	"wakes":        "written by owners of lanes, and with decisions",
	"tool_calls":   "written by owners of lanes and for executors; clients see calls in events",
	"turns":        "written by owners of lanes; no API shows them",
	"prefixes":     "parts of turns that tenants may share",
	"cursors":      "of retention",
	"executors":    "what tenants share; workspaces are placed by the platform",
	"definitions":  "the installation's agents",
	"secrets":      "of the installation",
	"conc_keys":    "counted where runs start and end",
	"aborts":       "written where runs start and end",
	"model_pauses": "of the installation's keys of providers",
}

// Every table is behind the second wall: nobody who is not named in a policy sees a row of it, owners neither.
func TestEveryTableIsBehindTheWall(t *testing.T) {
	address := migrated.URL(t)
	s := open(t, address, postgres.Options{})
	rows, err := raw(t, address).Query(t.Context(), `SELECT c.relname::text, c.relrowsecurity AND c.relforcerowsecurity,
		COALESCE((SELECT string_agg(p.polname || ' ' || array_to_string(ARRAY(SELECT rolname FROM pg_roles
			WHERE oid = ANY (p.polroles)), ','), ' ' ORDER BY p.polname)
			FROM pg_policy p WHERE p.polrelid = c.oid), ''),
		COALESCE((SELECT string_agg(x.privilege_type, ', ') FROM aclexplode(c.relacl) x
			JOIN pg_roles r ON r.oid = x.grantee WHERE r.rolname = $1), '')
		FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
		AND c.relname <> 'goose_db_version'`, s.Role())
	if err != nil {
		t.Fatal(err)
	}
	var table, policies, may string
	var forced bool
	seen := 0
	if _, err := pgx.ForEachRow(rows, []any{&table, &forced, &policies, &may}, func() error {
		seen++
		if want := "platform postgres tenant " + s.Role(); !forced || policies != want {
			t.Errorf("table %s: row-level security is forced: %v, policies: %q, want %q", table, forced, policies, want)
		}
		switch want := postgres.Rights()[table]; {
		case want == "" && ofThePlatform[table] == "":
			t.Errorf("table %s: say what tenants may do with it, or why nothing", table)
		case want != "" && ofThePlatform[table] != "":
			t.Errorf("table %s is the platform's, and tenants may %s", table, want)
		case len(strings.Split(may, ", ")) != len(strings.Split(want, ", ")) || (may == "") != (want == ""):
			t.Errorf("table %s: tenants may %q, want %q", table, may, want)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if seen != len(postgres.Rights())+len(ofThePlatform) {
		t.Errorf("there are %d tables", seen)
	}
}

// tenantRows is what a tenant has after somebody has used everything.
type tenantRows struct {
	sub   submission.Submission
	token auth.Token
	gone  deletion.Deletion
	fork  session.Session
	asked approval.Approval
	run   run.Run
}

// fill gives a tenant rows in every table that its clients use.
func fill(t *testing.T, s *postgres.Store, tenant string) (r tenantRows) {
	t.Helper()
	ctx := tenancy.Within(t.Context(), tenant)
	if tenant != session.DefaultTenant {
		if _, err := s.CreateTenant(t.Context(), tenant); err != nil {
			t.Fatal(err)
		}
	}
	a := admission("a", ident.New())
	a.Key.Tenant, a.IdempotencyKey = tenant, "once"
	a.Images = []session.Image{{SHA256: "hash", Data: []byte("image")}}
	got, err := s.Admit(ctx, a)
	if err != nil || got.Lease == nil {
		t.Fatalf("%+v, %v", got, err)
	}
	r.sub = got.Submission
	r.asked = decided(t, s, ctx, *got.Lease)
	fork := session.Fork{From: r.sub.SessionID, At: 1}
	fork.New = session.New{Key: a.Key, Labels: map[string]string{"a": "b"}}
	fork.Key.Instance = "fork"
	if r.fork, err = s.ForkSession(ctx, fork); err != nil {
		t.Fatal(err)
	}
	if r.token, err = s.CreateToken(ctx, auth.Token{
		ID: ident.New(), Tenant: tenant, Kind: auth.Client, Hash: []byte(tenant),
	}, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateTicket(ctx, auth.Ticket{
		Hash: []byte(tenant), Tenant: tenant, TokenHash: []byte(tenant),
	}, time.Minute); err != nil {
		t.Fatal(err)
	}
	if r.gone, err = s.BeginDeletion(ctx, deletion.Deletion{
		ID: ident.New(), Kind: deletion.Instance,
		Key: session.Key{Tenant: tenant, Agent: a.Key.Agent, Instance: a.Key.Instance},
	}); err != nil {
		t.Fatal(err)
	}
	r.run = ran(t, s, ctx, tenant)
	if err := s.AppendAudit(t.Context(), []audit.Event{{ID: ident.New(), Tenant: tenant, Verb: "v"}}); err != nil {
		t.Fatal(err)
	}
	return r
}

// ordinary is a database with a user of its own who is no superuser and makes the tables. may is what else it may.
func ordinary(t *testing.T, may string) (address, user string) {
	t.Helper()
	user = "pawl_user_" + strings.ToLower(rand.Text())
	var at string
	t.Cleanup(func() { // the database is gone by then
		u, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		u.Path = "/postgres"
		conn, err := pgx.Connect(context.Background(), u.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background()) //nolint:errcheck // of a test
		for _, role := range []string{"pawl_tenants_of_" + user, user} {
			if _, err := conn.Exec(context.Background(), "DROP ROLE IF EXISTS "+role); err != nil {
				t.Error(err)
			}
		}
	})
	at = pgtest.URL(t)
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	admin(t, at, fmt.Sprintf(`CREATE ROLE %[1]s LOGIN PASSWORD 'p' %[2]s; ALTER DATABASE %[3]s OWNER TO %[1]s;
		GRANT CREATE ON SCHEMA public TO %[1]s`, user, may, strings.TrimPrefix(u.Path, "/")))
	u.User = url.UserPassword(user, "p")
	return u.String(), user
}

func admin(t *testing.T, address, statements string) {
	t.Helper()
	if _, err := raw(t, address).Exec(t.Context(), statements, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
}

// asAdmin is the address for the superuser of the tests.
func asAdmin(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	other, err := url.Parse(pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	u.User = other.User
	return u.String()
}

// member is the address for another user, who is a member of a role and nothing else.
func member(t *testing.T, address, of string) string {
	t.Helper()
	user, super := "pawl_member_"+strings.ToLower(rand.Text()), asAdmin(t, address)
	admin(t, super, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD 'p'; GRANT %s TO %[1]s`, user, of))
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), super)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background()) //nolint:errcheck // of a test
		if _, err := conn.Exec(context.Background(), "DROP ROLE "+user); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, "p")
	return u.String()
}

// Whoever is within a tenant sees its rows and no others, whatever the statement asks for: as an ordinary user of the
// database, who owns the tables, and for somebody who is neither owner nor superuser and has the role alone.
func TestTheSecondWallHoldsWithoutTheFirst(t *testing.T) {
	address, _ := ordinary(t, "CREATEROLE")
	s := open(t, address, postgres.Options{})
	ours, theirs := fill(t, s, session.DefaultTenant), fill(t, s, "theirs")
	alone := raw(t, member(t, address, s.Role()))
	for table, may := range postgres.Rights() {
		for _, tenant := range []string{session.DefaultTenant, "theirs", "", "nobody"} {
			foreign, err := s.CountWithin(t.Context(), cmpOr(tenant, "''"), `SELECT count(*) FROM `+table+
				` WHERE tenant <> '`+tenant+`'`)
			if err != nil || foreign != 0 {
				t.Errorf("%s: %d foreign rows within %q, %v", table, foreign, tenant, err)
			}
			var all, own int
			if _, err := alone.Exec(t.Context(), `SELECT set_config('pawl.tenant', $1, false)`, tenant); err != nil {
				t.Fatal(err)
			}
			if err := alone.QueryRow(t.Context(), `SELECT count(*), count(*) FILTER (WHERE tenant = $1) FROM `+table,
				tenant).Scan(&all, &own); err != nil || all != own ||
				(own > 0) != (tenant == session.DefaultTenant || tenant == "theirs") {
				t.Errorf("%s: %d of %d rows are of %q, %v", table, own, all, tenant, err)
			}
		}
		if strings.Contains(may, "UPDATE") {
			_, err := s.ExecWithin(t.Context(), "theirs", `UPDATE `+table+` SET tenant = 'default'`)
			refused(t, err, tenancy.ErrForeign)
			n, err := s.ExecWithin(t.Context(), "theirs",
				`UPDATE `+table+` SET tenant = tenant WHERE tenant = 'default'`)
			if err != nil || n != 0 {
				t.Errorf("%s: %d foreign rows changed, %v", table, n, err)
			}
		}
		if strings.Contains(may, "DELETE") {
			n, err := s.ExecWithin(t.Context(), "theirs", `DELETE FROM `+table+` WHERE tenant = 'default'`)
			if err != nil || n != 0 {
				t.Errorf("%s: %d foreign rows deleted, %v", table, n, err)
			}
		}
	}
	for table := range ofThePlatform {
		if _, err := alone.Exec(t.Context(), `SELECT * FROM `+table); err == nil {
			t.Errorf("%s is shown to tenants", table)
		}
	}
	nothingOf(t, s, ours, "theirs")
	for tenant, r := range map[string]tenantRows{session.DefaultTenant: ours, "theirs": theirs} {
		everythingOf(t, s, r, tenant)
	}
}

func cmpOr(s, or string) string {
	if s == "" {
		return or
	}
	return s
}

// ran is a run within a tenant that has something in every table, and a schedule.
func ran(t *testing.T, s *postgres.Store, ctx context.Context, tenant string) run.Run {
	t.Helper()
	n := run.Start{
		ID: ident.New(), SubmissionID: ident.New(), Tenant: tenant, Workflow: "w", Owner: ident.New(),
		Input: json.RawMessage(`"` + strings.Repeat("x", 2*run.Inline) + `"`),
	}
	got, err := s.StartRun(ctx, n)
	if err != nil || got.Lease == nil {
		t.Fatalf("%+v, %v", got, err)
	}
	l := got.Lease
	if _, err := s.Commit(t.Context(), lane.Commit{
		Fence: l.Fence, Kind: l.Kind, ID: ident.New(), Tenant: tenant, EventHead: l.EventHead, Steps: []lane.Step{{
			LoopID: l.Root().ID, SessionID: n.ID,
			Events:  []event.Event{{Seq: l.EventHead + 1, SubmissionID: l.Root().ID, Type: event.Text, Text: "x"}},
			Records: []records.Record{{Ord: 1, Path: "a", State: records.Completed}},
		}},
	}); err != nil {
		t.Fatal(err)
	}
	told := run.Telling{Tenant: tenant, RunID: n.ID, Signal: records.Signal{Name: "s"}}
	if _, _, err := s.Tell(ctx, told); err != nil {
		t.Fatal(err)
	}
	if err := s.SetSchedules(ctx, tenant, "w", []run.Schedule{{Cron: "@daily"}}, func(int, time.Time) time.Time {
		return time.Time{}
	}); err != nil {
		t.Fatal(err)
	}
	return got.Run
}

// decided is an approval for the rest of the session, within a tenant.
func decided(t *testing.T, s *postgres.Store, ctx context.Context, l lane.Lease) approval.Approval {
	t.Helper()
	loop := l.Root()
	a := approval.Approval{
		ID: ident.New(), Tenant: loop.Key.Tenant, LaneID: loop.LaneID, SessionID: loop.SessionID, LoopID: loop.ID,
		RootID: loop.ID, Turn: 1, CallID: ident.New(), Key: loop.Key, Digest: []byte("d"), Subject: approval.Subject{
			Tool: "bash", Path: []approval.Stage{{Agent: loop.Key.Agent}},
			Asks: []approval.Ask{{Agent: loop.Key.Agent}},
		},
	}
	if _, err := s.Commit(t.Context(), lane.Commit{
		Fence: l.Fence, ID: ident.New(), Tenant: a.Tenant, EventHead: l.EventHead, Steps: []lane.Step{{
			LoopID: loop.ID, SessionID: loop.SessionID, EntryHead: loop.EntryHead,
			Events:    []event.Event{{Seq: l.EventHead + 1, SubmissionID: loop.ID, Type: event.Text, Text: "x"}},
			Approvals: []approval.Approval{a},
		}},
	}); err != nil {
		t.Fatal(err)
	}
	a, did, err := s.DecideApproval(ctx, approval.Decision{
		Tenant: a.Tenant, ID: a.ID, Digest: a.Digest, Approve: true, Scope: approval.Session,
	})
	if err != nil || !did {
		t.Fatalf("decided: %v, %v", did, err)
	}
	return a
}

// nothingOf is what is said of things, by methods that are asked for them in the name of their own tenant, within
// another one.
func nothingOf(t *testing.T, s *postgres.Store, r tenantRows, within string) {
	t.Helper()
	ctx, own := tenancy.Within(t.Context(), within), r.sub.Key.Tenant
	_, err := s.GetSession(ctx, own, r.sub.SessionID)
	refused(t, err, session.ErrNotFound)
	_, err = s.FindSession(ctx, r.sub.Key)
	refused(t, err, session.ErrNotFound)
	_, err = s.GetSubmission(ctx, own, r.sub.ID)
	refused(t, err, submission.ErrNotFound)
	_, err = s.RequestAbort(ctx, own, r.sub.ID)
	refused(t, err, submission.ErrNotFound)
	_, _, err = s.RequestAbortSession(ctx, own, r.sub.SessionID)
	refused(t, err, session.ErrNotFound)
	_, err = s.Events(ctx, r.sub.SessionID, 0, 10)
	refused(t, err, session.ErrNotFound)
	_, err = s.GetToken(ctx, "", r.token.ID)
	refused(t, err, auth.ErrTokenNotFound)
	refused(t, s.RevokeToken(ctx, own, r.token.ID), auth.ErrTokenNotFound)
	_, err = s.GetDeletion(ctx, own, r.gone.ID)
	refused(t, err, deletion.ErrNotFound)
	_, err = s.GetRun(ctx, own, r.run.ID)
	refused(t, err, run.ErrNotFound)
	_, _, err = s.Tell(ctx, run.Telling{Tenant: own, RunID: r.run.ID})
	refused(t, err, tenancy.ErrForeign)
	_, err = s.RetryRun(ctx, run.Retry{Tenant: own, RunID: r.run.ID})
	refused(t, err, tenancy.ErrForeign)
	if all, err := s.ListRuns(ctx, run.Filter{Tenant: own, Limit: 10}); err != nil || len(all) > 0 {
		t.Errorf("listed %+v, %v", all, err)
	}
	for what, list := range map[string]func() (int, error){
		"steps":     func() (int, error) { got, err := s.ListSteps(ctx, r.run.ID, 0, 10); return len(got), err },
		"signals":   func() (int, error) { got, err := s.Untaken(ctx, r.run.ID); return len(got), err },
		"schedules": func() (int, error) { got, err := s.Schedules(ctx, own); return len(got), err },
	} {
		if n, err := list(); err != nil || n > 0 {
			t.Errorf("%d %s, %v", n, what, err)
		}
	}
	_, err = s.GetApproval(ctx, own, r.asked.ID)
	refused(t, err, approval.ErrNotFound)
	_, _, err = s.DecideApproval(ctx, approval.Decision{Tenant: own, ID: r.asked.ID})
	refused(t, err, approval.ErrNotFound)
	_, err = s.GetTenant(ctx, own)
	refused(t, err, tenancy.ErrNotFound)
	_, err = s.BeginDeletion(ctx, deletion.Deletion{
		ID: ident.New(), Kind: deletion.Session, Key: r.sub.Key, SessionID: r.sub.SessionID,
	})
	refused(t, err, tenancy.ErrForeign)
	_, _, err = s.CreateSession(ctx, session.New{Key: r.sub.Key})
	refused(t, err, tenancy.ErrForeign)
	_, err = s.UpdateSession(ctx, own, r.sub.SessionID, session.Change{})
	refused(t, err, tenancy.ErrForeign)
	_, err = s.ForkSession(ctx, session.Fork{New: session.New{Key: r.sub.Key}, From: r.sub.SessionID})
	refused(t, err, tenancy.ErrForeign)
	_, err = s.CreateToken(ctx, auth.Token{ID: ident.New(), Tenant: own, Kind: auth.Client, Hash: []byte("x")}, 0)
	refused(t, err, tenancy.ErrForeign)
	_, err = s.Rebind(ctx, own, r.sub.SessionID, "elsewhere")
	refused(t, err, tenancy.ErrForeign)
	for _, name := range []string{"a", "new"} {
		for _, key := range []string{"", "once"} {
			a := admission(name, "")
			a.Key.Tenant, a.IdempotencyKey = own, key
			_, err = s.Admit(ctx, a)
			refused(t, err, tenancy.ErrForeign)
		}
	}
	entries, err := s.Entries(ctx, r.sub.SessionID, 0, 10)
	subs, more := s.ListSubmissions(ctx, r.sub.SessionID, 0, 10)
	sessions, most := s.ListSessions(ctx, session.Filter{Tenant: own, Limit: 10})
	tokens, _, all := s.ListTokens(ctx, own, "", 10)
	events, _, each := s.ListAudit(ctx, audit.Filter{Tenant: own, Limit: 10})
	gone, every := s.ListDeletions(ctx, own, "", 10)
	asked, _, any := s.ListApprovals(ctx, approval.Filter{Tenant: own, Limit: 10})
	grants, _, one := s.ListGrants(ctx, approval.Filter{Tenant: own, Limit: 10})
	for _, err := range []error{err, more, most, all, each, every, any, one} {
		if err != nil {
			t.Error(err)
		}
	}
	n := len(entries) + len(subs) + len(sessions) + len(tokens) + len(events) + len(gone) + len(asked) + len(grants)
	if n > 0 {
		t.Errorf("%d things of another tenant", n)
	}
}

// everythingOf is what is said of things within their own tenant.
func everythingOf(t *testing.T, s *postgres.Store, r tenantRows, tenant string) {
	t.Helper()
	ctx := tenancy.Within(t.Context(), tenant)
	page, err := s.Entries(ctx, r.sub.SessionID, 0, 10)
	if err != nil || len(page) != 1 {
		t.Errorf("%s: %d entries, %v", tenant, len(page), err)
	}
	grants, _, err := s.ListGrants(ctx, approval.Filter{Tenant: tenant, Limit: 10})
	if err != nil || len(grants) != 1 {
		t.Errorf("%s: %d grants, %v", tenant, len(grants), err)
	}
	if got, err := s.GetRun(ctx, tenant, r.run.ID); err != nil || len(got.Input) < run.Inline {
		t.Errorf("%s: a run with an input of %d bytes, %v", tenant, len(got.Input), err)
	}
	steps, err := s.ListSteps(ctx, r.run.ID, 0, 10)
	signals, failed := s.Untaken(ctx, r.run.ID)
	if err != nil || failed != nil || len(steps) != 1 || len(signals) != 1 {
		t.Errorf("%s: %d steps, %v, %d signals, %v", tenant, len(steps), err, len(signals), failed)
	}
	if all, err := s.Schedules(ctx, tenant); err != nil || len(all) != 1 {
		t.Errorf("%s: %d schedules, %v", tenant, len(all), err)
	}
	if page, err := s.Entries(ctx, r.fork.ID, 0, 10); err != nil || len(page) != 1 {
		t.Errorf("%s: %d entries of a fork, %v", tenant, len(page), err)
	}
	labelled, err := s.ListSessions(ctx, session.Filter{Tenant: tenant, Labels: r.fork.Labels, Limit: 10})
	if err != nil || len(labelled) != 1 {
		t.Errorf("%s: %d sessions by label, %v", tenant, len(labelled), err)
	}
	if events, err := s.Events(ctx, r.sub.SessionID, 0, 10); err != nil || len(events) != 2 {
		t.Errorf("%s: %d events, %v", tenant, len(events), err)
	}
	if tokens, _, err := s.ListTokens(ctx, "", "", 10); err != nil || len(tokens) != 1 || tokens[0].ID != r.token.ID {
		t.Errorf("%s: tokens %+v, %v", tenant, tokens, err)
	}
	if events, _, err := s.ListAudit(ctx, audit.Filter{Limit: 10}); err != nil || len(events) != 1 {
		t.Errorf("%s: %d events of the audit log, %v", tenant, len(events), err)
	}
	if all, err := s.ListDeletions(ctx, tenant, "", 10); err != nil || len(all) != 1 {
		t.Errorf("%s: %d deletions, %v", tenant, len(all), err)
	}
	if sub, err := s.RequestAbort(ctx, tenant, r.sub.ID); err != nil || !sub.AbortRequested {
		t.Errorf("%s: %+v, %v", tenant, sub, err)
	}
	if err := s.RevokeToken(ctx, tenant, r.token.ID); err != nil {
		t.Error(err)
	}
}

// Where the user of the database may not make the role, somebody is told what to do, and that helps.
func TestWithoutTheRightToMakeRoles(t *testing.T) {
	address, user := ordinary(t, "")
	_, err := postgres.Open(t.Context(), address, postgres.Options{})
	want := fmt.Sprintf(`“CREATE ROLE "pawl_tenants_of_%[1]s" NOLOGIN; GRANT "pawl_tenants_of_%[1]s" TO "%[1]s"”`,
		user)
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--no-row-security") {
		t.Fatalf("error = %v, want %s", err, want)
	}
	log := &storetest.Log{}
	s := open(t, address, postgres.Options{NoRowSecurity: true, Log: slog.New(slog.NewTextHandler(log, nil))})
	if _, err := s.Admit(tenancy.Within(t.Context(), "default"), admission("a", "")); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "level=WARN msg=\"row-level security is off") {
		t.Errorf("the log says %s", log.String())
	}
	_, statements, _ := strings.Cut(err.Error(), "“")
	statements, _, _ = strings.Cut(statements, "”")
	admin(t, asAdmin(t, address), statements)
	behind := open(t, address, postgres.Options{})
	for name, s := range map[string]*postgres.Store{"with": behind, "without": s} {
		if _, err := s.Admit(tenancy.Within(t.Context(), "default"), admission(name, "")); err != nil {
			t.Errorf("%s row-level security: %v", name, err)
		}
	}
	if n, err := behind.CountWithin(t.Context(), "default", `SELECT count(*) FROM sessions`); err != nil || n != 3 {
		t.Errorf("%d sessions, %v", n, err)
	}
}

// What is missing of the wall at a start is made again, and a role that it does not bind is refused.
func TestTheWallIsMended(t *testing.T) {
	address, user := ordinary(t, "CREATEROLE")
	role := open(t, address, postgres.Options{}).Role()
	if role != "pawl_tenants_of_"+user {
		t.Errorf("the role is %s", role)
	}
	for _, harm := range []string{
		`ALTER TABLE sessions DISABLE ROW LEVEL SECURITY`, `ALTER TABLE sessions NO FORCE ROW LEVEL SECURITY`,
		`DROP POLICY tenant ON sessions`, `DROP POLICY platform ON sessions`, `GRANT UPDATE ON sessions TO ` + role,
		`GRANT SELECT ON secrets TO ` + role, `REVOKE INSERT ON sessions FROM ` + role,
		`REVOKE ` + role + ` FROM ` + user,
	} {
		admin(t, asAdmin(t, address), harm)
		s := open(t, address, postgres.Options{})
		if _, err := s.Admit(tenancy.Within(t.Context(), "default"), admission(ident.New(), "")); err != nil {
			t.Errorf("%s: %v", harm, err)
		}
		if n, err := s.CountWithin(t.Context(), "other", `SELECT count(*) FROM sessions`); err != nil || n != 0 {
			t.Errorf("%s: %d foreign sessions, %v", harm, n, err)
		}
		if _, err := s.ExecWithin(t.Context(), "default", `UPDATE sessions SET executor = ''`); err == nil {
			t.Errorf("%s: tenants may move sessions", harm)
		}
	}
	for _, unfit := range []string{"SUPERUSER", "BYPASSRLS", "LOGIN"} {
		admin(t, asAdmin(t, address), `ALTER ROLE `+role+` `+unfit)
		if _, err := postgres.Open(t.Context(), address, postgres.Options{}); err == nil ||
			!strings.Contains(err.Error(), "has rights of its own") {
			t.Errorf("%s: %v", unfit, err)
		}
		admin(t, asAdmin(t, address), `ALTER ROLE `+role+` NO`+unfit)
	}
}

// A member of the owner works as the owner does. Whoever else may use the tables is told why that is not enough.
func TestOnlyOwnersOpenTheDatabase(t *testing.T) {
	address, user := ordinary(t, "CREATEROLE")
	role := open(t, address, postgres.Options{}).Role()
	s := open(t, member(t, address, user), postgres.Options{})
	_, err := s.Admit(tenancy.Within(t.Context(), "default"), admission("a", ident.New()))
	if err != nil || s.Role() != role {
		t.Errorf("the role is %s, %v", s.Role(), err)
	}
	for tenant, want := range map[string]int{"default": 1, "other": 0} {
		n, err := s.CountWithin(t.Context(), tenant, `SELECT count(*) FROM sessions`)
		if err != nil || n != want {
			t.Errorf("within %s: %d sessions, %v", tenant, n, err)
		}
	}
	admin(t, asAdmin(t, address), `GRANT ALL ON ALL TABLES IN SCHEMA public TO `+role)
	_, err = postgres.Open(t.Context(), member(t, address, role), postgres.Options{})
	if err == nil || !strings.Contains(err.Error(), "has to own Pawl's tables") {
		t.Errorf("error = %v", err)
	}
}

// Two users' installations on one server have roles of their own: no user gets into the other's.
func TestInstallationsShareNoRole(t *testing.T) {
	one, _ := ordinary(t, "CREATEROLE")
	other, _ := ordinary(t, "CREATEROLE")
	roles := []string{open(t, one, postgres.Options{}).Role(), open(t, other, postgres.Options{}).Role()}
	for i, address := range []string{other, one} {
		if _, err := raw(t, address).Exec(t.Context(), `SET ROLE `+roles[i]); err == nil {
			t.Errorf("the user of one installation may be %s of the other", roles[i])
		}
	}
}

// Admissions of many tenants are one transaction, each within its tenant.
func TestAdmissionsOfManyTenantsAreOneTransaction(t *testing.T) {
	address := migrated.URL(t)
	s, other := open(t, address, postgres.Options{}), open(t, address, postgres.Options{})
	var all []submission.Admission
	for i := range 30 {
		a := admission(fmt.Sprint(i%10), "")
		a.Key.Tenant, a.Key.Instance = fmt.Sprintf("t%d", i%3), fmt.Sprint(i)
		if i%2 == 0 {
			a.IdempotencyKey = "once"
		}
		all = append(all, a)
	}
	for round := range int64(3) { // of new sessions, of known ones, and again with keys
		for i := range all {
			all[i].ID = ident.New()
		}
		got, err := s.AdmitTogether(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		for i, one := range got {
			if one.Submission.Key != all[i].Key || one.Replayed != (i%2 == 0 && round > 0) {
				t.Errorf("round %d: %+v of %+v", round, one, all[i])
			}
			sub, err := other.GetSubmission(tenancy.Within(t.Context(), all[i].Key.Tenant), all[i].Key.Tenant,
				one.Submission.ID)
			if err != nil || sub.SessionID != one.Submission.SessionID {
				t.Errorf("round %d: %+v, %v", round, sub, err)
			}
		}
	}
	var transactions int
	if err := raw(t, address).QueryRow(t.Context(),
		`SELECT count(DISTINCT xmin::text) FROM sessions`).Scan(&transactions); err != nil || transactions != 1 {
		t.Errorf("%d transactions, %v", transactions, err)
	}
}

// A batch of several tenants locks lanes in the order in which commits do: while it waits for one, it holds none that
// comes later.
func TestAdmissionsOfManyTenantsLockLanesInOrder(t *testing.T) {
	address := migrated.URL(t)
	s := open(t, address, postgres.Options{})
	var all []submission.Admission
	lanes := map[string]string{}
	for _, tenant := range []string{"second", "first"} { // the lane of the tenant that comes first has the higher id
		a := admission("a", "")
		a.Key.Tenant = tenant
		got, err := s.Admit(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		a.ID, lanes[tenant] = ident.New(), got.Submission.SessionID
		all = append(all, a)
	}
	tx, err := raw(t, address).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const lock = `SELECT count(*) FROM (SELECT 1 FROM lanes WHERE lane_id = $1 FOR UPDATE SKIP LOCKED) l`
	var n int
	if err := tx.QueryRow(t.Context(), lock, lanes["second"]).Scan(&n); err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.AdmitTogether(context.Background(), all)
		done <- err
	}()
	until(t, raw(t, address), someoneWaits)
	if err := raw(t, address).QueryRow(t.Context(), lock, lanes["first"]).Scan(&n); err != nil || n != 1 {
		t.Errorf("the lane that comes later is locked, %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Neither the role nor the tenant outlives the transaction, where sessions are this program's own and where a pooler
// shares them.
func TestTheRoleEndsWithItsTransaction(t *testing.T) {
	address := migrated.URL(t)
	for _, at := range []string{address, pgtest.Pooled(t, address)} {
		s := open(t, at, postgres.Options{})
		theirs := admission("theirs", "")
		theirs.Key.Tenant = "theirs"
		for _, a := range []submission.Admission{admission(ident.New(), ""), theirs} {
			a.ID = ident.New()
			if _, err := s.Admit(tenancy.Within(t.Context(), a.Key.Tenant), a); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		for i := range 8 {
			tenant := []string{"theirs", session.DefaultTenant}[i%2]
			wg.Go(func() {
				for range 50 {
					n, err := s.CountWithin(t.Context(), tenant, `SELECT count(*) FROM sessions
						WHERE tenant <> current_setting('pawl.tenant')`)
					if err != nil || n != 0 {
						t.Errorf("%d foreign rows, %v", n, err)
					}
					for name, want := range map[string]string{"role": "none", "pawl.tenant": ""} {
						// A session that never was within a tenant does not know of any.
						got, err := s.Setting(t.Context(), name)
						if got != want || err != nil && !strings.Contains(err.Error(), "unrecognized") {
							t.Errorf("after the transaction %s is %q, %v", name, got, err)
						}
					}
				}
			})
		}
		wg.Wait()
	}
}
