package platformtest_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/internal/rpc"
)

// A key names one submission of a session, whichever way it comes: over HTTP as a header, as JSON or as a stream, over gRPC as a field.
func TestIdempotencyKeyIsOneOverAllClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := platformtest.Start(t)
		client := pawlv1.NewSubmissionServiceClient(p.GRPC)
		res, first := post(t, p, "/agents/shell/i", `{"message":"say: once"}`, "Idempotency-Key", "k")
		if res.StatusCode != http.StatusOK || !strings.Contains(first, "once") {
			t.Fatalf("%d %s", res.StatusCode, first)
		}
		if res, again := post(t, p, "/agents/shell/i", `{"message":"say: once"}`, "Idempotency-Key", "k"); res.StatusCode != http.StatusOK || again != first {
			t.Errorf("again: %d %s, at first %s", res.StatusCode, again, first)
		}
		if res, streamed := post(t, p, "/agents/shell/i", `{"message":"say: once"}`, "Idempotency-Key", "k", "Accept", "text/event-stream"); res.StatusCode != http.StatusOK || !strings.Contains(streamed, "event: agent_end") {
			t.Errorf("as a stream: %d %s", res.StatusCode, streamed)
		}
		req := &pawlv1.SubmitRequest{Key: &pawlv1.SessionKey{Agent: "shell", Instance: "i"}, Message: "say: once", IdempotencyKey: "k"}
		again, err := client.Submit(t.Context(), req)
		if err != nil || !again.GetReplayed() || again.GetSubmission().GetStatus() != pawlv1.Submission_STATUS_SETTLED {
			t.Fatalf("over gRPC: %v, %v", again, err)
		}
		prompted, err := client.Prompt(t.Context(), &pawlv1.PromptRequest{Key: req.GetKey(), Message: req.GetMessage(), IdempotencyKey: "k"})
		if err != nil {
			t.Fatal(err)
		}
		if m, err := prompted.Recv(); err != nil || m.GetSubmission().GetSubmissionId() != again.GetSubmission().GetSubmissionId() {
			t.Errorf("prompted: %v, %v", m, err)
		}
		list, err := client.ListSubmissions(t.Context(), &pawlv1.ListSubmissionsRequest{SessionId: again.GetSubmission().GetSessionId()})
		if err != nil || len(list.GetSubmissions()) != 1 {
			t.Errorf("there are %d submissions, %v", len(list.GetSubmissions()), err)
		}

		if res, body := post(t, p, "/agents/shell/i", `{"message":"say: twice"}`, "Idempotency-Key", "k"); res.StatusCode != http.StatusConflict || !strings.Contains(body, "idempotency_conflict") {
			t.Errorf("another message over HTTP: %d %s", res.StatusCode, body)
		}
		req.Message = "say: twice"
		if _, err := client.Submit(t.Context(), req); status.Code(err) != codes.AlreadyExists || rpc.Reason(err) != "IDEMPOTENCY_CONFLICT" {
			t.Errorf("another message over gRPC: %v", err)
		}
		for _, elsewhere := range []string{"/agents/shell/other", "/agents/shell/i"} {
			body := `{"message":"say: elsewhere"}`
			if elsewhere == "/agents/shell/i" {
				body = `{"message":"say: elsewhere","session":"other"}`
			}
			if res, got := post(t, p, elsewhere, body, "Idempotency-Key", "k"); res.StatusCode != http.StatusOK || !strings.Contains(got, "elsewhere") {
				t.Errorf("the key of another session: %d %s", res.StatusCode, got)
			}
		}
	})
}

// A whole session is aborted: what runs, and what waits, settle at once, and every client is told what is known of what ran.
func TestAbortOfASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := platformtest.Start(t)
		client := pawlv1.NewSubmissionServiceClient(p.GRPC)
		key := &pawlv1.SessionKey{Agent: "shell", Instance: "i"}
		type answer struct {
			code int
			body string
		}
		running := make(chan answer, 1)
		go func() {
			res, body := post(t, p, "/agents/shell/i", `{"message":"sleep 1000"}`, "Idempotency-Key", "running")
			running <- answer{res.StatusCode, body}
		}()
		synctest.Wait()
		queued, err := client.Submit(t.Context(), &pawlv1.SubmitRequest{Key: key, Message: "echo never"})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		got, err := client.AbortSession(t.Context(), &pawlv1.AbortSessionRequest{SessionId: queued.GetSubmission().GetSessionId()})
		if err != nil || got.GetSettled() != 1 || !got.GetRunning().GetAbortRequested() {
			t.Fatalf("%v, %v", got, err)
		}
		var told struct {
			Error struct {
				Meta struct {
					Outcome, Reason string
					Cancellation    struct {
						Confirmed   bool
						Unconfirmed []any
					}
				}
			}
		}
		a := <-running
		if err := json.Unmarshal([]byte(a.body), &told); err != nil {
			t.Fatal(err)
		}
		if m := told.Error.Meta; m.Outcome != "aborted" || m.Reason != "ABORTED" || !m.Cancellation.Confirmed || m.Cancellation.Unconfirmed == nil {
			t.Errorf("%d %s", a.code, a.body)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s", took)
		}
		for _, id := range []string{queued.GetSubmission().GetSubmissionId(), got.GetRunning().GetSubmissionId()} {
			sub, err := client.GetSubmission(t.Context(), &pawlv1.GetSubmissionRequest{SubmissionId: id})
			if s := sub.GetSubmission(); err != nil || s.GetOutcome() != pawlv1.Outcome_OUTCOME_ABORTED || s.GetError().GetReason() != "ABORTED" || !s.GetCancellation().GetConfirmed() {
				t.Errorf("%v, %v", sub, err)
			}
		}
		if _, body := post(t, p, "/agents/shell/i", `{"message":"say: usable"}`); !strings.Contains(body, "usable") {
			t.Errorf("the session cannot be used any more: %s", body)
		}
	})
}
