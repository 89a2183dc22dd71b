package api_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	peerv1 "github.com/pawl-dev/pawl/gen/pawl/peer/v1"
	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/api"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
)

// Every method of every service, with the codes for: a client of another agent, an executor, a peer, an operator.
var access = map[string][4]codes.Code{
	"pawl.v1.AgentService/ListAgents": {codes.OK, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.AgentService/GetAgent": {
		codes.NotFound, codes.PermissionDenied, codes.PermissionDenied,
		codes.OK,
	},
	"pawl.v1.AgentService/ReloadAgents": {
		codes.PermissionDenied, codes.PermissionDenied,
		codes.PermissionDenied, codes.OK,
	},
	"pawl.v1.SessionService/ListSessions": {codes.OK, codes.PermissionDenied, codes.PermissionDenied, codes.OK},
	"pawl.v1.SessionService/GetSession": {
		codes.NotFound, codes.PermissionDenied, codes.PermissionDenied,
		codes.OK,
	},
	"pawl.v1.SessionService/ListEntries": {
		codes.NotFound, codes.PermissionDenied, codes.PermissionDenied,
		codes.OK,
	},
	"pawl.v1.SessionService/RebindSession": {
		codes.PermissionDenied, codes.PermissionDenied, codes.PermissionDenied,
		codes.OK,
	},
	"pawl.v1.SessionService/WatchSession": {
		codes.NotFound, codes.PermissionDenied, codes.PermissionDenied,
		codes.OK,
	},
	"pawl.v1.SubmissionService/Submit": {
		codes.NotFound, codes.PermissionDenied, codes.PermissionDenied,
		codes.OK,
	},
	"pawl.v1.SubmissionService/Prompt": {
		codes.NotFound, codes.PermissionDenied, codes.PermissionDenied,
		codes.OK,
	},
	"pawl.v1.SubmissionService/WaitSubmission": {
		codes.NotFound, codes.PermissionDenied, codes.PermissionDenied,
		codes.OK,
	},
	"pawl.v1.SubmissionService/GetSubmission": {
		codes.NotFound, codes.PermissionDenied, codes.PermissionDenied,
		codes.OK,
	},
	"pawl.v1.SubmissionService/ListSubmissions": {
		codes.NotFound, codes.PermissionDenied, codes.PermissionDenied,
		codes.OK,
	},
	"pawl.v1.SubmissionService/AbortSubmission": {
		codes.NotFound, codes.PermissionDenied, codes.PermissionDenied,
		codes.OK,
	},
	"pawl.v1.SubmissionService/AbortSession": {
		codes.NotFound, codes.PermissionDenied, codes.PermissionDenied,
		codes.OK,
	},
	"pawl.v1.ExecutorService/Connect": {codes.PermissionDenied, codes.OK, codes.PermissionDenied, codes.OK},
	"pawl.v1.ExecutorService/ListExecutors": {
		codes.PermissionDenied, codes.PermissionDenied,
		codes.PermissionDenied, codes.OK,
	},
	"pawl.v1.ExecutorService/GetExecutor": {
		codes.PermissionDenied, codes.PermissionDenied,
		codes.PermissionDenied, codes.OK,
	},
	"pawl.v1.FileService/ReadFile": {
		codes.NotFound, codes.PermissionDenied, codes.PermissionDenied,
		codes.OK,
	},
	"pawl.v1.FileService/WriteFile": {
		codes.NotFound, codes.PermissionDenied, codes.PermissionDenied,
		codes.InvalidArgument,
	},
	"pawl.v1.FileService/Stat": {
		codes.NotFound, codes.PermissionDenied, codes.PermissionDenied,
		codes.OK,
	},
	"pawl.v1.FileService/ReadDir": {
		codes.NotFound, codes.PermissionDenied, codes.PermissionDenied,
		codes.OK,
	},
	"pawl.v1.FileService/Exists": {
		codes.NotFound, codes.PermissionDenied, codes.PermissionDenied,
		codes.OK,
	},
	"pawl.v1.FileService/MakeDir": {
		codes.NotFound, codes.PermissionDenied, codes.PermissionDenied,
		codes.OK,
	},
	"pawl.v1.FileService/Remove": {
		codes.NotFound, codes.PermissionDenied, codes.PermissionDenied,
		codes.OK,
	},
	"pawl.v1.TokenService/CreateToken": {
		codes.PermissionDenied, codes.PermissionDenied,
		codes.PermissionDenied, codes.InvalidArgument,
	},
	"pawl.v1.TokenService/ListTokens": {
		codes.PermissionDenied, codes.PermissionDenied,
		codes.PermissionDenied, codes.OK,
	},
	"pawl.v1.TokenService/RevokeToken": {
		codes.PermissionDenied, codes.PermissionDenied,
		codes.PermissionDenied, codes.NotFound,
	},
	reflectionV1 + "/ServerReflectionInfo": {
		codes.PermissionDenied, codes.PermissionDenied,
		codes.PermissionDenied, codes.OK,
	},
	reflectionV1Alpha + "/ServerReflectionInfo": {
		codes.PermissionDenied, codes.PermissionDenied,
		codes.PermissionDenied, codes.OK,
	},
}

