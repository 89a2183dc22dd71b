package gateway_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
)

// Any agent, one too that is offered nowhere, is dispatched to: the answer is a receipt, which comes when the input is
// durable and not when it was worked on, and the work can be watched.
func TestDispatchHasAReceiptAndCanBeWatched(t *testing.T) {
	inward := agent.Shell()
	inward.Name, inward.Expose = "inward", nil
	m := newSlow()
	p := planetest.New(t, model.Model(m), inward)
	d := deps(p)
	d.API = apiOf(t, p, d)
	s := serve(t, d)
	status, _, body := raw(t, s, with("POST /v1/agents/inward/instances/i/sessions/s:dispatch HTTP/1.1\n"+
		"Idempotency-Key: k", `{"message":"hi"}`))
	var receipt struct {
		Submission struct {
			SubmissionID, SessionID, Status string
			AcceptedAt                      time.Time
			Key                             struct{ Agent, Instance, Session string }
		}
	}
	decode(t, body, &receipt)
	got := receipt.Submission
	if _, err := uuid.Parse(got.SubmissionID); err != nil || status != 200 || got.AcceptedAt.IsZero() ||
		got.Status == "STATUS_SETTLED" || got.Key.Agent != "inward" || got.Key.Instance != "i" ||
		got.Key.Session != "s" {
		t.Errorf("%d %s", status, body)
	}
	events := flows{Server: s}.stream(t, "/v1/sessions/"+got.SessionID+"/events")
	<-m.begun
	close(m.answer)
	seen := read(t, events, `"settled":`)
	if !strings.Contains(seen, got.SubmissionID) || !strings.Contains(seen, `"text":"Hello"`) {
		t.Error(seen)
	}
	// The same request again has the same receipt, and an agent that is not there has none.
	_, _, again := raw(t, s, with("POST /v1/agents/inward/instances/i/sessions/s:dispatch HTTP/1.1\n"+
		"Idempotency-Key: k", `{"message":"hi"}`))
	if !strings.Contains(again, got.SubmissionID) || !strings.Contains(again, `"replayed":true`) {
		t.Error(again)
	}
	for path, want := range map[string]int{
		"/v1/agents/none/instances/i:dispatch":                     404,
		"/v1/agents/inward/instances/%20:dispatch":                 400,
		"/v1/agents/inward/instances/i/sessions/task%3Ax:dispatch": 400,
	} {
		if status, _, body := raw(t, s, with("POST "+path+" HTTP/1.1", `{"message":"hi"}`)); status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}
