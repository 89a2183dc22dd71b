package crashtest_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pawl-dev/pawl/internal/rpc"
)

// The services of docker-compose.yaml work together: a prompt through one replica is watched through the other, and
// goes on when the first one is killed. Each ends within its grace.
func TestComposeServices(t *testing.T) {
	e := newEngine(t)
	e.up()
	e.awaitHealthy("control-a")
	e.awaitHealthy("control-b")
	e.checkNames("control-a", "control-b")
	c := e.client("control-a")
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var sent struct {
		Submission struct{ SubmissionID, SessionID string }
	}
	prompt, err := json.Marshal(map[string]string{"message": command})
	if err != nil {
		t.Fatal(err)
	}
	res := c.do(ctx, http.MethodPost, "control-a", "/v1/agents/shell/instances/me:dispatch", string(prompt))
	if err := json.NewDecoder(res.Body).Decode(&sent); err != nil || sent.Submission.SessionID == "" {
		t.Fatalf("%s, %v, %+v", res.Status, err, sent)
	}
	root := e.volume("workspace")
	read := func() string {
		b, err := os.ReadFile(filepath.Join(root, "runs"))
		if err != nil {
			return ""
		}
		return string(b)
	}
	eventually(t, "the command to run", func() bool { return read() == "run\n" })
	events := c.do(ctx, http.MethodGet, "control-b", "/v1/sessions/"+sent.Submission.SessionID+"/events", "")
	if err := e.running["control-a"].End(syscall.SIGKILL, patience); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	last := ""
	for lines := bufio.NewScanner(events.Body); !strings.Contains(last, `"settled":`); {
		if !lines.Scan() {
			t.Fatalf("the stream ended after %s: %v", last, lines.Err())
		}
		last = lines.Text()
	}
	if !strings.Contains(last, "OUTCOME_COMPLETED") || !strings.Contains(last, "the true result") ||
		read() != "run\nend\n" {
		t.Errorf("it settled with %s, and the command left %q", last, read())
	}
	e.start("control-a") // as the restart policy does
	e.awaitHealthy("control-a")
	for _, one := range []string{"executor-token", "certificates", "database-password"} {
		e.start(one) // as each `docker compose up` does
	}
	if res := c.do(ctx, http.MethodGet, "control-a", "/v1/executors", ""); res.StatusCode != http.StatusOK {
		t.Errorf("%s", res.Status)
	}
	c.CloseIdleConnections()
	for _, name := range []string{"executor", "control-b", "control-a"} {
		if err := e.running[name].End(syscall.SIGTERM, e.Services[name].Grace); err != nil {
			t.Error(err)
		}
		if code := e.running[name].ExitCode(); code != 0 {
			t.Errorf("%s ended with %d", name, code)
		}
	}
}

// outside is a client on the host, with what the head of the file tells it to copy.
type outside struct {
	*http.Client
	e     *engine
	token string
}

func (e *engine) trusted() *x509.CertPool {
	e.t.Helper()
	ca, err := os.ReadFile(filepath.Join(e.volume("trust"), "ca.pem"))
	if err != nil {
		e.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return roots
}

func (e *engine) client(replica string) *outside {
	e.t.Helper()
	token, err := rpc.File(filepath.Join(e.volume(replica), "token"))(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	return &outside{&http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: e.trusted()}, ForceAttemptHTTP2: true,
	}}, e, token}
}

func (c *outside) do(ctx context.Context, method, service, path, body string) *http.Response {
	c.e.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "https://"+c.e.published(service, "3000")+path,
		strings.NewReader(body))
	if err != nil {
		c.e.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := c.Do(req)
	if err != nil {
		c.e.t.Fatal(err)
	}
	c.e.t.Cleanup(func() { _ = res.Body.Close() })
	if res.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
		res.Body = io.NopCloser(bytes.NewReader(said))
		c.e.t.Errorf("%s %s at %s: %s %s", method, path, service, res.Status, said)
	}
	return res
}

// checkNames verifies the certificate for names that this host does not know.
func (e *engine) checkNames(names ...string) {
	e.t.Helper()
	for _, name := range names {
		conn, err := tls.Dial("tcp", e.published(name, "3001"), &tls.Config{
			RootCAs: e.trusted(), ServerName: name, NextProtos: []string{"h2"},
		})
		if err != nil {
			e.t.Errorf("%s: %v", name, err)
			continue
		}
		_ = conn.Close()
	}
}
