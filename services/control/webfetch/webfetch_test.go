package webfetch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/egress"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// web is the tool before a server that all public names lead to.
type web struct {
	t     *testing.T
	tool  *tool.Tool
	from  fetcher
	asked []string
}

func newWeb(t *testing.T, h http.HandlerFunc, hosts ...string) *web {
	t.Helper()
	w := &web{t: t}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.asked = append(w.asked, r.Host+r.URL.Path)
		h(rw, r)
	}))
	t.Cleanup(server.Close)
	allowed, err := egress.ParseHosts(hosts)
	if err != nil {
		t.Fatal(err)
	}
	client := egress.Client{
		Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
			if strings.HasPrefix(host, "private.") {
				return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
			}
			return []netip.Addr{netip.MustParseAddr("8.8.8.8")}, nil
		},
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
		},
	}
	w.tool, w.from = New(allowed, client), newFetcher(allowed, client)
	return w
}

func (w *web) fetch(args map[string]any) tool.Result {
	w.t.Helper()
	return fetch(w.t, w.tool, args)
}

func fetch(t *testing.T, fetcher *tool.Tool, args map[string]any) tool.Result {
	t.Helper()
	body, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	set, err := tool.NewSet(fetcher)
	if err != nil {
		t.Fatal(err)
	}
	asked := set.Read(model.Message{Content: []model.Block{{
		Type: model.ToolCallBlock, CallID: "1", Tool: Name, Args: body,
	}}})[0]
	if asked.Refused != nil {
		return asked.Result(nil)
	}
	reply, err := asked.Call.Run(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stored, err := tool.Encode(reply)
	if err != nil {
		t.Fatal(err)
	}
	read, err := set.Decode(Name, stored)
	if err != nil {
		t.Fatal(err)
	}
	return asked.Result(read)
}

func page(contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write([]byte(body))
	}
}

func TestAPageIsShownAsText(t *testing.T) {
	w := newWeb(t, page("text/html; charset=iso-8859-1", "<!doctype html><html><head><title>The \xe4 page</title>"+
		"<style>p{}</style><script>alert(1)</script></head><body><h1>Head</h1>"+
		"<p>One   <b>two</b>\n three &amp; four.</p>"+
		"<ul><li>a<li><a href='/x?y=1'>b</a></ul><pre>x\n  y</pre><div hidden>secret<div>inner</div>still</div>"+
		"<p style='display: none'>unseen</p><table><tr><th>k<th>v<tr><td>1<td>2</table>"+
		"<a href='javascript:alert(1)'>js</a> <a href='#top'>top</a><img alt='a cat' src=c.png>"+
		"<svg><text>vector</text></svg>Za\xdf<a href=/empty><img src=x></a></body></html>"), "docs.test")
	res := w.fetch(map[string]any{"url": "https://docs.test/a"})
	if !res.IsError {
		t.Fatal("TLS to a server without it works")
	}
	res = w.fetch(map[string]any{"url": "http://docs.test/a"})
	want := "http://docs.test/a\nThe ä page\n\n# Head\n\nOne two three & four.\n\n- a\n" +
		"- [b](http://docs.test/x?y=1)\n\n```\nx\n  y\n```\n\nk | v\n1 | 2\n\njs top[image: a cat]Zaß"
	if res.IsError || res.Text != want {
		t.Errorf("got %q\nwant %q", res.Text, want)
	}
}

func TestOtherTextIsShownAsItIs(t *testing.T) {
	for contentType, body := range map[string]string{
		"application/json":                  `{"a": "<b>"}`,
		"text/markdown; charset=utf-8":      "# ä",
		"application/vnd.api+json":          `[]`,
		"text/plain":                        "<p>plain</p>",
		"application/octet-stream":          "just text",
		"application/xml; charset=us-ascii": "<x/>",
	} {
		w := newWeb(t, page(contentType, body), "docs.test")
		if res := w.fetch(map[string]any{"url": "http://docs.test/a"}); res.IsError ||
			res.Text != "http://docs.test/a\n\n"+body {
			t.Errorf("%s: %q", contentType, res.Text)
		}
	}
}

