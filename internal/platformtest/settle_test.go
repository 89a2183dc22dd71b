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

// A key names one submission of a session, whichever way it comes: over HTTP as a header, as JSON or as a stream, over
// gRPC as a field.
func TestIdempotencyKeyIsOneOverAllClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := platformtest.Start(t)
		client := pawlv1.NewSubmissionServiceClient(p.GRPC)
		res, first := post(t, p, "/agents/shell/i", `{"message":"say: once"}`, "Idempotency-Key", "k")
		if res.StatusCode != http.StatusOK || !strings.Contains(first, "once") {
			t.Fatalf("%d %s", res.StatusCode, first)
		}
		if res, again := post(t, p, "/agents/shell/i", `{"message":"say: once"}`, "Idempotency-Key",
			"k"); res.StatusCode != http.StatusOK || again != first {
			t.Errorf("again: %d %s, at first %s", res.StatusCode, again, first)
		}
		if res, streamed := post(t, p, "/agents/shell/i", `{"message":"say: once"}`, "Idempotency-Key", "k", "Accept",
			"text/event-stream"); res.StatusCode != http.StatusOK || !strings.Contains(streamed, "event: agent_end") {
			t.Errorf("as a stream: %d %s", res.StatusCode, streamed)
		}
		req := &pawlv1.SubmitRequest{
			Key: &pawlv1.SessionKey{Agent: "shell", Instance: "i"}, Message: "say: once",
			IdempotencyKey: "k",
		}
		again, err := client.Submit(t.Context(), req)
		if err != nil || !again.GetReplayed() || again.GetSubmission().GetStatus() != pawlv1.Submission_STATUS_SETTLED {
			t.Fatalf("over gRPC: %v, %v", again, err)
		}
		prompted, err := client.Prompt(t.Context(), &pawlv1.PromptRequest{
			Key: req.GetKey(), Message: req.GetMessage(),
			IdempotencyKey: "k",
		})
		if err != nil {
			t.Fatal(err)
		}
		if m, err := prompted.Recv(); err != nil || m.GetSubmission().GetSubmissionId() != again.GetSubmission().GetSubmissionId() {
			t.Errorf("prompted: %v, %v", m, err)
		}
		list, err := client.ListSubmissions(t.Context(),
			&pawlv1.ListSubmissionsRequest{SessionId: again.GetSubmission().GetSessionId()})
		if err != nil || len(list.GetSubmissions()) != 1 {
			t.Errorf("there are %d submissions, %v", len(list.GetSubmissions()), err)
		}

		if res, body := post(t, p, "/agents/shell/i", `{"message":"say: twice"}`, "Idempotency-Key",
			"k"); res.StatusCode != http.StatusConflict || !strings.Contains(body, "idempotency_conflict") {
			t.Errorf("another message over HTTP: %d %s", res.StatusCode, body)
		}
		req.Message = "say: twice"
		if _, err := client.Submit(t.Context(), req); status.Code(err) != codes.AlreadyExists ||
			rpc.Reason(err) != "IDEMPOTENCY_CONFLICT" {
			t.Errorf("another message over gRPC: %v", err)
		}
		for _, elsewhere := range []string{"/agents/shell/other", "/agents/shell/i"} {
			body := `{"message":"say: elsewhere"}`
			if elsewhere == "/agents/shell/i" {
				body = `{"message":"say: elsewhere","session":"other"}`
			}
			if res, got := post(t, p, elsewhere, body, "Idempotency-Key", "k"); res.StatusCode != http.StatusOK ||
				!strings.Contains(got, "elsewhere") {
				t.Errorf("the key of another session: %d %s", res.StatusCode, got)
			}
		}
	})
}

// runsAt checks that a session is a replica's.
func (w *world) runsAt(p *platformtest.Platform, agent string) {
	w.Helper()
	if owner, ok, err := w.c.Store.OwnerOf(w.Context(), w.sessionID(agent)); err != nil || !ok || owner.Addr != p.Name {
		w.Fatalf("the session is run by %q, %v, want %q", owner.Addr, err, p.Name)
	}
}

