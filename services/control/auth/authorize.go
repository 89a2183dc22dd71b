package auth

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/session"
)

// Verb is what somebody wants to do.
type Verb string

// Verbs. Each RPC and each route has exactly one, see Rules.
const (
	ReadAgents      Verb = "read agents"
	ReloadAgents    Verb = "reload agents"
	Prompt          Verb = "prompt an agent"
	Abort           Verb = "abort submissions"
	ReadSessions    Verb = "read sessions" // submissions, entries and events too
	MakeSessions    Verb = "make, label and fork sessions"
	MoveSessions    Verb = "move sessions to other executors"
	Delete          Verb = "delete sessions"
	ReadApprovals   Verb = "see what waits for approval"
	DecideApprovals Verb = "decide approvals"
	ReadDeletions   Verb = "see what is deleted"
	ReadTenants     Verb = "see the tenants"
	ManageTenants   Verb = "make, suspend and delete tenants"
	ReadModels      Verb = "see the models"
	UseFiles        Verb = "read the files of sessions"
	ChangeFiles     Verb = "change the files of sessions"
	RunCommands     Verb = "run commands in the workspaces of sessions"
	ReadWorkflows   Verb = "read workflows"
	StartRuns       Verb = "start runs of a workflow" // retries and copies too
	ReadRuns        Verb = "read runs"
	SteerRuns       Verb = "cancel and signal runs"
	ChangeSchedules Verb = "pause and resume schedules"
	ReadAll         Verb = "list all agents and runs"
	ReadExecutors   Verb = "read executors"
	UseExecutors    Verb = "use the files of executors"
	Connect         Verb = "connect as an executor"
	ReadTokens      Verb = "list tokens"
	ManageTokens    Verb = "make and revoke tokens"
	ReadAudit       Verb = "read the audit log"
	MakeTicket      Verb = "make a ticket for a socket"
	OpenSocket      Verb = "open a socket for calls"
	Inspect         Verb = "inspect the server"
	Forward         Verb = "forward between replicas"
	Look            Verb = "see that the server is there"
)

// Rule says who may do what a verb names, and which RPCs and routes do it. What no rule names is forbidden.
type Rule struct {
	Verb Verb
	// Least is the least role of clients that may; "" is that no client may.
	Least Role
	// Kinds are the other kinds of principals that may. None, without a role, is everybody, without a token too.
	Kinds []Kind
	// Changes says that something is not as it was afterwards.
	Changes bool
	// Methods are full names of RPCs, and routes that are no RPCs as "METHOD /path". The method of a request for a
	// WebSocket is WS.
	Methods []string
}

var operators = []Kind{Operator}