func TestALongPageIsReadInWindows(t *testing.T) {
	var body strings.Builder
	for i := range 8_000 {
		fmt.Fprintf(&body, "line %d ü\n", i)
	}
	w := newWeb(t, page("text/plain; charset=utf-8", body.String()), "docs.test")
	var read strings.Builder
	offset := 0
	for range 100 {
		res := w.fetch(map[string]any{"url": "http://docs.test/long", "offset": offset})
		if res.IsError || len(res.Text) > tool.MaxText+500 {
			t.Fatalf("%d bytes: %.200q", len(res.Text), res.Text)
		}
		_, text, _ := strings.Cut(res.Text, "\n\n")
		text, notice, more := strings.Cut(text, "\n\n[Showing bytes ")
		read.WriteString(text)
		if !more {
			break
		}
		if _, err := fmt.Sscanf(notice[strings.Index(notice, "offset="):], "offset=%d", &offset); err != nil {
			t.Fatal(err)
		}
	}
	if want := strings.TrimSpace(body.String()); read.String() != want {
		t.Errorf("read %d bytes instead of %d", read.Len(), len(want))
	}
	if res := w.fetch(map[string]any{"url": "http://docs.test/long", "offset": 10_000_000}); !res.IsError ||
		!strings.Contains(res.Text, "beyond the end") {
		t.Error(res.Text)
	}
}

func TestAHostThatIsNotAllowed(t *testing.T) {
	w := newWeb(t, page("text/plain", "secret"), "docs.test", "private.test")
	for target, want := range map[string]string{
		"http://evil.test/": "evil.test is not on the allowlist of hosts. The allowlist has docs.test, " +
			"private.test.",
		"http://private.test/":         "10.0.0.1, which is not a public address",
		"http://127.0.0.1/":            "not on the allowlist",
		"file:///etc/passwd":           "not an absolute http or https URL",
		"ftp://docs.test/":             "only http and https",
		"http://u:password@docs.test/": "user or a password",
	} {
		res := w.fetch(map[string]any{"url": target})
		if !res.IsError || !strings.Contains(res.Text, want) || strings.Contains(res.Text, "password@") {
			t.Errorf("%s: %q", target, res.Text)
		}
	}
	if len(w.asked) > 0 {
		t.Errorf("asked for %v", w.asked)
	}
	none := newWeb(t, page("text/plain", "secret"))
	if res := none.fetch(map[string]any{"url": "http://docs.test/"}); !res.IsError ||
		!strings.Contains(res.Text, "The allowlist is empty") {
		t.Error(res.Text)
	}
	if !strings.Contains(none.tool.Description, "The allowlist is empty") ||
		!strings.Contains(w.tool.Description, "docs.test, private.test") {
		t.Error("the model is not told what it can ask for")
	}
}

func TestRedirectsStayWithinTheAllowlist(t *testing.T) {
	w := newWeb(t, func(rw http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(rw, r, to, http.StatusFound)
			return
		}
		_, _ = fmt.Fprint(rw, "there")
	}, "a.test", "b.test")
	for to, want := range map[string]string{
		"http://b.test/x":    "http://b.test/x\n\nthere",
		"http://evil.test/x": "evil.test is not on the allowlist",
		"http://127.0.0.1/x": "127.0.0.1 is not on the allowlist",
	} {
		res := w.fetch(map[string]any{"url": "http://a.test/?to=" + url.QueryEscape(to)})
		if !strings.Contains(res.Text, want) {
			t.Errorf("%s: %q", to, res.Text)
		}
	}
}

func TestWhatAServerAnswersBadly(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"an error": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no such page", http.StatusNotFound)
		}, "answered with status 404 Not Found\n\nno such page"},
		"a file":  {page("application/zip", "PK\x03\x04\x00\x00"), "type application/zip, which is not text"},
		"no type": {page("", "\x00\x01\x02"), "which is not text"},
		"an encoding": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "br")
		}, `"br"`},
		"a hang-up": {
			func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			"docs.test could not be fetched: EOF",
		},
	} {
		w := newWeb(t, c.answer, "docs.test")
		res := w.fetch(map[string]any{"url": "http://docs.test/a"})
		if !res.IsError || !strings.Contains(res.Text, c.want) {
			t.Errorf("%s: %q", name, res.Text)
		}
	}
	large := newWeb(t, page("text/plain", strings.Repeat("x\n", maxPage)), "docs.test")
	res := large.fetch(map[string]any{"url": "http://docs.test/a", "offset": maxPage - 100})
	if res.IsError || !strings.Contains(res.Text, "the rest of it was not read") {
		t.Errorf("a page that is too long: %.300q", res.Text)
	}
}

