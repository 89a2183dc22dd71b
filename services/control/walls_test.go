package control_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/services/control"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/deletion"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

// unwalled is a store without the first wall: whichever tenant the code names, it means the one whose things the walk
// names, and what it finds it gives out as the caller's own. Nothing but row-level security is left.
type unwalled struct{ store.Store }

func key(k session.Key) session.Key {
	k.Tenant = session.DefaultTenant
	return k
}

// owned makes tokens look like the caller's own.
func owned(ctx context.Context, t auth.Token) auth.Token {
	if own := tenancy.Of(ctx); own != "" {
		t.Tenant = own
	}
	return t
}

func (u unwalled) FindSession(ctx context.Context, k session.Key) (session.Session, error) {
	return u.Store.FindSession(ctx, key(k))
}

func (u unwalled) GetSession(ctx context.Context, _, id string) (session.Session, error) {
	return u.Store.GetSession(ctx, session.DefaultTenant, id)
}

func (u unwalled) ListSessions(ctx context.Context, f session.Filter) ([]session.Session, error) {
	f.Tenant = session.DefaultTenant
	return u.Store.ListSessions(ctx, f)
}

func (u unwalled) Rebind(ctx context.Context, _, id, executor string) (session.Session, error) {
	return u.Store.Rebind(ctx, session.DefaultTenant, id, executor)
}

func (u unwalled) Admit(ctx context.Context, a submission.Admission) (submission.Admitted, error) {
	a.Key = key(a.Key)
	return u.Store.Admit(ctx, a)
}

func (u unwalled) GetSubmission(ctx context.Context, _, id string) (submission.Submission, error) {
	return u.Store.GetSubmission(ctx, session.DefaultTenant, id)
}

func (u unwalled) RequestAbort(ctx context.Context, _, id string) (submission.Submission, error) {
	return u.Store.RequestAbort(ctx, session.DefaultTenant, id)
}

func (u unwalled) RequestAbortSession(ctx context.Context, _, id string) (int, string, error) {
	return u.Store.RequestAbortSession(ctx, session.DefaultTenant, id)
}

func (u unwalled) BeginDeletion(ctx context.Context, d deletion.Deletion) (deletion.Deletion, error) {
	d.Key = key(d.Key)
	return u.Store.BeginDeletion(ctx, d)
}

func (u unwalled) GetDeletion(ctx context.Context, _, id string) (deletion.Deletion, error) {
	return u.Store.GetDeletion(ctx, session.DefaultTenant, id)
}

func (u unwalled) DeletionOf(ctx context.Context, _, id string) (deletion.Deletion, error) {
	return u.Store.DeletionOf(ctx, session.DefaultTenant, id)
}

func (u unwalled) ListDeletions(ctx context.Context, _, before string, limit int) ([]deletion.Deletion, error) {
	return u.Store.ListDeletions(ctx, session.DefaultTenant, before, limit)
}

func (u unwalled) GetTenant(ctx context.Context, name string) (tenancy.Tenant, error) {
	if tenancy.Of(ctx) != "" {
		name = session.DefaultTenant
	}
	return u.Store.GetTenant(ctx, name)
}

func (u unwalled) CreateToken(ctx context.Context, t auth.Token, life time.Duration) (auth.Token, error) {
	if tenancy.Of(ctx) != "" { // the walk makes those of its callers outside of any
		t.Tenant = session.DefaultTenant
	}
	return u.Store.CreateToken(ctx, t, life)
}

func (u unwalled) GetToken(ctx context.Context, _, id string) (auth.Token, error) {
	t, err := u.Store.GetToken(ctx, "", id)
	return owned(ctx, t), err
}

func (u unwalled) ListTokens(
	ctx context.Context, _, before string, limit int,
) (page []auth.Token, next string, err error) {
	page, next, err = u.Store.ListTokens(ctx, "", before, limit)
	for i := range page {
		page[i] = owned(ctx, page[i])
	}
	return page, next, err
}

func (u unwalled) RevokeToken(ctx context.Context, _, id string) error {
	return u.Store.RevokeToken(ctx, session.DefaultTenant, id)
}

func (u unwalled) CreateTicket(ctx context.Context, k auth.Ticket, life time.Duration) error {
	if tenancy.Of(ctx) == "elsewhere" {
		k.Tenant = session.DefaultTenant
	}
	return u.Store.CreateTicket(ctx, k, life)
}

func (u unwalled) CreateSession(ctx context.Context, n session.New) (session.Session, bool, error) {
	n.Key = key(n.Key)
	return u.Store.CreateSession(ctx, n)
}

