package api_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"

	peerv1 "github.com/pawl-dev/pawl/gen/pawl/peer/v1"
	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/api"
	"github.com/pawl-dev/pawl/services/control/api/apitest"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// tokens is an auth.Store in memory.
type tokens struct {
	mu  sync.Mutex
	all []auth.Token
}

func (s *tokens) CreateToken(_ context.Context, t auth.Token) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, t)
	return nil
}

func (s *tokens) FindToken(_ context.Context, hash []byte) (auth.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.all {
		if bytes.Equal(t.Hash, hash) {
			return t, nil
		}
	}
	return auth.Token{}, auth.ErrTokenNotFound
}

func (s *tokens) ListTokens(context.Context, string) ([]auth.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all), nil
}

func (s *tokens) RevokeToken(_ context.Context, _, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.all {
		if s.all[i].ID == id {
			s.all[i].RevokedAt = time.Now()
			return nil
		}
	}
	return auth.ErrTokenNotFound
}

func (s *tokens) ClusterSecret(_ context.Context, candidate []byte) ([]byte, error) {
	return candidate, nil
}

// executors is a fleet of one.
type executors struct{}

func (executors) GetExecutor(_ context.Context, id string) (fleet.Executor, error) {
	if id != "gpu1" {
		return fleet.Executor{}, fleet.ErrNotFound
	}
	return fleet.Executor{ID: "gpu1", Replica: "r", Slots: 4, Labels: map[string]string{"gpu": "yes"}}, nil
}

func (e executors) ListExecutors(ctx context.Context) ([]fleet.Executor, error) {
	x, err := e.GetExecutor(ctx, "gpu1")
	return []fleet.Executor{x}, err
}

