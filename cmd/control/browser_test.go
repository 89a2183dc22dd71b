package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/pawl-dev/pawl/internal/debian"
)

// browser runs Chromium until the test ends.
func browser(t *testing.T) context.Context {
	t.Helper()
	program, err := debian.Find(t.Context(), "chromium", "chromium", "chromium-browser", "google-chrome")
	if err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program),
		chromedp.UserDataDir(t.TempDir()))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits until the browser has ended
		cancel()
	})
	return ctx
}

// calls is what a page does with the API: a prompt, a stream of one, its session's events from a cursor, and a wrong
// token.
const calls = `(async () => {
	const api = %API%, out = {};
	const headers = {"Authorization": "Bearer " + %TOKEN%, "Content-Type": "application/json", "Idempotency-Key": "from the page"};
	const body = JSON.stringify({message: "say: hello"});
	const prompt = async more => {
		const r = await fetch(api + "/agents/shell/page", {method: "POST", headers: {...headers, ...more}, body});
		return [r, await r.text()];
	};
	try {
		let [r, text] = await prompt({});
		out.answer = JSON.parse(text).result.text;
		out.session = r.headers.get("Pawl-Session");
		out.submission = r.headers.get("Pawl-Submission");
		const path = r.headers.get("Link").match(/<(.*)>/)[1];
		[r, text] = await prompt({"Accept": "text/event-stream"});
		out.stream = text.includes("event: idle");
		const watch = await fetch(api + path, {headers: {...headers, "Accept": "text/event-stream", "Last-Event-ID": "0"}});
		const reader = watch.body.pipeThrough(new TextDecoderStream()).getReader();
		for (let seen = ""; !seen.includes("event: settled");) seen += (await reader.read()).value;
		out.events = true;
		await reader.cancel();
		[r, text] = await prompt({"Authorization": "Bearer nobody"});
		out.refused = r.status + " " + JSON.parse(text).error.type;
	} catch (e) {
		out.failed = String(e);
	}
	return out;
})()`

// outcome is what came of the calls of a page.
type outcome struct {
	Answer     string `json:"answer"`
	Session    string `json:"session"`
	Submission string `json:"submission"`
	Refused    string `json:"refused"`
	Failed     string `json:"failed"`
	Stream     bool   `json:"stream"`
	Events     bool   `json:"events"`
}

// A page of an origin that --origin allows can do all that the API offers to a client; one of another origin cannot
// call at all.
func TestPagesOfOrigins(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<title>a page</title>"))
	})
	allowed, foreign := httptest.NewServer(page), httptest.NewServer(page)
	defer allowed.Close()
	defer foreign.Close()
	s := start(t, t.TempDir(), "--origin", allowed.URL)
	token, err := os.ReadFile(filepath.Join(s.data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	quoted := func(text string) string {
		b, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	script := strings.NewReplacer("%API%", quoted(s.here.HTTP), "%TOKEN%",
		quoted(strings.TrimSpace(string(token)))).Replace(calls)
	ctx := browser(t)
	visit := func(url string) outcome {
		if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
			t.Fatal(err)
		}
		out, err := chromedp.Run(ctx, chromedp.Evaluate[outcome](script, chromedp.EvalAwaitPromise))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := visit(allowed.URL); got.Failed != "" || got.Answer != "hello" || got.Session == "" ||
		got.Submission == "" || !got.Stream ||
		!got.Events || got.Refused != "401 unauthenticated" {
		t.Errorf("the allowed page: %+v", got)
	}
	if got := visit(foreign.URL); !strings.Contains(got.Failed, "Failed to fetch") || got.Answer != "" {
		t.Errorf("the foreign page: %+v", got)
	}
}