const (
	reflectionV1      = "grpc.reflection.v1.ServerReflection"
	reflectionV1Alpha = "grpc.reflection.v1alpha.ServerReflection"
)

// public answer without a token.
var public = []string{"grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch", "grpc.health.v1.Health/List"}

func TestAccess(t *testing.T) {
	f := start(t, hello())
	sub := f.answered(t)
	peer, err := f.auth.Peer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	callers := []*grpc.ClientConn{
		f.as(t, auth.Token{Kind: auth.Client, Agents: []string{"other"}}), f.as(t,
			auth.Token{Kind: auth.Executor, Executor: "gpu1"}), f.conn(peer), f.operator(t),
	}
	strangers := map[string]*grpc.ClientConn{
		"no token": f.conn(""), "a wrong token": f.conn("pawl_operator_x"),
		"a wrong peer": f.conn(peer + "x"),
	}
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
				if err := call(t, conn, full, sub); status.Code(err) != codes.Unauthenticated ||
					rpc.Reason(err) != "UNAUTHENTICATED" {
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
	for name, value := range map[protoreflect.Name]proto.Message{
		"key": key, "target": target,
		"start": &pawlv1.WriteFileRequest_Start{Target: target, Path: "f"},
	} {
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
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: m.IsStreamingClient()},
		"/"+full)
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
	f := start(t, hello())
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
	for _, method := range []string{
		peerv1.PeerService_Forward_FullMethodName,
		peerv1.PeerService_Deliver_FullMethodName, peerv1.PeerService_Transfer_FullMethodName,
	} {
		for secret, want := range map[string]error{peer: nil, operator: auth.ErrForbidden, peer +
			"x": auth.ErrUnauthenticated, "": auth.ErrUnauthenticated} {
			if _, _, err := api.Hooks(f.auth, nil).Admit(t.Context(), rpc.Call{Method: method},
				secret); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", method, err, want)
			}
		}
	}
}

// Only prompts, files and executors have messages that are large, and callers without a token have none at all.
func TestMessagesAreBoundedByMethod(t *testing.T) {
	h := api.Hooks(auth.NewService(planetest.New(t, nil).Store), nil)
	large := []string{
		"pawl.v1.SubmissionService/Submit", "pawl.v1.SubmissionService/Prompt", "pawl.v1.FileService/WriteFile",
		"pawl.v1.ExecutorService/Connect", "pawl.peer.v1.PeerService/Forward", "pawl.peer.v1.PeerService/Deliver",
	}
	for method := range access {
		if slices.Contains(large, method) {
			continue
		}
		if n := h.MaxMessage("/" + method); n > 1<<20 {
			t.Errorf("%s takes %d bytes", method, n)
		}
	}
	for _, method := range large {
		if n := h.MaxMessage("/" + method); n <= 1<<20 {
			t.Errorf("%s takes %d bytes only", method, n)
		}
		if err := h.Glance(t.Context(), rpc.Call{Method: "/" + method}, ""); !errors.Is(err, auth.ErrUnauthenticated) {
			t.Errorf("%s without a token: %v", method, err)
		}
	}
	if err := h.Glance(t.Context(), rpc.Call{Method: "/grpc.health.v1.Health/Check"}, ""); err != nil {
		t.Errorf("a health check without a token: %v", err)
	}
}
