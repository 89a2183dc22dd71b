package platformtest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
)

// post posts JSON as the operator. header holds names and values, of which each replaces what is sent otherwise.
func post(t *testing.T, p *platformtest.Platform, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost"+path,
		strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+p.Token)
	for pair := range slices.Chunk(header, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	res, err := p.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return res, string(out)
}

func TestPromptOverHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := platformtest.Start(t)
		res, body := post(t, p, "/agents/shell/i1", `{"message":"say: hello world"}`)
		var got struct {
			Result struct {
				Text  string
				Model struct{ Provider, ID string }
			}
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if res.StatusCode != http.StatusOK || got.Result.Text != "hello world" ||
			got.Result.Model.Provider != "offline" || got.Result.Model.ID != "shell" {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	})
}

func TestPromptAsEventStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := platformtest.Start(t)
		res, body := post(t, p, "/agents/shell/ws%2F1", `{"message":"say: hello world"}`, "Accept", "text/event-stream")
		if got := res.Header.Get("Content-Type"); got != "text/event-stream" {
			t.Errorf("content type %q", got)
		}
		var kinds []string
		text := ""
		lines := bufio.NewScanner(strings.NewReader(body))
		for lines.Scan() {
			if kind, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				kinds = append(kinds, kind)
			}
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var e struct {
					Type, Text, InstanceID string
					RunID                  *string
				}
				if err := json.Unmarshal([]byte(data), &e); err != nil {
					t.Fatalf("%s: %v", data, err)
				}
				if e.InstanceID != "ws/1" || e.RunID != nil {
					t.Errorf("event %s", data)
				}
				if e.Type == "text_delta" {
					text += e.Text
				}
			}
		}
		want := "operation_start agent_start turn_start turn_request message_start text_delta message_end turn_end " +
			"turn agent_end operation idle"
		kinds = slices.Compact(kinds) // how many deltas the text comes in depends on when the reader takes them
		if got := strings.Join(kinds, " "); got != want || text != "hello world" {
			t.Errorf("events %s\nwant   %s\ntext %q", got, want, text)
		}
	})
}

func TestBadRequestsAreToldWhatIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := platformtest.Start(t)
		for name, c := range map[string]struct {
			path, token, body string
			status            int
			says              string
		}{
			"no token":    {"/agents/shell/i", "", `{"message":"x"}`, 401, "unauthenticated"},
			"wrong token": {"/agents/shell/i", "pawl_operator_wrong", `{"message":"x"}`, 401, "unauthenticated"},
			"unknown agent": {
				"/agents/nobody/i", p.Token, `{"message":"x"}`, 404,
				`Agent \"nobody\" is not registered.`,
			},
			"unknown route": {"/nothing", p.Token, `{}`, 404, "route_not_found"},
			"no JSON":       {"/agents/shell/i", p.Token, `{`, 400, "invalid_json"},
			"no message": {
				"/agents/shell/i", p.Token, `{"session":"s"}`, 400,
				"Direct agent requests must use JSON object body",
			},
			"null session": {
				"/agents/shell/i", p.Token, `{"message":"x","session":null}`, 400,
				"must be a non-empty string when provided",
			},
			"reserved session": {
				"/agents/shell/i", p.Token, `{"message":"x","session":"task:1"}`, 400,
				"are reserved for delegated tasks",
			},
			"blank instance": {"/agents/shell/%20", p.Token, `{"message":"x"}`, 400, "non-empty segments"},
		} {
			res, body := post(t, p, c.path, c.body, "Authorization", "Bearer "+c.token)
			if res.StatusCode != c.status || !strings.Contains(body, c.says) {
				t.Errorf("%s: %d %s", name, res.StatusCode, body)
			}
		}
	})
}

func TestPromptOverGRPC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := platformtest.Start(t)
		key := &pawlv1.SessionKey{Agent: "shell", Instance: "i"}
		client := pawlv1.NewSubmissionServiceClient(p.GRPC)
		stream, err := client.Prompt(t.Context(), &pawlv1.PromptRequest{Key: key, Message: "say: hi"})
		if err != nil {
			t.Fatal(err)
		}
		var last *pawlv1.Event
		for {
			m, err := stream.Recv()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range m.GetEvents() {
				last = e
			}
		}
		settled := last.GetSettled().GetSubmission()
		if settled.GetOutcome() != pawlv1.Outcome_OUTCOME_COMPLETED || settled.GetResult().GetText() != "hi" {
			t.Fatalf("the last event was %v", last)
		}

		// The stream can be read again from any position.
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		watch, err := pawlv1.NewSessionServiceClient(p.GRPC).WatchSession(ctx,
			&pawlv1.WatchSessionRequest{SessionId: settled.GetSessionId(), After: 1})
		if err != nil {
			t.Fatal(err)
		}
		var seqs []int64
		for len(seqs) < 2 {
			m, err := watch.Recv()
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range m.GetEvents() {
				seqs = append(seqs, e.GetSeq())
			}
		}
		if seqs[0] != 2 || seqs[1] != 3 {
			t.Errorf("after 1 came %v", seqs)
		}
	})
}

func TestCallsWaitForAnExecutorAndSaySo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := platformtest.Start(t)
		began := time.Now()
		res, body := post(t, p, "/agents/shell/i", `{"message":"echo hi"}`)
		if res.StatusCode != http.StatusOK || !strings.Contains(body, "never started") {
			t.Errorf("%d %s", res.StatusCode, body)
		}
		if waited := time.Since(began); waited < 2*time.Minute || waited > 3*time.Minute {
			t.Errorf("it waited %s", waited)
		}
	})
}