// aborted checks that every replica says of submissions that they were aborted and nothing of them is left.
func (w *world) aborted(ids []string, replicas ...*platformtest.Platform) {
	w.Helper()
	for _, id := range ids {
		for _, p := range replicas {
			got, err := w.tryWait(p, id)
			if err != nil || got.GetOutcome() != pawlv1.Outcome_OUTCOME_ABORTED ||
				got.GetError().GetReason() != "ABORTED" || !got.GetCancellation().GetConfirmed() {
				w.Errorf("replica %s says %v, %v", p.Name, got, err)
			}
		}
	}
}

// A replica that does not run a session aborts what runs in it, and what waits.
func TestAbortFromAnotherReplica(t *testing.T) {
	abort := func(w *world, p *platformtest.Platform, id string) *pawlv1.Submission {
		w.Helper()
		got, err := pawlv1.NewSubmissionServiceClient(p.GRPC).AbortSubmission(w.Context(),
			&pawlv1.AbortSubmissionRequest{SubmissionId: id})
		if err != nil {
			w.Fatal(err)
		}
		return got.GetSubmission()
	}
	const endless = "add effects one;sleep 1000h;add effects never"
	for name, run := range map[string]func(w *world, b *platformtest.Platform){
		"what runs": func(w *world, b *platformtest.Platform) {
			id, next := w.submit(endless), w.submit(quick)
			w.sleep(10 * time.Second)
			w.runsAt(w.a, "shell")
			began := time.Now()
			abort(w, b, id)
			w.aborted([]string{id}, b, w.a)
			if took := time.Since(began); took > time.Second {
				w.Errorf("it took %s", took)
			}
			w.wait(b, next, "quick result")
			w.finish(b, "shell", "one", "quick")
		},
		"what waits": func(w *world, b *platformtest.Platform) {
			id, next := w.submit(one), w.submit("add effects never")
			w.sleep(10 * time.Second)
			w.runsAt(w.a, "shell")
			if got := abort(w, b, next); got.GetStatus() != pawlv1.Submission_STATUS_SETTLED {
				w.Errorf("the answer is %v", got)
			}
			w.aborted([]string{next}, b, w.a)
			w.wait(b, id, truth)
			w.finish(b, "shell", "one")
		},
	} {
		t.Run(name, func(t *testing.T) { within(t, func(w *world) { run(w, w.c.Start("b", nil)) }) })
	}
}

// A whole session is aborted at a replica that does not run it: what runs, and what waits, settle at once, and every
// client is told what is known of what ran.
func TestAbortOfASession(t *testing.T) {
	within(t, func(w *world) {
		b := w.c.Start("b", nil)
		type answer struct {
			code int
			body string
		}
		running := make(chan answer, 1)
		go func() {
			res, body := post(w.T, w.a, "/agents/shell/i",
				`{"message":"add effects one;sleep 1000h;add effects never"}`)
			running <- answer{res.StatusCode, body}
		}()
		synctest.Wait()
		queued := w.submit("add effects never")
		w.sleep(10 * time.Second)
		w.runsAt(w.a, "shell")
		began := time.Now()
		got, err := pawlv1.NewSubmissionServiceClient(b.GRPC).AbortSession(w.Context(),
			&pawlv1.AbortSessionRequest{SessionId: w.sessionID("shell")})
		if err != nil || got.GetSettled() != 1 || !got.GetRunning().GetAbortRequested() {
			w.Fatalf("%v, %v", got, err)
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
			w.Fatal(err)
		}
		if m := told.Error.Meta; m.Outcome != "aborted" || m.Reason != "ABORTED" || !m.Cancellation.Confirmed ||
			m.Cancellation.Unconfirmed == nil {
			w.Errorf("%d %s", a.code, a.body)
		}
		w.aborted([]string{queued, got.GetRunning().GetSubmissionId()}, b, w.a)
		if took := time.Since(began); took > time.Second {
			w.Errorf("it took %s", took)
		}
		w.finish(b, "shell", "one")
	})
}
