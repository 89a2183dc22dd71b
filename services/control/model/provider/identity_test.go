package provider_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
)

// hung answers nothing.
var hung = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })

// entra makes the credentials of Azure those of an application.
func entra(t *testing.T) {
	t.Helper()
	for name, v := range map[string]string{
		"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client", "AZURE_CLIENT_SECRET": "client-secret",
		"AZURE_AUTHORITY_HOST": "http://model.test", "AZURE_FEDERATED_TOKEN_FILE": "",
	} {
		t.Setenv(name, v)
	}
}

// A server that issues tokens or credentials, and hangs, is not waited for as long as a model is.
func TestAnIssuerThatHangs(t *testing.T) {
	serviceAccount(t)
	entra(t)
	signs(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1/issue")
	for api, place := range map[model.API]model.Cloud{
		model.APIGemini:   {Kind: model.Vertex, Project: "p", Location: "global"},
		model.APIChat:     {Kind: model.Azure, Entra: true},
		model.APIConverse: {Kind: model.Bedrock, Region: "us-east-1"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := modeltest.NewServer(t)
			s.Always(hung)
			start := time.Now()
			_, err := ask(t, clouded(t, s, api, "m", place), model.Request{})
			e, ok := model.AsError(err)
			if !ok || e.Kind != model.KindNetwork || !e.Retryable || time.Since(start) > 3*time.Minute {
				t.Errorf("%s: %v after %s", place.Kind, err, time.Since(start))
			}
		})
	}
}

// Who leaves while a token is fetched takes it from nobody else.
func TestATokenIsFetchedForAll(t *testing.T) {
	entra(t)
	synctest.Test(t, func(t *testing.T) {
		tokens := &issuer{then: modeltest.Chat.Stream(modeltest.Turn{Text: []string{"x"}})}
		s := modeltest.NewServer(t)
		s.Always(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/token") {
				time.Sleep(5 * time.Second) // on the bubble's clock
			}
			tokens.ServeHTTP(w, r)
		}))
		m := clouded(t, s, model.APIChat, "m", model.Cloud{Kind: model.Azure, Entra: true})
		leaving, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		var all sync.WaitGroup
		all.Go(func() {
			_, err, _ := modeltest.Read(m.Stream(leaving, model.Request{Messages: []model.Message{user("hi")}}))
			if err == nil || leaving.Err() == nil {
				t.Errorf("who leaves is told %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() {
			if tr, err := ask(t, m, model.Request{}); err != nil || tr.Text != "x" {
				t.Errorf("%+v, %v", tr, err)
			}
		})
		all.Wait()
		if len(tokens.asked) != 1 {
			t.Errorf("%d tokens were asked for", len(tokens.asked))
		}
	})
}

// Credentials of AWS that have ended are read anew, from files that have changed meanwhile. Those that do not end are
// refused once.
func TestBedrocksCredentialsEnd(t *testing.T) {
	for token, requests := range map[string]int{"session-token-1": 2, "": 1} {
		signs(t)
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		t.Setenv("AWS_SESSION_TOKEN", "")
		file := filepath.Join(t.TempDir(), "credentials")
		write := func(token string) {
			text := "[default]\naws_access_key_id = AKID\naws_secret_access_key = secret-key\n"
			if token != "" {
				text += "aws_session_token = " + token + "\n"
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Error(err)
			}
		}
		write(token)
		t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
		synctest.Test(t, func(t *testing.T) {
			w := modeltest.Converse
			s := modeltest.NewServer(t, w.Stream(modeltest.Turn{Text: []string{"x"}}))
			m := clouded(t, s, w.API, "amazon.nova-pro-v1:0", model.Cloud{Kind: model.Bedrock, Region: "us-east-1"})
			if _, err := ask(t, m, model.Request{}); err != nil {
				t.Fatal(err)
			}
			answer := w.Stream(modeltest.Turn{Text: []string{"y"}})
			s.Always(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Amz-Security-Token") == "session-token-2" {
					answer.ServeHTTP(w, r)
					return
				}
				modeltest.Answer(http.StatusForbidden, `{"message":"The security token included in the request is expi`+
					`red: session-token-1"}`, "X-Amzn-Errortype", "ExpiredTokenException").ServeHTTP(w, r)
			}))
			write(strings.Replace(token, "1", "2", 1))
			tr, err := ask(t, m, model.Request{})
			if token != "" && (err != nil || tr.Text != "y") || token == "" && err == nil {
				t.Errorf("%q: %+v, %v", token, tr, err)
			}
			if err != nil && strings.Contains(err.Error(), "session-token") && token != "" {
				t.Errorf("%v", err)
			}
			if got := len(s.Requests()) - 1; got != requests {
				t.Errorf("%q: %d requests, want %d", token, got, requests)
			}
		})
	}
}

// Google Cloud wants to be told of Anthropic's search in a header, and only if it is offered.
func TestTheSearchOfAnthropicOnVertex(t *testing.T) {
	serviceAccount(t)
	synctest.Test(t, func(t *testing.T) {
		s := modeltest.NewServer(t)
		s.Always(&issuer{then: modeltest.Anthropic.Stream(modeltest.Turn{Text: []string{"x"}})})
		place := model.Cloud{Kind: model.Vertex, Project: "p", Location: "global"}
		m := clouded(t, s, model.APIAnthropic, "claude-sonnet-4-6", place)
		for _, tools := range [][]model.Tool{{model.WebSearch}, nil} {
			if _, err := ask(t, m, model.Request{Tools: tools}); err != nil {
				t.Fatal(err)
			}
			asked := s.Requests()
			want := ""
			if tools != nil {
				want = "web-search-2025-03-05"
			}
			if got := asked[len(asked)-1].Header.Get("Anthropic-Beta"); got != want {
				t.Errorf("offered %v: %q", tools, got)
			}
		}
	})
}
