package api_test

import (
	"testing"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
)

// Whoever asks again gets the deletion that there is, unless it is another's.
func TestDeletionIsAskedForAgain(t *testing.T) {
	f := start(t, hello())
	sub := f.answered(t)
	byID := &pawlv1.DeleteSessionRequest{
		Session: &pawlv1.DeleteSessionRequest_SessionId{SessionId: sub.GetSessionId()},
	}
	admin := pawlv1.NewDeletionServiceClient(f.as(t, auth.Token{Kind: auth.Client, Role: auth.Admin}))
	first, err := admin.DeleteSession(t.Context(), byID)
	if err != nil {
		t.Fatal(err)
	}
	if closed, err := f.Store.CloseSession(t.Context(), sub.GetSessionId()); err != nil || !closed {
		t.Fatal(closed, err)
	}
	again, err := admin.DeleteSession(t.Context(), byID)
	if err != nil || again.GetDeletion().GetDeletionId() != first.GetDeletion().GetDeletionId() {
		t.Errorf("asked again: %v, %v", again, err)
	}
	id := first.GetDeletion().GetDeletionId()
	for name, limits := range map[string]auth.Limits{
		"of another agent": {Agents: []string{"other"}}, "of other instances": {InstancePrefix: "x"},
	} {
		c := pawlv1.NewDeletionServiceClient(f.as(t, auth.Token{Kind: auth.Client, Role: auth.Admin, Limits: limits}))
		if _, err := c.DeleteSession(t.Context(), byID); rpc.Reason(err) != "SESSION_NOT_FOUND" {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.GetDeletion(t.Context(), &pawlv1.GetDeletionRequest{
			DeletionId: id,
		}); rpc.Reason(err) != "DELETION_NOT_FOUND" {
			t.Errorf("%s: %v", name, err)
		}
		all, err := c.ListDeletions(t.Context(), &pawlv1.ListDeletionsRequest{})
		if err != nil || len(all.GetDeletions()) != 0 {
			t.Errorf("%s: %v, %v", name, all, err)
		}
	}
	all, err := admin.ListDeletions(t.Context(), &pawlv1.ListDeletionsRequest{})
	if err != nil || len(all.GetDeletions()) != 1 {
		t.Errorf("%v, %v", all, err)
	}
}
