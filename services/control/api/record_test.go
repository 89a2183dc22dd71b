package api_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
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

// A call that the database cannot carry out now is answered so, although its record waits for the database.
func TestWhatCannotBeDoneNowIsAnswered(t *testing.T) {
	f := start(t, nil)
	f.serve(t, audit.NewLog(f.Store, slog.New(slog.DiscardHandler))) // which nobody runs: nothing is stored
	operator := f.operator(t)
	submitted, err := pawlv1.NewSubmissionServiceClient(operator).Submit(t.Context(), &pawlv1.SubmitRequest{
		Key: key, Message: "hi",
	})
	if err != nil {
		t.Fatal(err)
	}
	f.unable = errs.New(errs.Unavailable, "DATABASE_FULL", "make room")
	_, err = pawlv1.NewSessionServiceClient(operator).UpdateSession(t.Context(), &pawlv1.UpdateSessionRequest{
		SessionId: submitted.GetSubmission().GetSessionId(), SetLabels: map[string]string{"a": "b"},
	})
	if rpc.Reason(err) != "DATABASE_FULL" {
		t.Errorf("%v", err)
	}
}

// A prompt is put on record by the transaction that admits it: it costs no commit more, and waits for nothing else.
func TestAPromptsRecordIsPartOfItsAdmission(t *testing.T) {
	f := start(t, nil)
	f.serve(t, audit.NewLog(f.Store, slog.New(slog.DiscardHandler))) // which nobody runs
	prompts := pawlv1.NewSubmissionServiceClient(f.operator(t))
	submitted, err := prompts.Submit(t.Context(), &pawlv1.SubmitRequest{Key: key, Message: "hi"})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := prompts.Prompt(t.Context(), &pawlv1.PromptRequest{Key: key, Message: "hi"})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		t.Error(err)
	}
	page, _, err := f.Store.ListAudit(t.Context(), audit.Filter{Verb: string(auth.Prompt), Limit: 10})
	want := "submission_id=" + submitted.GetSubmission().GetSubmissionId() + " session=shell/i"
	if err != nil || len(page) != 2 || !page[0].Allowed || !strings.HasPrefix(page[1].Resource, want) {
		t.Errorf("on record are %+v, %v; want %s", page, err, want)
	}
}

// What somebody makes is on record with its id and with what it allows, and what they were refused to make too.
func TestWhatIsMadeIsOnRecord(t *testing.T) {
	f := start(t, nil)
	trail := audit.NewLog(f.Store, slog.New(slog.DiscardHandler))
	ctx, end := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- trail.Run(ctx) }()
	t.Cleanup(func() {
		end()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	f.serve(t, trail)
	admin := pawlv1.NewTokenServiceClient(f.as(t, auth.Token{Kind: auth.Client, Role: auth.Admin}))
	made, err := admin.CreateToken(t.Context(), &pawlv1.CreateTokenRequest{
		Name: "ci", ExpiresIn: durationpb.New(time.Hour),
		Principal: &pawlv1.CreateTokenRequest_Client{Client: &pawlv1.Client{
			Role: pawlv1.Role_ROLE_ADMIN, Agents: []string{"a", "b"}, InstancePrefix: "x-", MaySpeakForOthers: true,
			Rate: &pawlv1.Rate{RequestsPerSecond: 0.5, Burst: 3},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	executor, err := pawlv1.NewTokenServiceClient(f.operator(t)).CreateToken(t.Context(), &pawlv1.CreateTokenRequest{
		Principal: &pawlv1.CreateTokenRequest_Executor{Executor: &pawlv1.ExecutorPrincipal{
			ExecutorId: "e", Shared: true, Labels: map[string]string{"gpu": "a100", "zone": "eu"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateToken(t.Context(), &pawlv1.CreateTokenRequest{
		Principal: &pawlv1.CreateTokenRequest_Operator{Operator: &pawlv1.Operator{}},
	}); err == nil {
		t.Fatal("an admin makes an operator")
	}
	page, _, err := f.Store.ListAudit(t.Context(), audit.Filter{Verb: string(auth.ManageTokens), Limit: 10})
	var got []string
	for _, e := range page {
		got = append(got, e.Resource)
	}
	want := []string{
		"kind=operator",
		"token_id=" + executor.GetToken().GetTokenId() +
			" kind=executor shared executor_id=e label=gpu:a100 label=zone:eu",
		"token_id=" + made.GetToken().GetTokenId() + " kind=client role=admin expires_in=1h0m0s may_speak_for_others " +
			"rate=0.5/s,3 instance_prefix=x- agents=a,b name=ci",
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v\n%q\nwant\n%q", err, got, want)
	}
	operator := f.operator(t)
	if _, err := pawlv1.NewSubmissionServiceClient(operator).Submit(t.Context(), &pawlv1.SubmitRequest{
		Key: key, Message: "hi",
	}); err != nil {
		t.Fatal(err)
	}
	deleted, err := pawlv1.NewDeletionServiceClient(operator).DeleteInstance(t.Context(), &pawlv1.DeleteInstanceRequest{
		Agent: key.GetAgent(), Instance: key.GetInstance(),
	})
	if err != nil {
		t.Fatal(err)
	}
	page, _, err = f.Store.ListAudit(t.Context(), audit.Filter{Verb: string(auth.Delete), Limit: 10})
	id := "deletion_id=" + deleted.GetDeletion().GetDeletionId()
	if err != nil || len(page) != 1 || !strings.HasPrefix(page[0].Resource, id+" ") {
		t.Errorf("%v, %+v, want %s", err, page, id)
	}
}

func second[T any](_ T, err error) error { return err }
