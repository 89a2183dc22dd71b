package api_test

import (
	"context"
	"log/slog"
	"testing"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/auth"
)

// What cannot be put on record is not done, and not refused either; what only reads goes on.
func TestWithoutAnAuditLogNothingChanges(t *testing.T) {
	f := start(t, nil)
	trail := audit.NewLog(f.Store, slog.New(slog.DiscardHandler))
	ended, end := context.WithCancel(t.Context())
	end()
	if err := trail.Run(ended); err != nil {
		t.Fatal(err)
	}
	f.serve(t, trail)
	operator, viewer := f.operator(t), f.as(t, auth.Token{Kind: auth.Client, Role: auth.Viewer})
	for name, err := range map[string]error{
		"a token": second(pawlv1.NewTokenServiceClient(operator).CreateToken(t.Context(), &pawlv1.CreateTokenRequest{
			Principal: &pawlv1.CreateTokenRequest_Operator{Operator: &pawlv1.Operator{}},
		})),
		"a prompt": second(pawlv1.NewSubmissionServiceClient(operator).Submit(t.Context(), &pawlv1.SubmitRequest{
			Key: key, Message: "hi",
		})),
		"what is refused": second(pawlv1.NewTokenServiceClient(viewer).ListTokens(t.Context(),
			&pawlv1.ListTokensRequest{})),
	} {
		if rpc.Reason(err) != "AUDIT_UNAVAILABLE" {
			t.Errorf("%s: %v", name, err)
		}
	}
	all, err := pawlv1.NewTokenServiceClient(operator).ListTokens(t.Context(), &pawlv1.ListTokensRequest{})
	if err != nil || len(all.GetTokens()) != 2 {
		t.Errorf("%v, %v", all, err)
	}
	sessions, err := pawlv1.NewSessionServiceClient(operator).ListSessions(t.Context(), &pawlv1.ListSessionsRequest{})
	if err != nil || len(sessions.GetSessions()) != 0 {
		t.Errorf("%v, %v", sessions, err)
	}
}

// A prompt is put on record by the transaction that admits it: it costs no commit more, and waits for nothing else.
func TestAPromptsRecordIsPartOfItsAdmission(t *testing.T) {
	f := start(t, nil)
	f.serve(t, audit.NewLog(f.Store, slog.New(slog.DiscardHandler))) // which nobody runs
	prompts := pawlv1.NewSubmissionServiceClient(f.operator(t))
	if _, err := prompts.Submit(t.Context(), &pawlv1.SubmitRequest{Key: key, Message: "hi"}); err != nil {
		t.Error(err)
	}
	stream, err := prompts.Prompt(t.Context(), &pawlv1.PromptRequest{Key: key, Message: "hi"})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		t.Error(err)
	}
	page, _, err := f.Store.ListAudit(t.Context(), audit.Filter{Verb: string(auth.Prompt), Limit: 10})
	if err != nil || len(page) != 2 || !page[0].Allowed || page[0].Resource != page[1].Resource {
		t.Errorf("on record are %+v, %v", page, err)
	}
}

func second[T any](_ T, err error) error { return err }
