package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/pawl-dev/pawl/internal/chaos/proxy"
	"github.com/pawl-dev/pawl/internal/proctest"
)

// exampleTime bounds one example, with a connection that breaks.
const exampleTime = time.Minute

// breakable is a control plane that examples reach over connections that a test cuts.
type breakable struct {
	*server
	root       string
	grpc, http *proxy.Proxy
}

func startBreakable(t *testing.T, args ...string) *breakable {
	t.Helper()
	b := &breakable{root: t.TempDir()}
	b.server = start(t, t.TempDir(), append([]string{"--root", b.root}, args...)...)
	for at, p := range map[string]**proxy.Proxy{
		b.here.GRPC: &b.grpc, strings.TrimPrefix(b.here.HTTP, "http://"): &b.http,
	} {
		one, err := proxy.Listen(proxy.To(at))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(one.Close)
		*p = one
	}
	return b
}

// message is what an example prompts: a command that prints before and after the test lets it go.
func (b *breakable) message(instance string) string {
	return "echo one; until [ -e go-" + instance + " ]; do sleep 0.05; done; echo two"
}

func (b *breakable) release(t *testing.T, instance string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(b.root, "go-"+instance), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// example is a program that prompts, with what it says.
type example struct {
	*proctest.Process
	log *proctest.Log
	ctx context.Context //nolint:containedctx // of one run
}

// run starts an example with the environment that examples/README.md names.
func (b *breakable) run(t *testing.T, at string, command ...string) example {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), exampleTime)
	t.Cleanup(cancel)
	program, err := exec.LookPath(command[0])
	if err != nil {
		t.Fatal(err)
	}
	e := example{log: &proctest.Log{}, ctx: ctx}
	e.Process, err = proctest.StartWith(program, command[1:], append(os.Environ(), "PAWL_SERVER="+at,
		"PAWL_TOKEN_FILE="+filepath.Join(b.data, "token")), e.log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.End(syscall.SIGKILL, exampleTime) })
	return e
}

func (e example) await(t *testing.T, text string) {
	t.Helper()
	if err := e.log.Await(e.ctx, e.Process, text); err != nil {
		t.Fatal(err)
	}
}

// resumes lets an example see the first line, cuts its connection, and expects the second line, each once.
func (b *breakable) resumes(t *testing.T, e example, over *proxy.Proxy, instance string) {
	t.Helper()
	e.await(t, "one\n")
	over.Cut()
	e.await(t, "the connection was lost after event ")
	b.release(t, instance)
	select {
	case <-e.Done():
	case <-e.ctx.Done():
		t.Fatalf("it does not end; it said\n%s", e.log)
	}
	before, _, _ := strings.Cut(e.log.String(), "the connection was lost")
	if e.ExitCode() != 0 || strings.Count(before, "one") != 1 || !strings.Contains(e.log.String(), "two\n") {
		t.Errorf("it ended with %d and said\n%s", e.ExitCode(), e.log)
	}
}

// refuses expects an example to say how it is used when it is given no message, and to give up where nobody listens.
func (b *breakable) refuses(t *testing.T, command ...string) {
	t.Helper()
	ends := func(code int, says string, e example) {
		t.Helper()
		select {
		case <-e.Done():
		case <-e.ctx.Done():
			t.Fatalf("it does not end; it said\n%s", e.log)
		}
		if e.ExitCode() != code || !strings.Contains(e.log.String(), says) {
			t.Errorf("it ended with %d, want %d, and said\n%s", e.ExitCode(), code, e.log)
		}
	}
	ends(2, "MESSAGE [INSTANCE]\n", b.run(t, b.grpc.Addr(), command...))
	ends(2, "MESSAGE [INSTANCE]\n", b.run(t, b.grpc.Addr(), append(command, "")...))
	closed, err := proxy.Listen(proxy.To(b.here.GRPC))
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	code := 1
	if command[0] == "sh" {
		code = 7 // curl's
	}
	ends(code, "", b.run(t, closed.Addr(), append(command, "say: hi")...))
}

func TestExampleNode(t *testing.T) {
	dir := exampleOfNode(t, "node")
	b := startBreakable(t)
	e := b.run(t, b.grpc.Addr(), "node", filepath.Join(dir, "prompt.mjs"), b.message("node"))
	b.resumes(t, e, b.grpc, "node")
	b.refuses(t, "node", filepath.Join(dir, "prompt.mjs"))
}

