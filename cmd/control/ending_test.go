package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/client"
	"github.com/pawl-dev/pawl/internal/rpc"
)

// endsWithin is how long the program may take from SIGTERM on, whoever listens to it and however slowly: models get 20
// seconds to finish an answer, and readers 2 to take their last words.
const endsWithin = 26 * time.Second

// ending is a control plane in a process of its own, whose model never answers.
type ending struct {
	*testing.T
	cmd   *exec.Cmd
	here  client.Addresses
	token string
	asked chan struct{}
}

func startEnding(t *testing.T) *ending {
	t.Helper()
	e := &ending{T: t, asked: make(chan struct{}, 10)}
	answer := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		e.asked <- struct{}{}
		<-r.Context().Done()
	})
	silent := startProvider(t, answer, answer, answer, answer) // one for each try
	data := t.TempDir()
	write(t, "---\nmodel: local/some-model\nsandbox: none\nexpose: [http, websocket]\n---\nBe brief.\n", data, "agents",
		"brief.md")
	file := write(t, "local:\n  api: openai-chat\n  base_url: "+silent.URL+"/v1\n", data, "providers.yaml")
	e.cmd = exec.CommandContext(t.Context(), os.Args[0], "--data", data, "--http", "127.0.0.1:0", "--grpc",
		"127.0.0.1:0", "--providers", file, "--agents", filepath.Join(data, "agents"), "--executor", "none")
	e.cmd.Env = append(os.Environ(), asProgram+"=1")
	var log strings.Builder
	e.cmd.Stderr = &log
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "Try it") {
	}
	var ok bool
	if e.here, ok, err = client.ReadAddresses(data); !ok || err != nil {
		t.Fatalf("%v, %v, %s", ok, err, log.String())
	}
	secret, err := os.ReadFile(filepath.Join(data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	e.token = strings.TrimSpace(string(secret))
	return e
}

// send begins a request and returns its answer, which is read later.
func (e *ending) send(method, path, accept, body string) *http.Response {
	e.Helper()
	r, err := http.NewRequestWithContext(e.Context(), method, e.here.HTTP+path, strings.NewReader(body))
	if err != nil {
		e.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+e.token)
	r.Header.Set("Accept", accept)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { _ = res.Body.Close() })
	return res
}

// status is that of an answer, which is not read.
func (e *ending) status(path string) int {
	e.Helper()
	res := e.send("GET", path, "*/*", "")
	_ = res.Body.Close()
	return res.StatusCode
}

// silent asks for a stream and reads nothing of it.
func (e *ending) silent(path string) {
	e.Helper()
	conn, err := new(net.Dialer).DialContext(e.Context(), "tcp", strings.TrimPrefix(e.here.HTTP, "http://"))
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+e.token+
		"\r\n\r\n"); err != nil {
		e.Fatal(err)
	}
}

func (e *ending) socket(path, say, heard string) *websocket.Conn {
	e.Helper()
	conn, _, err := websocket.Dial(e.Context(), e.here.HTTP+path, &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + e.token}},
	})
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { _ = conn.CloseNow() })
	if err := conn.Write(e.Context(), websocket.MessageText, []byte(say)); err != nil {
		e.Fatal(err)
	}
	for text := ""; !strings.Contains(text, heard); {
		_, b, err := conn.Read(e.Context())
		if err != nil {
			e.Fatal(err)
		}
		text = string(b)
	}
	return conn
}

// last reads a socket to its end.
func last(ctx context.Context, conn *websocket.Conn) (text string, code websocket.StatusCode) {
	for {
		_, b, err := conn.Read(ctx)
		if err != nil {
			return text, websocket.CloseStatus(err)
		}
		text = string(b)
	}
}

// SIGTERM ends the program in its order, within its grace, while a model call is under way and every kind of stream is
// open: /readyz turns while /healthz still answers, each reader hears why its stream ends and where to go on, and one
// that reads nothing holds nobody up.
func TestEnding(t *testing.T) {
	t.Parallel()
	e := startEnding(t)
	res := e.send("POST", "/v1/agents/brief/instances/i:prompt", "application/x-ndjson", `{"message":"hi"}`)
	line, err := bufio.NewReader(res.Body).ReadString('\n')
	var first struct{ Submission struct{ SessionID string } }
	if err == nil {
		err = json.Unmarshal([]byte(line), &first)
	}
	id := first.Submission.SessionID
	if err != nil || id == "" {
		t.Fatalf("%v, %s", err, line)
	}
	<-e.asked
	events := "/v1/sessions/" + id + "/events"
	stream, lines := e.send("GET", events, "text/event-stream", ""), e.send("GET", events, "*/*", "")
	calls := e.socket("/v1/watch", fmt.Sprintf(`{"id":"w","call":"watchSession","request":{"sessionId":%q}}`, id),
		`"events"`)
	agent := e.socket("/agents/brief/other", `{"version":1,"type":"prompt","requestId":"r","message":"hi"}`,
		`"started"`)
	conn, err := grpc.NewClient(e.here.GRPC, append(rpc.DialOptions(), rpc.Security(nil),
		grpc.WithPerRPCCredentials(rpc.Token{Secret: rpc.Static(e.token), Plaintext: true}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	watch, err := pawlv1.NewSessionServiceClient(conn).WatchSession(t.Context(),
		&pawlv1.WatchSessionRequest{SessionId: id})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	e.silent(events)

	begun := time.Now()
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for e.status("/readyz") != http.StatusServiceUnavailable { // it announces nothing
	}
	if status := e.status("/healthz"); status != http.StatusOK {
		t.Errorf("/healthz while the model answers: %d", status)
	}
	if status := e.status("/v1/agents"); status != http.StatusServiceUnavailable {
		t.Errorf("a new request while the model answers: %d", status)
	}
	text, code := last(t.Context(), calls)
	if !strings.Contains(text, "SERVER_STOPPING") || !strings.Contains(text, `"cursor":"`) ||
		code != websocket.StatusGoingAway {
		t.Errorf("the socket for calls ends with %d after %s", code, text)
	}
	if text, code := last(t.Context(), agent); !strings.Contains(text, "server_stopping") ||
		code != websocket.StatusGoingAway {
		t.Errorf("the agent's socket ends with %d after %s", code, text)
	}
	for name, res := range map[string]*http.Response{"events": stream, "lines": lines, "the prompt": res} {
		b, err := io.ReadAll(res.Body)
		if err != nil || !strings.Contains(string(b[max(0, len(b)-1000):]), "SERVER_STOPPING") {
			t.Errorf("%s end with %v after %s", name, err, b)
		}
	}
	for err == nil {
		_, err = watch.Recv()
	}
	if !errors.Is(rpc.FromStatus(err), rpc.ErrStopping) {
		t.Errorf("the gRPC stream ends with %v", err)
	}
	if err := e.cmd.Wait(); err != nil {
		t.Errorf("the program ends with %v", err)
	}
	if took := time.Since(begun); took > endsWithin {
		t.Errorf("the program ended after %s, want %s at most", took, endsWithin)
	}
}