// rules is the whole table, for gRPC and HTTP alike.
var rules = []Rule{
	{ReadAgents, Viewer, operators, false, []string{
		"pawl.v1.AgentService/ListAgents", "pawl.v1.AgentService/GetAgent",
	}},
	{ReloadAgents, "", operators, true, []string{"pawl.v1.AgentService/ReloadAgents"}},
	{Prompt, User, operators, true, []string{
		"pawl.v1.SubmissionService/Submit", "pawl.v1.SubmissionService/Prompt",
		"pawl.v1.SessionService/CompactSession",
		"POST /agents/{agent}/{instance}", "WS /agents/{agent}/{instance}",
	}},
	{Abort, User, operators, true, []string{
		"pawl.v1.SubmissionService/AbortSubmission", "pawl.v1.SubmissionService/AbortSession",
	}},
	{ReadSessions, Viewer, operators, false, []string{
		"pawl.v1.SessionService/ListSessions", "pawl.v1.SessionService/GetSession",
		"pawl.v1.SessionService/ListEntries", "pawl.v1.SessionService/WatchSession",
		"pawl.v1.SessionService/GetImage",
		"pawl.v1.SessionService/ExportSession",
		"pawl.v1.SubmissionService/WaitSubmission",
		"pawl.v1.SubmissionService/GetSubmission", "pawl.v1.SubmissionService/ListSubmissions",
	}},
	{MakeSessions, User, operators, true, []string{
		"pawl.v1.SessionService/CreateSession", "pawl.v1.SessionService/UpdateSession",
		"pawl.v1.SessionService/ForkSession", "pawl.v1.SessionService/RewindSession",
	}},
	{ReadApprovals, Viewer, operators, false, []string{
		"pawl.v1.ApprovalService/ListApprovals", "pawl.v1.ApprovalService/GetApproval",
		"pawl.v1.ApprovalService/ListGrants",
	}},
	{DecideApprovals, Approver, operators, true, []string{
		"pawl.v1.ApprovalService/DecideApproval", "pawl.v1.ApprovalService/RevokeGrant",
	}},
	{MoveSessions, "", operators, true, []string{"pawl.v1.SessionService/RebindSession"}},
	{Delete, Admin, operators, true, []string{
		"pawl.v1.DeletionService/DeleteSession", "pawl.v1.DeletionService/DeleteInstance",
	}},
	{ReadDeletions, Admin, operators, false, []string{
		"pawl.v1.DeletionService/GetDeletion", "pawl.v1.DeletionService/ListDeletions",
	}},
	{ReadTenants, "", operators, false, []string{
		"pawl.v1.TenantService/ListTenants", "pawl.v1.TenantService/GetTenant",
	}},
	{ManageTenants, "", operators, true, []string{
		"pawl.v1.TenantService/CreateTenant", "pawl.v1.TenantService/SuspendTenant",
		"pawl.v1.TenantService/ResumeTenant", "pawl.v1.TenantService/DeleteTenant",
	}},
	{ReadModels, "", operators, false, []string{"pawl.v1.ModelService/ListModels"}},
	{UseFiles, User, operators, false, []string{
		"pawl.v1.FileService/ReadFile", "pawl.v1.FileService/Stat", "pawl.v1.FileService/ReadDir",
		"pawl.v1.FileService/Exists",
	}},
	{ChangeFiles, User, operators, true, []string{
		"pawl.v1.FileService/WriteFile", "pawl.v1.FileService/MakeDir", "pawl.v1.FileService/Remove",
	}},
	{RunCommands, User, operators, true, []string{
		"pawl.v1.FileService/Exec", "pawl.v1.SubmissionService/Shell",
	}},
	{ReadWorkflows, Viewer, operators, false, []string{
		"pawl.v1.WorkflowService/ListWorkflows", "pawl.v1.WorkflowService/GetWorkflow",
		"pawl.v1.WorkflowService/ValidateWorkflow",
	}},
	{StartRuns, User, operators, true, []string{
		"pawl.v1.RunService/StartRun", "pawl.v1.RunService/RetryRun", "pawl.v1.RunService/ForkRun",
		"pawl.v1.RunService/TriggerSchedule",
		"POST /workflows/{workflow}", "WS /workflows/{workflow}",
	}},
	{SteerRuns, User, operators, true, []string{
		"pawl.v1.RunService/CancelRun", "pawl.v1.RunService/SignalRun",
	}},
	{ChangeSchedules, Admin, operators, true, []string{
		"pawl.v1.RunService/PauseSchedule", "pawl.v1.RunService/ResumeSchedule",
	}},
	{ReadRuns, Viewer, operators, false, []string{
		"pawl.v1.RunService/ListSchedules",
		"pawl.v1.RunService/GetRun", "pawl.v1.RunService/ListRuns", "pawl.v1.RunService/WaitRun",
		"pawl.v1.RunService/ListRunSteps", "pawl.v1.RunService/WatchRun",
		"GET /runs/{run}", "GET /runs/{run}/events", "GET /runs/{run}/stream",
	}},
	{ReadAll, Admin, operators, false, []string{
		"GET /admin/openapi.json", "GET /admin/agents", "GET /admin/runs", "GET /admin/runs/{run}",
	}},
	{ReadExecutors, "", operators, false, []string{
		"pawl.v1.ExecutorService/ListExecutors", "pawl.v1.ExecutorService/GetExecutor",
	}},
	{UseExecutors, "", operators, true, nil},
	{Connect, "", []Kind{Executor}, false, []string{"pawl.v1.ExecutorService/Connect"}},
	{ReadTokens, Admin, operators, false, []string{"pawl.v1.TokenService/ListTokens"}},
	{ManageTokens, Admin, operators, true, []string{
		"pawl.v1.TokenService/CreateToken", "pawl.v1.TokenService/RevokeToken",
	}},
	{ReadAudit, Admin, operators, false, []string{
		"pawl.v1.AuditService/ListAuditEvents", "pawl.v1.AuditService/ExportAuditEvents",
	}},
	{MakeTicket, Viewer, operators, false, []string{"pawl.v1.TokenService/CreateTicket"}},
	{OpenSocket, Viewer, operators, false, []string{"WS /v1/watch"}},
	{Inspect, "", operators, false, []string{
		"grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
		"grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
	}},
	{Forward, "", []Kind{Peer}, false, []string{
		"pawl.peer.v1.PeerService/Forward", "pawl.peer.v1.PeerService/Deliver", "pawl.peer.v1.PeerService/Transfer",
		"pawl.peer.v1.PeerService/Probe", "pawl.peer.v1.PeerService/Wait",
	}},
	{Look, "", nil, false, []string{
		"grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch", "grpc.health.v1.Health/List",
		"GET /", "GET /healthz", "GET /readyz", "GET /openapi.json", "GET /v1/docs", "GET /v1/openapi.json",
	}},
}

// byVerb and byMethod are indices into rules.
var byVerb, byMethod = func() (verbs map[Verb]int, methods map[string]int) {
	verbs, methods = map[Verb]int{}, map[string]int{}
	for i, r := range rules {
		verbs[r.Verb] = i
		for _, m := range r.Methods {
			methods[m] = i
		}
	}
	return verbs, methods
}()

