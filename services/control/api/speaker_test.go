package api_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/auth"
)

// Who asked is on record with the submission and with the entry of its input, before it begins and after, and only who
// may speaks for others.
func TestWhoAsked(t *testing.T) {
	for name, m := range map[string]bool{"queued": false, "settled": true} {
		t.Run(name, func(t *testing.T) {
			var f *fixture
			if f = start(t, nil); m {
				f = start(t, hello())
			}
			like := auth.Token{Kind: auth.Client, Name: "bridge", Limits: auth.Limits{ForOthers: true}}
			secret, made, err := f.auth.Mint(t.Context(), like, 0)
			if err != nil {
				t.Fatal(err)
			}
			c := pawlv1.NewSubmissionServiceClient(f.conn(secret))
			req := &pawlv1.SubmitRequest{Key: key, Message: "hi", IdempotencyKey: "k", OnBehalfOf: "ada@example.org"}
			got, err := c.Submit(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			check := func(where string, s *pawlv1.Speaker) {
				t.Helper()
				if s.GetTokenId() != made.ID || s.GetName() != "bridge" || s.GetOnBehalfOf() != "ada@example.org" {
					t.Errorf("%s: %v", where, s)
				}
			}
			check("the answer", got.GetSubmission().GetAskedBy())
			id := got.GetSubmission().GetSubmissionId()
			if m {
				done, err := c.WaitSubmission(t.Context(), &pawlv1.WaitSubmissionRequest{SubmissionId: id})
				if err != nil {
					t.Fatal(err)
				}
				check("the end", done.GetSubmission().GetAskedBy())
				of := &pawlv1.ListEntriesRequest{SessionId: got.GetSubmission().GetSessionId()}
				entries, err := pawlv1.NewSessionServiceClient(f.operator(t)).ListEntries(t.Context(), of)
				if err != nil || len(entries.GetEntries()) != 2 || entries.GetEntries()[1].GetAskedBy() != nil {
					t.Fatalf("%v, %v", entries, err)
				}
				check("the entry", entries.GetEntries()[0].GetAskedBy())
			}
			again, err := c.Submit(t.Context(), req)
			if err != nil || !again.GetReplayed() {
				t.Fatalf("%v, %v", again, err)
			}
			check("the answer to a repetition", again.GetSubmission().GetAskedBy())
			one, err := c.GetSubmission(t.Context(), &pawlv1.GetSubmissionRequest{SubmissionId: id})
			if err != nil {
				t.Fatal(err)
			}
			check("the submission", one.GetSubmission().GetAskedBy())
			all, err := c.ListSubmissions(t.Context(), &pawlv1.ListSubmissionsRequest{
				SessionId: got.GetSubmission().GetSessionId(),
			})
			if err != nil || len(all.GetSubmissions()) != 1 {
				t.Fatalf("%v, %v", all, err)
			}
			check("the list", all.GetSubmissions()[0].GetAskedBy())
			for _, like := range []auth.Token{{Kind: auth.Client, Role: auth.Admin}, {Kind: auth.Operator}} {
				c := pawlv1.NewSubmissionServiceClient(f.as(t, like))
				if _, err := c.Submit(t.Context(), &pawlv1.SubmitRequest{
					Key: key, Message: "hi", OnBehalfOf: "ada@example.org",
				}); status.Code(err) != codes.PermissionDenied {
					t.Errorf("%+v speaks for others: %v", like, err)
				}
			}
		})
	}
}