func (u unwalled) UpdateSession(ctx context.Context, _, id string, c session.Change) (session.Session, error) {
	return u.Store.UpdateSession(ctx, session.DefaultTenant, id, c)
}

func (u unwalled) ForkSession(ctx context.Context, f session.Fork) (session.Session, error) {
	f.Key = key(f.Key)
	return u.Store.ForkSession(ctx, f)
}

func (u unwalled) GetApproval(ctx context.Context, _, id string) (approval.Approval, error) {
	return u.Store.GetApproval(ctx, session.DefaultTenant, id)
}

func (u unwalled) ListApprovals(ctx context.Context, f approval.Filter) ([]approval.Approval, string, error) {
	f.Tenant = session.DefaultTenant
	return u.Store.ListApprovals(ctx, f)
}

func (u unwalled) DecideApproval(ctx context.Context, d approval.Decision) (approval.Approval, bool, error) {
	d.Tenant = session.DefaultTenant
	return u.Store.DecideApproval(ctx, d)
}

func (u unwalled) GetGrant(ctx context.Context, _, id string) (approval.Grant, error) {
	return u.Store.GetGrant(ctx, session.DefaultTenant, id)
}

func (u unwalled) ListGrants(ctx context.Context, f approval.Filter) ([]approval.Grant, string, error) {
	f.Tenant = session.DefaultTenant
	return u.Store.ListGrants(ctx, f)
}

func (u unwalled) RevokeGrant(ctx context.Context, _, id string, by audit.Who) (approval.Grant, error) {
	return u.Store.RevokeGrant(ctx, session.DefaultTenant, id, by)
}

func (u unwalled) StartRun(ctx context.Context, s run.Start) (run.Started, error) {
	s.Tenant = session.DefaultTenant
	return u.Store.StartRun(ctx, s)
}

func (u unwalled) RetryRun(ctx context.Context, r run.Retry) (run.Started, error) {
	r.Tenant = session.DefaultTenant
	return u.Store.RetryRun(ctx, r)
}

func (u unwalled) GetRun(ctx context.Context, _, id string) (run.Run, error) {
	return u.Store.GetRun(ctx, session.DefaultTenant, id)
}

func (u unwalled) ListRuns(ctx context.Context, f run.Filter) ([]run.Run, error) {
	f.Tenant = session.DefaultTenant
	return u.Store.ListRuns(ctx, f)
}

func (u unwalled) Tell(ctx context.Context, n run.Telling) (step.Signal, bool, error) {
	n.Tenant = session.DefaultTenant
	return u.Store.Tell(ctx, n)
}

func (u unwalled) Schedules(ctx context.Context, _ string) ([]run.Schedule, error) {
	return u.Store.Schedules(ctx, session.DefaultTenant)
}

func (u unwalled) SetSchedules(
	ctx context.Context, _, workflow string, all []run.Schedule, next func(int, time.Time) time.Time,
) error {
	return u.Store.SetSchedules(ctx, session.DefaultTenant, workflow, all, next)
}

func (u unwalled) PauseSchedule(ctx context.Context, p run.Pausing) (run.Schedule, error) {
	p.Tenant = session.DefaultTenant
	return u.Store.PauseSchedule(ctx, p)
}

func (u unwalled) Fire(ctx context.Context, s run.Schedule, next time.Time, starts []run.Start) (bool, error) {
	s.Tenant = session.DefaultTenant
	return u.Store.Fire(ctx, s, next, starts)
}

func (u unwalled) ListAudit(ctx context.Context, f audit.Filter) ([]audit.Event, string, error) {
	f.Tenant = ""
	return u.Store.ListAudit(ctx, f)
}

// carriers are the types in which methods of stores take a tenant beside a parameter of that name.
var carriers = []reflect.Type{
	reflect.TypeFor[session.Key](), reflect.TypeFor[session.Filter](), reflect.TypeFor[submission.Admission](),
	reflect.TypeFor[deletion.Deletion](), reflect.TypeFor[auth.Token](), reflect.TypeFor[auth.Ticket](),
	reflect.TypeFor[audit.Filter](), reflect.TypeFor[approval.Filter](), reflect.TypeFor[approval.Decision](),
	reflect.TypeFor[session.New](), reflect.TypeFor[session.Fork](), reflect.TypeFor[run.Start](),
	reflect.TypeFor[run.Retry](), reflect.TypeFor[run.Filter](), reflect.TypeFor[run.Telling](),
	reflect.TypeFor[run.Schedule](), reflect.TypeFor[run.Pausing](),
}