// Connect stays until its context ends.
func (executors) Connect(stream grpc.BidiStreamingServer[pawlv1.ConnectRequest, pawlv1.ConnectResponse]) error {
	if err := stream.Send(&pawlv1.ConnectResponse{}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return context.Cause(stream.Context())
}

// fixture is the API on a plane in memory.
type fixture struct {
	*apitest.Plane
	server *grpc.Server
	auth   *auth.Service
	files  *fileVerbs
	conn   func(secret string) *grpc.ClientConn
}

func start(t *testing.T, script apitest.Script) *fixture {
	t.Helper()
	other := agent.Shell()
	other.Name = "other"
	f := &fixture{Plane: apitest.New(t, script, append(fileAgents(), other)...), auth: auth.NewService(&tokens{}), files: &fileVerbs{}}
	f.server = grpc.NewServer(rpc.ServerOptions(rpc.Hooks{Admit: api.Admit(f.auth), Log: slog.New(slog.DiscardHandler)})...)
	api.Register(f.server, api.Deps{
		Agents: f.Agents, Sessions: f.Store, Submissions: f.Store, Service: f.Submissions, Events: f.Events, Fleet: executors{}, Connector: executors{}, Files: f.files,
		Placer: fleet.NewService(rows{}), Tokens: f.auth,
	})
	l := bufconn.Listen(1 << 16)
	done := make(chan error, 1)
	go func() { done <- f.server.Serve(l) }()
	t.Cleanup(func() {
		f.server.Stop()
		// A test that never connects may end before the server has begun.
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	f.conn = func(secret string) *grpc.ClientConn {
		opts := append(rpc.DialOptions(), rpc.Security(nil), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
		if secret != "" {
			opts = append(opts, grpc.WithPerRPCCredentials(rpc.Token{Secret: rpc.Static(secret), Plaintext: true}))
		}
		conn, err := grpc.NewClient("passthrough:test", opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	return f
}

// as is a connection with a new token.
func (f *fixture) as(t *testing.T, like auth.Token) *grpc.ClientConn {
	t.Helper()
	secret, _, err := f.auth.Mint(t.Context(), like, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f.conn(secret)
}

func (f *fixture) operator(t *testing.T) *grpc.ClientConn {
	t.Helper()
	return f.as(t, auth.Token{Kind: auth.Operator})
}

var (
	key    = &pawlv1.SessionKey{Agent: "shell", Instance: "i"}
	target = &pawlv1.FileTarget{Target: &pawlv1.FileTarget_Session{Session: key}}
)

// answered is a submission that has settled.
func (f *fixture) answered(t *testing.T) *pawlv1.Submission {
	t.Helper()
	c := pawlv1.NewSubmissionServiceClient(f.operator(t))
	got, err := c.Submit(t.Context(), &pawlv1.SubmitRequest{Key: key, Message: "hi"})
	if err != nil {
		t.Fatal(err)
	}
	done, err := c.WaitSubmission(t.Context(), &pawlv1.WaitSubmissionRequest{SubmissionId: got.GetSubmission().GetSubmissionId()})
	if err != nil {
		t.Fatal(err)
	}
	return done.GetSubmission()
}

// Every method of every service, with the codes for: a client of another agent, an executor, a peer, an operator.
var access = map[string][4]codes.Code{
	"pawl.v1.AgentService/ListAgents":           {codes.OK, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.AgentService/GetAgent":             {codes.NotFound, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.SessionService/ListSessions":       {codes.OK, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.SessionService/GetSession":         {codes.NotFound, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.SessionService/ListEntries":        {codes.NotFound, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.SessionService/WatchSession":       {codes.NotFound, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.SubmissionService/Submit":          {codes.NotFound, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.SubmissionService/Prompt":          {codes.NotFound, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.SubmissionService/WaitSubmission":  {codes.NotFound, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.SubmissionService/GetSubmission":   {codes.NotFound, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.SubmissionService/ListSubmissions": {codes.NotFound, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.SubmissionService/AbortSubmission": {codes.NotFound, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.SubmissionService/AbortSession":    {codes.NotFound, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.ExecutorService/Connect":           {codes.PermissionDenied, codes.OK, codes.PermissionDenied, codes.OK},
	"pawl.v1.ExecutorService/ListExecutors":     {codes.PermissionDenied, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.ExecutorService/GetExecutor":       {codes.PermissionDenied, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.FileService/ReadFile":              {codes.NotFound, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.FileService/WriteFile":             {codes.NotFound, codes.PermissionDenied, codes.PermissionDenied, codes.InvalidArgument},
	"pawl.v1.FileService/Stat":                  {codes.NotFound, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.FileService/ReadDir":               {codes.NotFound, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.FileService/Exists":                {codes.NotFound, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.FileService/MakeDir":               {codes.NotFound, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.FileService/Remove":                {codes.NotFound, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.TokenService/CreateToken":          {codes.PermissionDenied, codes.PermissionDenied, codes.PermissionDenied, codes.InvalidArgument},
	"pawl.v1.TokenService/ListTokens":           {codes.PermissionDenied, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.TokenService/RevokeToken":          {codes.PermissionDenied, codes.PermissionDenied, codes.PermissionDenied, codes.NotFound},
	reflectionV1 + "/ServerReflectionInfo":      {codes.PermissionDenied, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	reflectionV1Alpha + "/ServerReflectionInfo": {codes.PermissionDenied, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
}

const (
	reflectionV1      = "grpc.reflection.v1.ServerReflection"
	reflectionV1Alpha = "grpc.reflection.v1alpha.ServerReflection"
)

// public answer without a token.
var public = []string{"grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch", "grpc.health.v1.Health/List"}

func TestAccess(t *testing.T) {
	f := start(t, apitest.Answer("Hello"))
	sub := f.answered(t)
	peer, err := f.auth.Peer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	callers := []*grpc.ClientConn{
		f.as(t, auth.Token{Kind: auth.Client, Agents: []string{"other"}}), f.as(t, auth.Token{Kind: auth.Executor, Executor: "gpu1"}), f.conn(peer), f.operator(t),
	}
	strangers := map[string]*grpc.ClientConn{"no token": f.conn(""), "a wrong token": f.conn("pawl_operator_x"), "a wrong peer": f.conn(peer + "x")}
	seen := 0
	for name, info := range f.server.GetServiceInfo() {
		for _, m := range info.Methods {
			full := name + "/" + m.Name
			if slices.Contains(public, full) {
				if err := call(t, strangers["no token"], full, sub); status.Code(err) != codes.OK {
					t.Errorf("%s: %v", full, err)
				}
				continue
			}
			want, ok := access[full]
			if !ok {
				t.Errorf("nobody says who may call %s", full)
				continue
			}
			seen++
			for who, conn := range strangers {
				if err := call(t, conn, full, sub); status.Code(err) != codes.Unauthenticated || rpc.Reason(err) != "UNAUTHENTICATED" {
					t.Errorf("%s with %s: %v", full, who, err)
				}
			}
			for i, conn := range callers {
				if err := call(t, conn, full, sub); status.Code(err) != want[i] || err != nil && rpc.Reason(err) == "" {
					t.Errorf("%s, caller %d: %v, want %v", full, i, err, want[i])
				}
			}
		}
	}
	if seen != len(access) {
		t.Errorf("%d methods exist, %d are in the table", seen, len(access))
	}
}

// call makes a call with the ids of a submission and returns its error, or that of the first message of a stream.
func call(t *testing.T, conn *grpc.ClientConn, full string, sub *pawlv1.Submission) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(full, "/", ".")))
	if err != nil {
		t.Fatal(err)
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		t.Fatalf("%s is no method", full)
	}
	req, res := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
	for name, value := range map[protoreflect.Name]string{
		"session_id": sub.GetSessionId(), "submission_id": sub.GetSubmissionId(), "agent": "shell", "executor_id": "gpu1", "token_id": ident.New(),
		"list_services": "*", "path": "f",
	} {
		if field := m.Input().Fields().ByName(name); field != nil {
			req.Set(field, protoreflect.ValueOfString(value))
		}
	}
	for name, value := range map[protoreflect.Name]proto.Message{"key": key, "target": target, "start": &pawlv1.WriteFileRequest_Start{Target: target, Path: "f"}} {
		field := m.Input().Fields().ByName(name)
		if field == nil || name == "key" && field.ContainingOneof() != nil {
			continue
		}
		b, err := proto.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		k := dynamicpb.NewMessage(field.Message())
		if err := proto.Unmarshal(b, k); err != nil {
			t.Fatal(err)
		}
		req.Set(field, protoreflect.ValueOfMessage(k))
	}
	if !m.IsStreamingClient() && !m.IsStreamingServer() {
		return conn.Invoke(ctx, "/"+full, req, res)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: m.IsStreamingClient()}, "/"+full)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(req); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !m.IsStreamingClient() || !m.IsStreamingServer() {
		if err := stream.CloseSend(); err != nil {
			return err
		}
	}
	return stream.RecvMsg(res)
}

func TestForeignIsAsAbsent(t *testing.T) {
	f := start(t, apitest.Answer("Hello"))
	sub := f.answered(t)
	limited := f.as(t, auth.Token{Kind: auth.Client, Agents: []string{"other"}})
	for full := range access {
		here := call(t, limited, full, sub)
		nowhere := call(t, limited, full, &pawlv1.Submission{SessionId: ident.New(), SubmissionId: ident.New()})
		if status.Code(here) == codes.NotFound && here.Error() != nowhere.Error() {
			t.Errorf("%s tells foreign from absent: %v, %v", full, here, nowhere)
		}
	}
	agents, err := pawlv1.NewAgentServiceClient(limited).ListAgents(t.Context(), &pawlv1.ListAgentsRequest{})
	if err != nil || len(agents.GetAgents()) != 1 || agents.GetAgents()[0].GetName() != "other" {
		t.Errorf("%v, %v", agents, err)
	}
	sessions, err := pawlv1.NewSessionServiceClient(limited).ListSessions(t.Context(), &pawlv1.ListSessionsRequest{})
	if err != nil || len(sessions.GetSessions()) != 0 {
		t.Errorf("%v, %v", sessions, err)
	}
}

func TestBadRequests(t *testing.T) {
	f := start(t, apitest.Answer("Hello"))
	sub := f.answered(t)
	conn := f.operator(t)
	ss, sm, tk := pawlv1.NewSessionServiceClient(conn), pawlv1.NewSubmissionServiceClient(conn), pawlv1.NewTokenServiceClient(conn)
	ctx := t.Context()
	for want, calls := range map[string][]func() error{
		"SESSION_NOT_FOUND": {
			func() error { _, err := ss.GetSession(ctx, &pawlv1.GetSessionRequest{}); return err },
			func() error {
				_, err := ss.GetSession(ctx, &pawlv1.GetSessionRequest{Session: &pawlv1.GetSessionRequest_SessionId{SessionId: "'; drop"}})
				return err
			},
			func() error {
				_, err := ss.GetSession(ctx, &pawlv1.GetSessionRequest{Session: &pawlv1.GetSessionRequest_SessionId{SessionId: ident.New()}})
				return err
			},
			func() error {
				_, err := ss.GetSession(ctx, &pawlv1.GetSessionRequest{Session: &pawlv1.GetSessionRequest_Key{Key: &pawlv1.SessionKey{}}})
				return err
			},
			func() error {
				_, err := ss.ListEntries(ctx, &pawlv1.ListEntriesRequest{SessionId: "x"})
				return err
			},
			func() error {
				_, err := sm.AbortSession(ctx, &pawlv1.AbortSessionRequest{})
				return err
			},
		},
		"SUBMISSION_NOT_FOUND": {
			func() error {
				_, err := sm.GetSubmission(ctx, &pawlv1.GetSubmissionRequest{SubmissionId: "x"})
				return err
			},
			func() error {
				_, err := sm.AbortSubmission(ctx, &pawlv1.AbortSubmissionRequest{})
				return err
			},
		},
		"AGENT_NOT_FOUND": {
			func() error {
				_, err := sm.Submit(ctx, &pawlv1.SubmitRequest{Key: &pawlv1.SessionKey{Agent: "nope", Instance: "i"}})
				return err
			},
		},
		"INVALID_NAME": {
			func() error { _, err := sm.Submit(ctx, &pawlv1.SubmitRequest{}); return err },
			func() error {
				_, err := sm.Submit(ctx, &pawlv1.SubmitRequest{Key: &pawlv1.SessionKey{Agent: "shell", Instance: " "}})
				return err
			},
			func() error {
				_, err := sm.Submit(ctx, &pawlv1.SubmitRequest{Key: &pawlv1.SessionKey{Agent: "shell", Instance: "i", Session: "task:1"}})
				return err
			},
			func() error {
				_, err := tk.CreateToken(ctx, &pawlv1.CreateTokenRequest{Principal: &pawlv1.CreateTokenRequest_Executor{}})
				return err
			},
		},
		"TOKEN_INVALID": {
			func() error { _, err := tk.CreateToken(ctx, &pawlv1.CreateTokenRequest{}); return err },
			func() error {
				_, err := tk.CreateToken(ctx, &pawlv1.CreateTokenRequest{Principal: &pawlv1.CreateTokenRequest_Operator{}, ExpiresIn: durationpb.New(-1)})
				return err
			},
		},
		"PAGE_SIZE": {
			func() error { _, err := ss.ListSessions(ctx, &pawlv1.ListSessionsRequest{PageSize: -1}); return err },
			func() error {
				_, err := ss.ListEntries(ctx, &pawlv1.ListEntriesRequest{SessionId: sub.GetSessionId(), PageSize: 1001})
				return err
			},
		},
		"PAGE_TOKEN": {
			func() error { _, err := ss.ListSessions(ctx, &pawlv1.ListSessionsRequest{PageToken: "x"}); return err },
		},
	} {
		for i, call := range calls {
			if err := call(); rpc.Reason(err) != want {
				t.Errorf("%s %d: %v", want, i, err)
			}
		}
	}
}

// What a database may refuse is refused before it, by the field's name.
func TestTextsThatNoRowHas(t *testing.T) {
	f := start(t, apitest.Answer("Hello"))
	conn, ctx := f.operator(t), t.Context()
	ss := pawlv1.NewSessionServiceClient(conn)
	for field, try := range map[string]func(s string) error{
		"key.agent":    func(s string) error { return getKey(ctx, ss, &pawlv1.SessionKey{Agent: s, Instance: "i"}) },
		"key.instance": func(s string) error { return getKey(ctx, ss, &pawlv1.SessionKey{Agent: "shell", Instance: s}) },
		"key.session": func(s string) error {
			return getKey(ctx, ss, &pawlv1.SessionKey{Agent: "shell", Instance: "i", Session: s})
		},
		"agent must": func(s string) error {
			_, err := ss.ListSessions(ctx, &pawlv1.ListSessionsRequest{Agent: s})
			return err
		},
		"instance must": func(s string) error {
			_, err := ss.ListSessions(ctx, &pawlv1.ListSessionsRequest{Instance: s})
			return err
		},
		"executor_id must": func(s string) error {
			_, err := pawlv1.NewExecutorServiceClient(conn).GetExecutor(ctx, &pawlv1.GetExecutorRequest{ExecutorId: s})
			return err
		},
		"target.executor_id": func(s string) error {
			_, err := pawlv1.NewFileServiceClient(conn).Stat(ctx, &pawlv1.StatRequest{Path: "f", Target: &pawlv1.FileTarget{Target: &pawlv1.FileTarget_ExecutorId{ExecutorId: s}}})
			return err
		},
		"a token's name": func(s string) error {
			_, err := pawlv1.NewTokenServiceClient(conn).CreateToken(ctx, &pawlv1.CreateTokenRequest{Name: s, Principal: &pawlv1.CreateTokenRequest_Operator{}})
			return err
		},
	} {
		for _, s := range []string{"a\x00b", "a\nb", "\x1b[2J"} {
			if err := try(s); status.Code(err) != codes.InvalidArgument || rpc.Reason(err) != "INVALID_NAME" || !strings.Contains(err.Error(), field) {
				t.Errorf("%s %q: %v", field, s, err)
			}
		}
	}
}

func getKey(ctx context.Context, c pawlv1.SessionServiceClient, k *pawlv1.SessionKey) error {
	_, err := c.GetSession(ctx, &pawlv1.GetSessionRequest{Session: &pawlv1.GetSessionRequest_Key{Key: k}})
	return err
}

// Who has seen more than there is, is told so, and does not wait for what will be kept from it.
func TestWatchFromBeyondTheHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, apitest.Answer("Hello"))
		sub := f.answered(t)
		c := pawlv1.NewSessionServiceClient(f.operator(t))
		for after, want := range map[int64]string{4: "", 5: "CURSOR_AHEAD", 1<<63 - 1: "CURSOR_AHEAD"} {
			watch, err := c.WatchSession(t.Context(), &pawlv1.WatchSessionRequest{SessionId: sub.GetSessionId(), After: after})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := watch.Recv(); rpc.Reason(err) != want || want != "" && (status.Code(err) != codes.OutOfRange || !strings.Contains(err.Error(), "end at 4")) {
				t.Errorf("%d: %v", after, err)
			}
		}
	})
}

func TestPromptStreamsEverything(t *testing.T) {
	f := start(t, apitest.Answer("Hello"))
	c := pawlv1.NewSubmissionServiceClient(f.operator(t))
	for _, replayed := range []bool{false, true} {
		stream, err := c.Prompt(t.Context(), &pawlv1.PromptRequest{Key: key, Message: "hi", IdempotencyKey: "k"})
		if err != nil {
			t.Fatal(err)
		}
		first, err := stream.Recv()
		if err != nil || first.GetSubmission().GetSubmissionId() == "" || len(first.GetEvents()) > 0 {
			t.Fatalf("first %v, %v", first, err)
		}
		var kinds []string
		var last *pawlv1.Event
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range m.GetEvents() {
				kinds = append(kinds, string(e.ProtoReflect().WhichOneof(e.ProtoReflect().Descriptor().Oneofs().ByName("event")).Name()))
				last = e
			}
		}
		if got := strings.Join(kinds, " "); got != "started text entry settled" {
			t.Errorf("replayed %v: %s", replayed, got)
		}
		got := last.GetSettled().GetSubmission()
		if got.GetResult().GetText() != "Hello" || got.GetOutcome() != pawlv1.Outcome_OUTCOME_COMPLETED || got.GetResult().GetUsage().GetInput() != 10 {
			t.Errorf("%v", got)
		}
	}
	_, err := c.Submit(t.Context(), &pawlv1.SubmitRequest{Key: key, Message: "ho", IdempotencyKey: "k"})
	if status.Code(err) != codes.AlreadyExists || rpc.Reason(err) != "IDEMPOTENCY_CONFLICT" {
		t.Errorf("%v", err)
	}
}

func TestPromptTellsOfAnAbortInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, nil)
		f.Store.Queue = true
		c := pawlv1.NewSubmissionServiceClient(f.operator(t))
		stream, err := c.Prompt(t.Context(), &pawlv1.PromptRequest{Key: key, Message: "hi"})
		if err != nil {
			t.Fatal(err)
		}
		first, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := c.AbortSubmission(t.Context(), &pawlv1.AbortSubmissionRequest{SubmissionId: first.GetSubmission().GetSubmissionId()}); err != nil {
			t.Fatal(err)
		}
		m, err := stream.Recv()
		if err != nil || m.GetEvents()[0].GetSettled().GetSubmission().GetOutcome() != pawlv1.Outcome_OUTCOME_ABORTED {
			t.Errorf("%v, %v", m, err)
		}
		if m, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("%v, %v", m, err)
		}
	})
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, apitest.Answer("Hello"))
		sub := f.answered(t)
		watch, err := pawlv1.NewSessionServiceClient(f.operator(t)).WatchSession(t.Context(), &pawlv1.WatchSessionRequest{SessionId: sub.GetSessionId(), After: 2})
		if err != nil {
			t.Fatal(err)
		}
		if first, err := watch.Recv(); err != nil || len(first.GetEvents()) != 0 {
			t.Errorf("first %v, %v", first, err)
		}
		past, err := watch.Recv()
		if err != nil || len(past.GetEvents()) != 2 || past.GetEvents()[0].GetSeq() != 3 || past.GetEvents()[0].GetEntry().GetEntry().GetMessage().GetContent()[0].GetText() != "Hello" {
			t.Errorf("past %v, %v", past, err)
		}
		f.Publish(submission.Submission{ID: sub.GetSubmissionId(), SessionID: sub.GetSessionId(), Key: session.Key{Tenant: "default", Agent: "shell", Instance: "i", Name: "default"}, Seq: 1},
			event.Event{Type: event.Text, Text: "cut \xf0\x9f"}, event.Event{Type: event.ToolOutput, Call: &event.Call{ID: "c"}, Output: &event.Output{Stderr: true, Offset: 7, Data: []byte{0xff}}})
		live, err := watch.Recv()
		if err != nil || len(live.GetEvents()) != 2 || live.GetEvents()[0].GetText().GetText() != "cut \uFFFD" || live.GetEvents()[1].GetToolOutput().GetStream() != "stderr" {
			t.Errorf("live %v, %v", live, err)
		}
	})
}

// A reader that takes nothing is left after a while, and told how to go on.
func TestStalledReaderIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, func(sub submission.Submission, publish func(...event.Event)) {
			for range 20 {
				publish(event.Event{Type: event.Text, Text: strings.Repeat("x", 60<<10)})
			}
			apitest.Answer("Hello")(sub, publish)
		})
		sub := f.answered(t)
		watch, err := pawlv1.NewSessionServiceClient(f.operator(t)).WatchSession(t.Context(), &pawlv1.WatchSessionRequest{SessionId: sub.GetSessionId()})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		seq := int64(0)
		for err == nil {
			var m *pawlv1.WatchSessionResponse
			if m, err = watch.Recv(); err == nil {
				for _, e := range m.GetEvents() {
					seq = e.GetSeq()
				}
			}
		}
		if rpc.Reason(err) != "READER_STALLED" || status.Code(err) != codes.ResourceExhausted || seq < 1 || seq > 10 {
			t.Errorf("after event %d: %v", seq, err)
		}
	})
}

// What holds a stream open loses it soon after its token is revoked.
func TestRevokedTokenEndsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, apitest.Answer("Hello"))
		secret, made, err := f.auth.Mint(t.Context(), auth.Token{Kind: auth.Executor, Executor: "gpu1"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := pawlv1.NewExecutorServiceClient(f.conn(secret)).Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		_, err = pawlv1.NewTokenServiceClient(f.operator(t)).RevokeToken(t.Context(), &pawlv1.RevokeTokenRequest{TokenId: made.ID})
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err := stream.Recv(); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%v", err)
		}
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("after %v", took)
		}
	})
}

func TestWaitEndsWithItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, nil)
		f.Store.Queue = true
		c := pawlv1.NewSubmissionServiceClient(f.operator(t))
		got, err := c.Submit(t.Context(), &pawlv1.SubmitRequest{Key: key, Message: "hi"})
		if err != nil {
			t.Fatal(err)
		}
		id := got.GetSubmission().GetSubmissionId()
		for _, timeout := range []time.Duration{0, 90 * time.Second} {
			begun := time.Now()
			res, err := c.WaitSubmission(t.Context(), &pawlv1.WaitSubmissionRequest{SubmissionId: id, Timeout: durationpb.New(timeout)})
			if err != nil || res.GetSubmission().GetStatus() != pawlv1.Submission_STATUS_QUEUED {
				t.Errorf("%v: %v, %v", timeout, res, err)
			}
			if took := time.Since(begun); took != timeout {
				t.Errorf("%v took %v", timeout, took)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.WaitSubmission(ctx, &pawlv1.WaitSubmissionRequest{SubmissionId: id, Timeout: durationpb.New(time.Hour)}); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("%v", err)
		}
	})
}

// Pages of sessions hold what the caller may see, newest first, none twice, none left out.
func TestSessionPages(t *testing.T) {
	f := start(t, apitest.Answer("Hello"))
	for i := range 7 {
		a := []string{"shell", "other"}[i%2]
		if _, err := f.Submissions.Submit(t.Context(), submission.Input{Key: session.Key{Agent: a, Instance: string(rune('a' + i))}, Message: "hi"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		token auth.Token
		want  string
	}{
		{auth.Token{Kind: auth.Operator}, "gfedcba"},
		{auth.Token{Kind: auth.Client}, "gfedcba"},
		{auth.Token{Kind: auth.Client, Agents: []string{"other"}}, "fdb"},
		{auth.Token{Kind: auth.Client, Agents: []string{"shell", "other", "shell"}}, "gfedcba"},
	} {
		c := pawlv1.NewSessionServiceClient(f.as(t, test.token))
		var got string
		for page := ""; ; {
			res, err := c.ListSessions(t.Context(), &pawlv1.ListSessionsRequest{PageSize: 2, PageToken: page})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range res.GetSessions() {
				got += s.GetKey().GetInstance()
			}
			if page = res.GetNextPageToken(); page == "" {
				break
			}
		}
		if got != test.want {
			t.Errorf("%+v: %s, want %s", test.token, got, test.want)
		}
	}
}

// A page and a batch stay below what clients take by default, whatever they hold.
func TestMessagesStaySmall(t *testing.T) {
	large := strings.Repeat("x", 900<<10)
	f := start(t, func(sub submission.Submission, publish func(...event.Event)) {
		var batch []event.Event
		for range 9 {
			batch = append(batch, event.Event{Type: event.EntryAdded, Entry: &session.Entry{Kind: session.Assistant, Message: model.Message{
				Role: model.Assistant, Content: []model.Block{{Type: model.TextBlock, Text: large}},
			}}})
		}
		publish(batch...)
		apitest.Answer("Hello")(sub, publish)
	})
	sub := f.answered(t)
	c := pawlv1.NewSessionServiceClient(f.operator(t))
	seq := int64(0)
	for {
		page, err := c.ListEntries(t.Context(), &pawlv1.ListEntriesRequest{SessionId: sub.GetSessionId(), After: seq}, grpc.MaxCallRecvMsgSize(2<<20))
		if err != nil {
			t.Fatal(err)
		}
		if len(page.GetEntries()) == 0 {
			break
		}
		for _, e := range page.GetEntries() {
			if seq++; e.GetSeq() != seq {
				t.Errorf("entry %d at %d", e.GetSeq(), seq)
			}
		}
	}
	watch, err := c.WatchSession(t.Context(), &pawlv1.WatchSessionRequest{SessionId: sub.GetSessionId()}, grpc.MaxCallRecvMsgSize(2<<20))
	if err != nil {
		t.Fatal(err)
	}
	for seq := int64(0); seq < 13; {
		m, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range m.GetEvents() {
			if seq++; e.GetSeq() != seq {
				t.Errorf("event %d at %d", e.GetSeq(), seq)
			}
		}
	}
	if seq != 11 {
		t.Errorf("%d entries", seq)
	}
}

func TestTokens(t *testing.T) {
	f := start(t, nil)
	c := pawlv1.NewTokenServiceClient(f.operator(t))
	made, err := c.CreateToken(t.Context(), &pawlv1.CreateTokenRequest{
		Name: "ci", Principal: &pawlv1.CreateTokenRequest_Client{Client: &pawlv1.Client{Agents: []string{"other"}}}, ExpiresIn: durationpb.New(time.Hour),
	})
	if err != nil || !strings.HasPrefix(made.GetSecret(), "pawl_client_") {
		t.Fatalf("%v, %v", made, err)
	}
	if tok := made.GetToken(); tok.GetClient().GetAgents()[0] != "other" || tok.GetExpiresAt().AsTime().Sub(tok.GetCreatedAt().AsTime()) != time.Hour {
		t.Errorf("%v", tok)
	}
	agents, err := pawlv1.NewAgentServiceClient(f.conn(made.GetSecret())).ListAgents(t.Context(), &pawlv1.ListAgentsRequest{})
	if err != nil || len(agents.GetAgents()) != 1 {
		t.Errorf("%v, %v", agents, err)
	}
	all, err := c.ListTokens(t.Context(), &pawlv1.ListTokensRequest{})
	if err != nil || len(all.GetTokens()) != 2 {
		t.Errorf("%v, %v", all, err)
	}
	b, err := proto.Marshal(all)
	if err != nil || bytes.Contains(b, []byte(made.GetSecret())) {
		t.Errorf("the list holds a secret, or %v", err)
	}
	for _, want := range []codes.Code{codes.OK, codes.NotFound} {
		id := made.GetToken().GetTokenId()
		if want == codes.NotFound {
			id = ident.New()
		}
		if _, err := c.RevokeToken(t.Context(), &pawlv1.RevokeTokenRequest{TokenId: id}); status.Code(err) != want {
			t.Errorf("%v", err)
		}
	}
}

// The replicas' own service is for replicas: not for operators, and not for whoever guesses.
func TestOnlyPeersForward(t *testing.T) {
	f := start(t, nil)
	peer, err := f.auth.Peer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	operator, _, err := f.auth.Mint(t.Context(), auth.Token{Kind: auth.Operator}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{peerv1.PeerService_Forward_FullMethodName, peerv1.PeerService_Deliver_FullMethodName, peerv1.PeerService_Transfer_FullMethodName} {
		for secret, want := range map[string]error{peer: nil, operator: auth.ErrForbidden, peer + "x": auth.ErrUnauthenticated, "": auth.ErrUnauthenticated} {
			if _, _, err := api.Admit(f.auth)(t.Context(), rpc.Call{Method: method}, secret); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", method, err, want)
			}
		}
	}
}