func TestAnImageIsShown(t *testing.T) {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewRGBA(image.Rect(0, 0, 2, 2))); err != nil {
		t.Fatal(err)
	}
	w := newWeb(t, page("text/html", b.String()), "docs.test") // by content, whatever the server says
	if res := w.fetch(map[string]any{"url": "http://docs.test/a.png"}); len(res.Images) != 1 ||
		res.Images[0].MediaType != "image/png" {
		t.Errorf("got %+v", res)
	}
}

// A server that never ends its answer costs the time of one request.
func TestAServerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts, err := egress.ParseHosts([]string{"docs.test"})
		if err != nil {
			t.Fatal(err)
		}
		fetcher := New(hosts, egress.Client{
			Resolve: func(context.Context, string) ([]netip.Addr, error) {
				return []netip.Addr{netip.MustParseAddr("8.8.8.8")}, nil
			},
			Dial: func(context.Context, string, string) (net.Conn, error) {
				here, there := net.Pipe()
				go func() { // takes all, says nothing
					var b [1024]byte
					for {
						if _, err := there.Read(b[:]); err != nil {
							return
						}
					}
				}()
				return here, nil
			},
		})
		begun := time.Now()
		res := fetch(t, fetcher, map[string]any{"url": "http://docs.test/"})
		if !res.IsError || !strings.Contains(res.Text, "did not answer within 30s") || time.Since(begun) != timeout {
			t.Errorf("after %s: %q", time.Since(begun), res.Text)
		}
	})
}

func FuzzReadable(f *testing.F) {
	f.Add("<p>a<b>b</p><a href=x>c</a><pre>d")
	base := &url.URL{Scheme: "http", Host: "x.test"}
	f.Fuzz(func(t *testing.T, page string) {
		if _, text, _ := readable(page, base); len(text) > 100*len(page)+1000 {
			t.Errorf("%d bytes of %d", len(text), len(page))
		}
	})
}

// What a page nests costs no more than its length.
// Many large pages at once would fill the memory of the control plane. Small ones do not wait for them.
func TestLargePagesAreReadAFewAtATime(t *testing.T) {
	w := newWeb(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/plain")
		size := map[string]int{"/small": 1000, "/large": 3 * small}[r.URL.Path]
		_, _ = rw.Write(bytes.Repeat([]byte("x"), size))
	}, "a.test")
	get := func(path string) int {
		p, err := w.from.get(t.Context(), &url.URL{Scheme: "http", Host: "a.test", Path: path})
		if err != nil {
			t.Error(err)
		}
		return p.Total
	}
	for range maxLarge {
		if _, err := w.from.room(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.from.room(over); !errors.Is(err, errBusy) {
		t.Errorf("one more: %v", err)
	}
	if n := get("/small"); n != 1000 {
		t.Errorf("a small one has %d bytes", n)
	}
	large := make(chan int)
	go func() { large <- get("/large") }()
	select {
	case <-large:
		t.Error("a large one did not wait")
	case <-time.After(100 * time.Millisecond):
	}
	<-w.from.large
	if n := <-large; n != 3*small || len(w.from.large) != maxLarge-1 {
		t.Errorf("it has %d bytes, and %d are read", n, len(w.from.large))
	}
}

func TestDeeplyNestedPages(t *testing.T) {
	begun := time.Now()
	_, text, _ := readable(strings.Repeat("<div><a href=x>", 50_000)+"end", &url.URL{Scheme: "http", Host: "x.test"})
	if took := time.Since(begun); !strings.Contains(text, "end") || took > 10*time.Second {
		t.Errorf("%s, %d bytes", took, len(text))
	}
}

// A page can make a long text of a short one, where a base stands before each of its links.
func TestAPageThatGrows(t *testing.T) {
	for what, page := range map[string]string{
		"a long base": `<base href="/` + strings.Repeat("x", 100_000) + `/">` + strings.Repeat("<a href=y>z</a>", 300),
		"many links":  `<base href="/` + strings.Repeat("x", 1000) + `/">` + strings.Repeat("<a href=y>z</a>", 20_000),
	} {
		base := &url.URL{Scheme: "http", Host: "a.test"}
		_, text, short := readable(page, base)
		if len(text) > maxPage+maxURL || short != (what == "many links") {
			t.Errorf("%s: %d bytes are made of %d, cut %v", what, len(text), len(page), short)
		}
	}
}