const (
	byID     = "a method that was told a tenant has given the ids"
	platform = "of the platform itself: no request of a client comes here"
	operator = "of the installation: for operators"
	shared   = "tenants share what it is about; whoever asks is told what is its own"
	callers  = "says who the caller is: from there on its tenant is known"
)

// boundBy is what keeps those methods to rows of one tenant that are told none.
var boundBy = map[string]string{
	"Entries": byID, "Events": byID, "ListSubmissions": byID, "EventHeads": byID, "Settled": byID,
	"Image": byID, "LoopCalls": byID,
	"FindToken": callers, "UseTicket": callers, "ClusterSecret": callers, "ExtendToken": callers,
	"GetExecutor": shared, "ListExecutors": shared, "PutDefinition": shared, "GetDefinition": shared,
	"CreateTenant": operator, "GetTenant": operator, "ListTenants": operator, "SuspendTenant": operator,

	"AdvanceDeletion": platform, "AppendAudit": platform, "Cancellations": platform,
	"Claim": platform, "Close": platform, "CloseSession": platform, "Commit": platform, "CompleteCall": platform,
	"Connect": platform, "DeleteBatch": platform, "Disconnect": platform, "DispatchedCalls": platform, "End": platform,
	"Force": platform, "GetCall": platform, "Grant": platform, "Listen": platform, "MoveMail": platform,
	"Notify": platform, "Own": platform, "OwnerOf": platform, "PinOf": platform, "Post": platform,
	"PostponeDeletion": platform,
	"PurgeSession":     platform, "Raise": platform, "RegisterReplica": platform, "Release": platform,
	"RemoveReplica": platform, "RenewReplica": platform, "SetBegun": platform, "SetDraining": platform,
	"Shared": platform, "SplitDeletion": platform, "TakeDeletions": platform, "TakeOver": platform,
	"TurnApprovals": platform, "ExpireApproval": platform, "LaneGrants": platform, "TurnCalls": platform,
	"Unended": platform, "WaitingCalls": platform, "PauseModel": platform, "ModelPause": platform,
	"LastSummary": platform, "Steers": platform, "UsedBelow": platform,
	"OpenSteps": byID, "PartsOf": byID, "ListSteps": byID, "Untaken": byID, "DueSchedules": platform,
}

// Every method of the stores is told a tenant, or it is known what it is bound by instead. What is told a tenant
// forgets it in unwalled.
func TestEveryMethodIsBoundByATenant(t *testing.T) {
	forgets := map[string]bool{}
	parse(t, "walls_test.go", func(n ast.Node) {
		if f, ok := n.(*ast.FuncDecl); ok && f.Recv != nil {
			forgets[f.Name.Name] = true
		}
	})
	told := map[string]bool{}
	files, err := filepath.Glob("*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		parse(t, file, func(n ast.Node) {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || spec.Name.Name != "Store" {
				return
			}
			in, ok := spec.Type.(*ast.InterfaceType)
			if !ok {
				return
			}
			for _, m := range in.Methods.List {
				f, ok := m.Type.(*ast.FuncType)
				if !ok {
					continue
				}
				for _, p := range f.Params.List {
					if slices.ContainsFunc(p.Names, func(name *ast.Ident) bool { return name.Name == "tenant" }) {
						told[m.Names[0].Name] = true
					}
				}
			}
		})
	}
	all := reflect.TypeFor[store.Store]()
	for i := range all.NumMethod() {
		m := all.Method(i)
		for p := range m.Type.Ins() {
			told[m.Name] = told[m.Name] || slices.Contains(carriers, p)
		}
	}
	for i := range all.NumMethod() {
		switch name := all.Method(i).Name; {
		case told[name] && !forgets[name]:
			t.Errorf("%s is told a tenant, and the walk without the first wall keeps it", name)
		case told[name] == (boundBy[name] != ""):
			t.Errorf("%s is told a tenant: %v; and is bound by: %q", name, told[name], boundBy[name])
		}
	}
}

func parse(t *testing.T, file string, visit func(ast.Node)) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		visit(n)
		return true
	})
}

// The whole walk, without the first wall.
func TestTheSecondWall(t *testing.T) {
	for name, over := range map[string]func(*testing.T, *walk){
		"RPCs": everyRPC, "routes": everyRoute, "files": everyPathOfFiles, "other routes": everyOtherRoute,
	} {
		t.Run(name, func(t *testing.T) {
			log := slog.New(slog.DiscardHandler)
			db, err := control.OpenStore(t.Context(), control.Database{Name: pgtest.URL(t)}, log)
			if err != nil {
				t.Fatal(err)
			}
			over(t, startWalkOn(t, unwalled{db}))
		})
	}
}
