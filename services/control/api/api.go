// Package api is the gRPC surface: handlers that translate and delegate. It holds no rules.
//
//	proto ──translate──▶ domain service ──translate──▶ proto
//
// Invariants: every RPC asks auth.Authorize before it touches anything; what a caller may not see is not found; a
// message stays far below what clients accept by default, unless one item alone is larger.
package api

import (
	"context"
	"errors"
	"log/slog"
	"path"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/bodies"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/catalogue"
	"github.com/pawl-dev/pawl/services/control/deletion"
	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/link/files"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/run/scheduler"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tenancy"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// Agents is the catalogue, as each tenant has it.
type Agents interface {
	Get(tenant, name string) (agent.Definition, error)
	Names(tenant string) []string
	List(tenant string) []agent.Definition
}

// Reloader reads the files of agents again, and then those of workflows.
type Reloader interface {
	Reload() (ofAgents, ofWorkflows catalogue.Change)
}

// Workflows is the catalogue of workflows, as each tenant has it. What it returns must not be changed.
type Workflows interface {
	Get(tenant, name string) (*workflow.Definition, error)
	List(tenant string) []*workflow.Definition
}

// Checker reads a workflow that is not in force. Fails with workflow.ErrInvalid, with a line for each problem.
type Checker interface {
	Check(tenant, name string, source []byte) (*workflow.Definition, error)
}

// Submissions lists what a session accepted.
type Submissions interface {
	ListSubmissions(ctx context.Context, sessionID string, before int64, limit int) ([]submission.Submission, error)
}

// Fleet reads executors.
type Fleet interface {
	GetExecutor(ctx context.Context, id string) (fleet.Executor, error)
	ListExecutors(ctx context.Context) ([]fleet.Executor, error)
}

// Connector serves an executor's connection.
type Connector interface {
	Connect(stream grpc.BidiStreamingServer[pawlv1.ConnectRequest, pawlv1.ConnectResponse]) error
}

// Files runs verbs on the files of executors.
type Files interface {
	Do(ctx context.Context, f *files.Request) (*pawlv1.Result, error)
}

// Placer finds the executor of a workspace.
type Placer interface {
	Place(ctx context.Context, w fleet.Wanted) (e fleet.Executor, ok bool, err error)
}

// Deps are what the handlers delegate to, with a field for each.
type Deps struct {
	Agents      Agents
	Reloader    Reloader
	Sessions    session.Store
	Submissions Submissions
	Calls       Calls
	Service     *submission.Service
	Events      *event.Service
	Fleet       Fleet
	Connector   Connector
	Files       Files
	Placer      Placer
	Builtin     string // id of the built-in executor
	Tokens      *auth.Service
	Audit       audit.Store
	Deleter     *deletion.Service
	Deletions   Deletions
	Tenants     *tenancy.Service
	Approvals   *approval.Service
	Models      Models
	Workflows   Workflows
	Checker     Checker
	Runs        *run.Service
	Schedules   *scheduler.Service
}

// Register adds all services, health and reflection to a server.
func Register(s *rpc.Server, d Deps) {
	pawlv1.RegisterAgentServiceServer(s, &agents{deps: d})
	pawlv1.RegisterSessionServiceServer(s, &sessions{deps: d})
	pawlv1.RegisterSubmissionServiceServer(s, &submissions{deps: d})
	pawlv1.RegisterExecutorServiceServer(s, &executors{deps: d})
	pawlv1.RegisterFileServiceServer(s, &fileHandler{deps: d})
	pawlv1.RegisterTokenServiceServer(s, &tokens{deps: d})
	pawlv1.RegisterAuditServiceServer(s, &audits{deps: d})
	pawlv1.RegisterDeletionServiceServer(s, &deletions{deps: d})
	pawlv1.RegisterTenantServiceServer(s, &tenants{deps: d})
	pawlv1.RegisterApprovalServiceServer(s, &approvals{deps: d})
	pawlv1.RegisterModelServiceServer(s, &models{deps: d})
	pawlv1.RegisterWorkflowServiceServer(s, &workflows{deps: d})
	pawlv1.RegisterRunServiceServer(s, &runs{deps: d})
	h := health.NewServer()
	h.SetServingStatus("", healthv1.HealthCheckResponse_SERVING)
	healthv1.RegisterHealthServer(s, h)
	reflection.Register(s)
}

// peerService is the replicas' own service.
const peerService = "pawl.peer.v1.PeerService"

// Hooks authenticate the caller of every RPC but health checks, ask auth's table whether it may call it at all, count
// it against the caller's rate, write the audit log, and bound messages. A nil trail is no log.
func Hooks(a auth.Guard, trail *audit.Log, log *slog.Logger) rpc.Hooks {
	return rpc.Hooks{
		Admit: admit(a, trail), Heard: hear, Ended: ended, Glance: glance(a), MaxMessage: maxMessage, Log: log,
	}
}

// Accounts count the messages of clients and operators in a ledger, by their token. Those of executors and of replicas
// are not counted: what they report must arrive.
func Accounts(l *bodies.Ledger) func(ctx context.Context) *bodies.Account {
	return func(ctx context.Context) *bodies.Account {
		p := auth.FromContext(ctx)
		if p.Kind != auth.Client && p.Kind != auth.Operator {
			return nil
		}
		return l.Open(p.TokenID)
	}
}

func service(method string) string { return strings.TrimPrefix(path.Dir(method), "/") }

// isOpen reports whether a method answers without a token.
func isOpen(method string) bool {
	r, ok := auth.RuleOf(method)
	return ok && r.Open()
}

func admit(
	a auth.Guard, trail *audit.Log,
) func(ctx context.Context, call rpc.Call, secret string) (context.Context, func(), error) {
	return func(ctx context.Context, call rpc.Call, secret string) (context.Context, func(), error) {
		if isOpen(call.Method) {
			return ctx, nil, nil
		}
		p, err := a.Authenticate(auth.WithSource(ctx, rpc.Source(ctx)), secret)
		if err != nil {
			return nil, nil, err
		}
		p.Source = rpc.Origin(ctx)
		if !rpc.IsPart(ctx) {
			err = p.Spend()
		}
		if err != nil {
			return nil, nil, err
		}
		rpc.Prove(ctx)
		if err := auth.Enter(p, call.Method); err != nil {
			return nil, nil, audit.Refused(ctx, trail, refusal(p, call.Method), err)
		}
		if p, err = as(ctx, a, trail, p, call.Method); err != nil {
			return nil, nil, err
		}
		if ctx, err = record(auth.NewContext(ctx, p), trail, p, call.Method); err != nil {
			return nil, nil, err
		}
		if !call.Stream && !slices.Contains(waits, call.Method) { // it is short
			return ctx, func() { leave(ctx) }, nil
		}
		watched, stop := auth.Watch(ctx, a, secret)
		return watched, func() { leave(ctx); stop() }, nil
	}
}

// waits are the methods of one answer that may take long.
var waits = []string{
	pawlv1.SubmissionService_WaitSubmission_FullMethodName, pawlv1.RunService_WaitRun_FullMethodName,
}

// as is the principal for the tenant that a call names. Whoever may not name it is on record.
func as(
	ctx context.Context, a auth.Guard, trail *audit.Log, p auth.Principal, method string,
) (auth.Principal, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	name := strings.Join(md.Get(auth.TenantHeader), ",")
	to, err := a.As(ctx, p, name)
	if errors.Is(err, auth.ErrForbidden) {
		e := refusal(p, method)
		e.Verb, e.Resource = string(auth.NameTenant), "tenant="+name
		err = audit.Refused(ctx, trail, e, err)
	}
	return to, err
}

// glance refuses callers whose token cannot be one, or who have shown too many that are none.
func glance(a auth.Guard) func(ctx context.Context, call rpc.Call, secret string) error {
	return func(ctx context.Context, call rpc.Call, secret string) error {
		if isOpen(call.Method) {
			return nil
		}
		return a.Glance(auth.WithSource(ctx, rpc.Source(ctx)), secret)
	}
}

const (
	// maxRequest is the largest message of most methods in bytes, maxContent that of methods which write a file in
	// pieces.
	maxRequest = 256 << 10
	maxContent = maxData + maxRequest
	// maxOpen is the largest message in bytes of a method that needs no token: nothing else bounds what strangers send.
	maxOpen = 4 << 10
)

// larger are the methods that take larger messages: prompts, inputs and signals, and what executors report. JSON takes
// up to six times as many bytes in protobuf's form of it.
var larger = map[string]int{
	pawlv1.SubmissionService_Submit_FullMethodName:         rpc.MaxMessage,
	pawlv1.SubmissionService_Prompt_FullMethodName:         rpc.MaxMessage,
	pawlv1.ExecutorService_Connect_FullMethodName:          rpc.MaxMessage,
	pawlv1.RunService_StartRun_FullMethodName:              rpc.MaxMessage,
	pawlv1.RunService_ForkRun_FullMethodName:               rpc.MaxMessage,
	pawlv1.RunService_SignalRun_FullMethodName:             6*step.MaxSignalBytes + maxRequest,
	pawlv1.WorkflowService_ValidateWorkflow_FullMethodName: document.MaxFile + maxRequest,
	pawlv1.FileService_WriteFile_FullMethodName:            maxContent,
	pawlv1.FileService_Exec_FullMethodName:                 maxCommand + maxEnv + maxContent,
}

func maxMessage(method string) int {
	if n, ok := larger[method]; ok {
		return n
	}
	if service(method) == peerService { // passes on what executors report
		return rpc.MaxMessage
	}
	if isOpen(method) {
		return maxOpen
	}
	return maxRequest
}

// may is the authorization check of a handler.
func may(ctx context.Context, v auth.Verb, r auth.Resource) error {
	err := auth.Authorize(auth.FromContext(ctx), v, r)
	if err != nil {
		refuse(ctx)
	}
	return err
}

// withKnown adds to an error about an unknown agent those that the caller may prompt.
func (d Deps) withKnown(ctx context.Context, err error) error {
	if !errors.Is(err, agent.ErrNotFound) {
		return err
	}
	return agent.WithKnown(err, auth.FromContext(ctx).Known(d.Agents.Names(tenant(ctx))))
}

func tenant(ctx context.Context) string { return auth.FromContext(ctx).Tenant }
