package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model/modeltest"
)

// provider is a server on a real socket that speaks a provider's protocol.
type provider struct {
	*httptest.Server
	mu       sync.Mutex
	answers  []http.Handler
	requests []*http.Request
}

func startProvider(t *testing.T, answers ...http.Handler) *provider {
	p := &provider{answers: answers}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		p.next(r).ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) next(r *http.Request) http.Handler {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, r.Clone(context.WithoutCancel(r.Context())))
	if len(p.answers) == 0 {
		return modeltest.Answer(http.StatusNotImplemented, "a request too many")
	}
	answer := p.answers[0]
	p.answers = p.answers[1:]
	return answer
}

// write makes a file, and the directories on the way.
func write(t *testing.T, content string, path ...string) string {
	t.Helper()
	file := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A model that a file configures answers a prompt, and what the file and its variables keep secret reaches the provider
// only.
func TestProvidersFile(t *testing.T) {
	const key, team, literal = "sk-very-secret-key-1", "very-secret-team-2", "very-secret-literal-3"
	t.Setenv("LOCAL_KEY", key)
	t.Setenv("TEAM", team)
	hello := modeltest.Chat.Stream(modeltest.Turn{Text: []string{"hello ", "there"}})
	refusal := modeltest.Answer(http.StatusUnauthorized, modeltest.Chat.Error("invalid_api_key",
		"no good: "+key+" "+team+" "+literal))
	local := startProvider(t, hello, hello, refusal, refusal)
	data := t.TempDir()
	write(t, "---\nmodel: local/some-model\nsandbox: none\n---\nBe brief.\n", data, "agents", "brief.md")
	file := write(t, "local:\n  api: openai-chat\n  base_url: "+local.URL+"/v1\n  key_env: LOCAL_KEY\n  headers:\n"+
		"    X-Team: group ${TEAM}\n    X-Literal: "+literal+"\n", data, "providers.yaml")
	s := start(t, data, "--providers", file, "--agents", filepath.Join(data, "agents"), "--log-level", "debug",
		"--executor", "none")
	token, err := os.ReadFile(filepath.Join(data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	for _, prompt := range []struct{ accept, want string }{
		{"application/json", `"text":"hello there"`},
		{"text/event-stream", "hello there"},
		{"application/json", "no good: [redacted]"},
		{"text/event-stream", "no good: [redacted]"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.here.HTTP+"/agents/brief/me",
			strings.NewReader(`{"message":"hi"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", prompt.accept)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || !strings.Contains(string(body), prompt.want) {
			t.Errorf("%s: %v, %s, want %s", prompt.accept, err, body, prompt.want)
		}
		if strings.Contains(string(body), "secret") {
			t.Errorf("a secret is in the answer: %s", body)
		}
		if err := res.Body.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if log := s.log.String(); !strings.Contains(log, "replica registered") || strings.Contains(log, "secret") {
		t.Errorf("a secret is in the log, or there is none:\n%s", log)
	}
	if len(local.requests) != 4 {
		t.Errorf("the provider was called %d times", len(local.requests))
	}
	for _, r := range local.requests {
		h := r.Header
		if r.URL.Path != "/v1/chat/completions" || h.Get("Authorization") != "Bearer "+key ||
			h.Get("X-Team") != "group "+team || h.Get("X-Literal") != literal {
			t.Errorf("the provider got %s with %v", r.URL.Path, h)
		}
	}
}

// The file and the directory of agents may be absent, unless somebody has named them.
func TestWhatMayBeAbsent(t *testing.T) {
	t.Chdir(t.TempDir())
	start(t, t.TempDir(), "--database", "memory", "--executor", "none")
	const absent = "control: providers.yaml: cannot be read: no such file or directory\n"
	refused(t, absent, "--providers", "providers.yaml")
	const noAgents = "control: the directory of agents none cannot be read: no such file or directory\n"
	refused(t, noAgents, "--agents", "none")
	t.Setenv("PAWL_AGENTS", "none")
	refused(t, noAgents)
	if err := os.Unsetenv("PAWL_AGENTS"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PAWL_PROVIDERS", "providers.yaml")
	refused(t, absent)
	write(t, "local:\n  api: soap\n", "providers.yaml")
	if err := os.Unsetenv("PAWL_PROVIDERS"); err != nil {
		t.Fatal(err)
	}
	refused(t, "control: ./providers.yaml:2:8: local.api: must be one of anthropic, openai-chat, openai-responses, "+
		"gemini, bedrock-converse, got \"soap\"\n")
}

// A provider that there is not ends the start, as any bad definition does. A key that is missing is told once, and the
// rest works.
func TestModelsOfAgents(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("ANTHROPIC_API_KEY", "")
	agents := filepath.Dir(write(t, "---\nmodel: anthropic/m\n---\n", "agents", "keyless.md"))
	s := start(t, t.TempDir(), "--agents", agents, "--executor", "none")
	if _, stderr, err := invoke(t, "prompt", "--data", s.data, "keyless", "x"); err == nil ||
		!strings.HasPrefix(stderr, "control: MODEL_KEY_MISSING: ") || !strings.Contains(stderr,
		"set ANTHROPIC_API_KEY") {
		t.Errorf("%v, %q", err, stderr)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if log := s.log.String(); strings.Count(log, "prompts of an agent will fail") != 1 ||
		!strings.Contains(log, "agent=keyless") || !strings.Contains(log, "set ANTHROPIC_API_KEY") {
		t.Errorf("the log says\n%s", log)
	}
	write(t, "---\nmodel: foo/bar\n---\n", "agents", "lost.md")
	refused(t, "control: agents/lost.md:2:8: model: there is no provider \"foo\", which model foo/bar names; add it "+
		"to the providers file of control with api and base_url, or use one that is known, such as anthropic, "+
		"gemini, offline, openai\n", "--agents", agents)
}

// refused starts a control plane that ends with one line.
func refused(t *testing.T, want string, args ...string) {
	t.Helper()
	stdout, stderr, err := invoke(t, append(args, "--data", t.TempDir(), "--http", "127.0.0.1:0", "--grpc",
		"127.0.0.1:0", "--database", "memory")...)
	if err == nil || stdout != "" || stderr != want {
		t.Errorf("%v, %q, %q, want %q", err, stdout, stderr, want)
	}
}