// Rules is the whole table.
func Rules() []Rule { return slices.Clone(rules) }

// RuleOf is the rule of an RPC, by its full name with or without a slash before it, or of a route, as "METHOD /path".
func RuleOf(method string) (r Rule, ok bool) {
	i, ok := byMethod[strings.TrimPrefix(method, "/")]
	if !ok {
		return Rule{}, false
	}
	return rules[i], true
}

// MethodsOf are the methods that a route knows, sorted.
func MethodsOf(path string) []string {
	var all []string
	for m := range byMethod {
		if method, ok := strings.CutSuffix(m, " "+path); ok {
			all = append(all, method)
		}
	}
	slices.Sort(all)
	return all
}

// ErrUnknownVerb refuses a text that is no Verb.
var ErrUnknownVerb = errs.New(errs.InvalidArgument, "UNKNOWN_VERB", "there is no such verb")

// CheckVerb refuses, with ErrUnknownVerb, what is no verb of a rule that takes a token. The error lists all of them. Of
// the name of an RPC, with or without that of its service, it tells the verb.
func CheckVerb(v string) error {
	var all []string
	for _, r := range rules {
		if !r.Open() {
			all = append(all, strconv.Quote(string(r.Verb)))
		}
	}
	if slices.Contains(all, strconv.Quote(v)) {
		return nil
	}
	for _, r := range rules {
		for _, m := range r.Methods {
			if m == v || strings.HasSuffix(m, "/"+v) && !strings.Contains(m, " ") {
				return ErrUnknownVerb.With("%q is no verb; its verb is %q", v, r.Verb)
			}
		}
	}
	return ErrUnknownVerb.With("%q is no verb; the verbs are %s", v, strings.Join(all, ", "))
}

// Open reports whether whoever comes may, without a token.
func (r Rule) Open() bool { return r.Least == "" && len(r.Kinds) == 0 }

// allows reports whether this kind of principal, in this role, may at all.
func (r Rule) allows(p Principal) bool {
	if p.Kind == Client {
		return r.Least != "" && p.Role.includes(r.Least)
	}
	return slices.Contains(r.Kinds, p.Kind)
}

// Resource is what it is done to. Empty fields are not looked at: a verb with an empty Resource asks whether the
// principal may do such a thing at all.
type Resource struct {
	Tenant   string
	Agent    string
	Instance string
	Workflow string
	Executor string
	// Missing is told to a principal for whom the resource is foreign, so that it cannot tell foreign from absent. Nil
	// tells ErrForbidden, or session.ErrNoInstance of an instance that is outside of the principal's prefix.
	Missing error
}

// Enter is the part of Authorize that asks nothing but the name of an RPC or route, see RuleOf. What has no rule is
// forbidden.
func Enter(p Principal, method string) error {
	r, ok := RuleOf(method)
	if !ok {
		return ErrForbidden.With("nobody may call %.256s", method)
	}
	if r.Open() {
		return nil
	}
	return Authorize(p, r.Verb, Resource{})
}

// Authorize is the one authorization check, for gRPC and HTTP alike. Fails with ErrUnauthenticated without a principal,
// with ErrForbidden when this kind of principal never may, and with r.Missing when it may not do it to this resource.
func Authorize(p Principal, v Verb, r Resource) error {
	if p.Kind == "" {
		return ErrUnauthenticated
	}
	i, ok := byVerb[v]
	if !ok || !rules[i].allows(p) {
		return refusal(p, v, ok)
	}
	foreign := r.Tenant != "" && r.Tenant != p.Tenant ||
		r.Agent != "" && !p.mayAgent(r.Agent) ||
		r.Workflow != "" && !p.mayWorkflow(r.Workflow) ||
		r.Executor != "" && p.Kind == Executor && r.Executor != p.Executor
	outside := r.Instance != "" && !strings.HasPrefix(r.Instance, p.Limits.InstancePrefix)
	switch {
	case !foreign && !outside:
		return nil
	case r.Missing != nil:
		return r.Missing
	case outside:
		return session.ErrNoInstance.With("no such instance for this token, which allows only instances that begin "+
			"with %q", p.Limits.InstancePrefix)
	case v == Connect:
		return ErrForbidden.With("this token allows to connect as executor %q only", p.Executor)
	}
	return ErrForbidden
}

// refusal says what is missing to a principal that may not do such a thing at all.
func refusal(p Principal, v Verb, known bool) error {
	switch {
	case v == Connect:
		return ErrForbidden.With("only an executor's token can connect: make one with `control token create " +
			"--executor NAME`")
	case known && p.Kind == Client && rules[byVerb[v]].Least != "":
		return ErrForbidden.With("this token does not allow to %s: it has the role %s, and %s is needed", string(v),
			p.Role, rules[byVerb[v]].Least)
	}
	return ErrForbidden.With("this token does not allow to %s", string(v))
}
