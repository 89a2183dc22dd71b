package api_test

import (
	"testing"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
)

// A summary by hand is a submission of the session: who may prompt that may ask for one, and the same request is the
// same submission.
func TestASessionIsCompacted(t *testing.T) {
	f := start(t, hello())
	c := pawlv1.NewSessionServiceClient(f.as(t, auth.Token{Kind: auth.Client}))
	id := f.answered(t).GetSessionId()
	req := &pawlv1.CompactSessionRequest{SessionId: id, IdempotencyKey: "k"}
	first, err := c.CompactSession(t.Context(), req)
	if err != nil || first.GetSubmission().GetSessionId() != id {
		t.Fatalf("accepted %v, %v", first, err)
	}
	again, err := c.CompactSession(t.Context(), req)
	if err != nil || !again.GetReplayed() ||
		again.GetSubmission().GetSubmissionId() != first.GetSubmission().GetSubmissionId() {
		t.Errorf("again: %v, %v", again, err)
	}
	_, err = c.CompactSession(t.Context(), &pawlv1.CompactSessionRequest{SessionId: ident.New()})
	if rpc.Reason(err) != "SESSION_NOT_FOUND" {
		t.Errorf("of no session: %v", err)
	}
	foreign := pawlv1.NewSessionServiceClient(f.as(t, auth.Token{
		Kind: auth.Client, Limits: auth.Limits{InstancePrefix: "other"},
	}))
	if _, err := foreign.CompactSession(t.Context(), req); rpc.Reason(err) == "" {
		t.Error("a client that may not prompt the session compacts it")
	}
}
