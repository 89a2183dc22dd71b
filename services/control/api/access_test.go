package api_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	peerv1 "github.com/pawl-dev/pawl/gen/pawl/peer/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/api"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
)

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
			if _, _, err := api.Hooks(f.auth, nil, nil).Admit(t.Context(), rpc.Call{Method: method},
				secret); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", method, err, want)
			}
		}
	}
}

// Only prompts, inputs of runs, files and executors have messages that are large, and callers without a token have none
// at all.
func TestMessagesAreBoundedByMethod(t *testing.T) {
	h := api.Hooks(auth.NewService(planetest.New(t, nil).Store), nil, nil)
	large := []string{
		"pawl.v1.SubmissionService/Submit", "pawl.v1.SubmissionService/Prompt", "pawl.v1.FileService/WriteFile",
		"pawl.v1.FileService/Exec", "pawl.v1.RunService/StartRun", "pawl.v1.RunService/ForkRun",
		"pawl.v1.RunService/SignalRun", "pawl.v1.WorkflowService/ValidateWorkflow",
		"pawl.v1.ExecutorService/Connect", "pawl.peer.v1.PeerService/Forward", "pawl.peer.v1.PeerService/Deliver",
	}
	for _, r := range auth.Rules() {
		for _, method := range r.Methods {
			if n := h.MaxMessage("/" + method); r.Open() && n > 4<<10 {
				t.Errorf("%s takes %d bytes of strangers", method, n)
			}
			peers := strings.HasPrefix(method, "pawl.peer.")
			if n := h.MaxMessage("/" + method); n > 1<<20 && !peers && !slices.Contains(large, method) {
				t.Errorf("%s takes %d bytes", method, n)
			}
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