func TestExamplePython(t *testing.T) {
	python := pythonWithGRPC(t)
	b := startBreakable(t)
	e := b.run(t, b.grpc.Addr(), python, "../../examples/python/prompt.py", b.message("python"))
	b.resumes(t, e, b.grpc, "python")
	b.refuses(t, python, "../../examples/python/prompt.py")
}

func TestExampleCurl(t *testing.T) {
	b := startBreakable(t)
	b.refuses(t, "sh", "../../examples/curl/prompt.sh")
	at := "http://" + b.http.Addr()
	e := b.run(t, at, "sh", "../../examples/curl/prompt.sh", b.message("curl"))
	b.resumes(t, e, b.http, "curl")
	if !strings.HasSuffix(e.log.String(), "OUTCOME_COMPLETED\n") {
		t.Errorf("%s", e.log)
	}
	e = b.run(t, at, "sh", "../../examples/curl/prompt.sh", b.message(`quoted "so" and \ so`), "other")
	e.await(t, "one\n")
	e.Signal(syscall.SIGTERM)
	e.await(t, "OUTCOME_ABORTED\n")
	select {
	case <-e.Done():
	case <-e.ctx.Done():
		t.Fatal("it does not end")
	}
	if e.ExitCode() != 1 {
		t.Errorf("an aborted prompt ended with %d", e.ExitCode())
	}
}

// The page works from another origin: with a token by fetch and on a socket, and by EventSource, which sends no token,
// where none is needed.
func TestExampleBrowser(t *testing.T) {
	page := httptest.NewServer(http.FileServer(http.Dir("../../examples/browser")))
	defer page.Close()
	ctx := browser(t)
	with, without := startBreakable(t, "--origin", page.URL), startBreakable(t, "--origin", page.URL, "--auth", "none")
	token, err := os.ReadFile(filepath.Join(with.data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	for over, b := range map[string]*breakable{"fetch": with, "websocket": with, "eventsource": without} {
		fields := map[string]string{"server": "http://" + b.http.Addr(), "over": over, "message": b.message(over)}
		if b == with {
			fields["token"] = strings.TrimSpace(string(token))
		}
		filled, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		if err := chromedp.Do(ctx, chromedp.Navigate(page.URL)); err != nil {
			t.Fatal(err)
		}
		shows(ctx, t, fmt.Sprintf(`
			for (const [id, value] of Object.entries(%s)) document.getElementById(id).value = value;
			form.requestSubmit()`, filled), `output.textContent === "one\n"`)
		b.http.Cut()
		b.release(t, over)
		shows(ctx, t, "", `state.textContent.startsWith("OUTCOME_")`)
		got, err := chromedp.Run(ctx, chromedp.Evaluate[string](`output.textContent + state.textContent`))
		if err != nil || got != "one\ntwo\nOUTCOME_COMPLETED" {
			t.Errorf("over %s: %v, %q", over, err, got)
		}
	}
}

// A page that the server refuses says so.
func TestExampleBrowserIsRefused(t *testing.T) {
	page := httptest.NewServer(http.FileServer(http.Dir("../../examples/browser")))
	defer page.Close()
	ctx := browser(t)
	s := start(t, t.TempDir())
	if err := chromedp.Do(ctx, chromedp.Navigate(page.URL)); err != nil {
		t.Fatal(err)
	}
	shows(ctx, t, fmt.Sprintf(`document.getElementById("server").value = %q; form.requestSubmit()`, s.here.HTTP),
		fmt.Sprintf(`state.textContent.endsWith("or this page is refused: control --origin %s")`, page.URL))
}

// shows runs a script of a page and waits until a condition holds there.
func shows(ctx context.Context, t *testing.T, script, condition string) {
	t.Helper()
	wait := `(async () => {
		const output = document.getElementById("output"), state = document.getElementById("state");
		const form = document.getElementById("form");
		%s;
		for (let left = 500; left > 0 && !(%s); left--) await new Promise(done => setTimeout(done, 20));
		return %[2]s ? "" : output.textContent + " / " + state.textContent;
	})()`
	got, err := chromedp.Run(ctx, chromedp.Evaluate[string](fmt.Sprintf(wait, script, condition),
		chromedp.EvalAwaitPromise))
	if err != nil || got != "" {
		t.Fatalf("%s: %v, the page shows %q", condition, err, got)
	}
}
