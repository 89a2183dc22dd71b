package hub_test

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
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/egress"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/mcp"
	"github.com/pawl-dev/pawl/services/control/mcp/hub"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
)

var empty = json.RawMessage(`{"type": "object"}`)

// rig is a hub and an HTTP server that every public name leads to.
type rig struct {
	*testing.T
	hub    *hub.Hub
	server *sdk.Server
	http   *httptest.Server

	lookup func(name string) (string, bool)
	log    *bytes.Buffer
	broken atomic.Bool // no session can be made

	mu      sync.Mutex
	instead http.HandlerFunc // of the MCP server, for requests of calls
	seen    []string         // methods of the protocol, in order
	auth    []string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{
		T: t, server: sdk.NewServer(&sdk.Implementation{Name: "test", Version: "1"}, nil), log: &bytes.Buffer{},
		lookup: func(name string) (string, bool) { return "secret-value", name == "SECRET" },
	}
	handler := sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return r.server },
		&sdk.StreamableHTTPOptions{DisableLocalhostProtection: true})
	r.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body := readBody(t, req)
		var m struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
		}
		_ = json.Unmarshal(body, &m)
		r.mu.Lock()
		r.seen = append(r.seen, m.Method)
		r.auth = append(r.auth, req.Header.Get("Authorization"))
		instead := r.instead
		r.mu.Unlock()
		if r.broken.Load() {
			w.Header().Set("Content-Type", "application/json")
			message, _ := json.Marshal("who is " + strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "))
			_, _ = fmt.Fprintf(w, `{"jsonrpc": "2.0", "id": %s, "error": {"code": 1, "message": %s}}`, m.ID, message)
			return
		}
		if instead != nil && (m.Method == "tools/call" || m.Method == "") {
			instead(w, req)
			return
		}
		handler.ServeHTTP(w, req)
	}))
	t.Cleanup(r.http.CloseClientConnections)
	r.hub = hub.New(hub.Deps{
		Lookup: func(name string) (string, bool) { return r.lookup(name) }, Version: "test",
		Log: slog.New(slog.NewTextHandler(r.log, nil)),
		Client: egress.Client{
			Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
				if host == "rebound.test" {
					return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
				}
				return []netip.Addr{netip.MustParseAddr("8.8.8.8")}, nil
			},
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				if strings.HasSuffix(address, ":81") {
					return nil, errors.New("connection refused")
				}
				return (&net.Dialer{}).DialContext(ctx, network, r.http.Listener.Addr().String())
			},
		},
	})
	ctx, end := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- r.hub.Run(ctx) }()
	t.Cleanup(func() {
		end()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		r.http.Close()
	})
	return r
}

func readBody(t *testing.T, req *http.Request) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := b.ReadFrom(req.Body); err != nil {
		return nil
	}
	req.Body = http.NoBody
	if b.Len() > 0 {
		req.Body = &body{bytes.NewReader(b.Bytes())}
	}
	return b.Bytes()
}

type body struct{ *bytes.Reader }

func (*body) Close() error { return nil }

// answer sets what is answered to calls instead of the server; nil is the server.
func (r *rig) answer(h http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.instead = h
}

// count is how often a method was asked for.
func (r *rig) count(method string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, m := range r.seen {
		if m == method {
			n++
		}
	}
	return n
}

// add adds a tool to the server that answers with what f returns.
func (r *rig) add(name string, f func(ctx context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error)) {
	r.server.AddTool(&sdk.Tool{Name: name, InputSchema: empty, Description: "Does " + name + "."}, f)
}

func says(text string) func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
	return func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: text}}}, nil
	}
}

// definition is a server in a file.
func (r *rig) definition(file string) mcp.Definition {
	r.Helper()
	d, err := mcp.Parse("srv", "mcp/srv.yaml", []byte(file), nil)
	if err != nil {
		r.Fatal(err)
	}
	return d
}

// offer is what an agent that names all tools of the servers is offered, and what is missing.
func (r *rig) offer(tenant string, all ...mcp.Definition) (tool.Set, []string) {
	r.Helper()
	return offer(r.T, r.hub, tenant, all...)
}

func offer(t *testing.T, h loop.Source, tenant string, all ...mcp.Definition) (tool.Set, []string) {
	t.Helper()
	def := agent.Definition{Name: "a", MCP: map[string]mcp.Definition{}}
	for _, d := range all {
		def.Tools = append(def.Tools, mcp.Entry(d.Name))
		def.MCP[d.Name] = d
	}
	set, missing, err := loop.Gather(t.Context(), h, loop.Offer{
		Definition: def, Loop: lane.Loop{Key: session.Key{Tenant: tenant}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return set, missing
}

// call calls a tool of a set.
func call(t *testing.T, set tool.Set, name, args string) tool.Result {
	t.Helper()
	return callIn(t, t.Context(), set, name, args)
}

func callIn(t *testing.T, ctx context.Context, set tool.Set, name, args string) tool.Result {
	t.Helper()
	asked := set.Read(model.Message{Content: []model.Block{{
		Type: model.ToolCallBlock, CallID: "1", Tool: name, Args: json.RawMessage(args),
	}}})[0]
	if asked.Refused != nil {
		return asked.Result(nil)
	}
	reply, err := asked.Call.Run(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stored, err := tool.Encode(tool.Clean(reply, []string{"secret-value"}))
	if err != nil {
		t.Fatal(err)
	}
	if reply, err = set.Decode(name, stored); err != nil {
		t.Fatal(err)
	}
	return asked.Result(reply)
}

// plain lets the rig speak HTTP without TLS: the networks say that the operator knows.
const plain = "url: http://tools.test/mcp\nnetworks: [10.0.0.0/8]\n"

func TestToolsOfAServer(t *testing.T) {
	r := newRig(t)
	var icon bytes.Buffer
	if err := png.Encode(&icon, image.NewRGBA(image.Rect(0, 0, 2, 2))); err != nil {
		t.Fatal(err)
	}
	r.add("echo", func(_ context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: string(req.Params.Arguments)}}}, nil
	})
	r.add("draw", func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		return &sdk.CallToolResult{Content: []sdk.Content{
			&sdk.TextContent{Text: "a picture"}, &sdk.ImageContent{MIMEType: "image/png", Data: icon.Bytes()},
			&sdk.AudioContent{MIMEType: "audio/wav", Data: []byte("abc")},
			&sdk.EmbeddedResource{Resource: &sdk.ResourceContents{URI: "file:///a", Text: "embedded"}},
			&sdk.ResourceLink{URI: "file:///b", Name: "b"},
		}}, nil
	})
	r.add("fail", func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		return &sdk.CallToolResult{IsError: true, Content: []sdk.Content{&sdk.TextContent{Text: "no such issue"}}}, nil
	})
	r.add("leak", says("it is secret-value"))
	r.server.AddResource(&sdk.Resource{URI: "file:///r", Name: "r", Description: "A text."},
		func(context.Context, *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
			return &sdk.ReadResourceResult{Contents: []*sdk.ResourceContents{{URI: "file:///r", Text: "of r"}}}, nil
		})
	r.server.AddPrompt(&sdk.Prompt{
		Name: "greet", Description: "Greets.", Arguments: []*sdk.PromptArgument{{Name: "who", Required: true}},
	}, func(_ context.Context, req *sdk.GetPromptRequest) (*sdk.GetPromptResult, error) {
		return &sdk.GetPromptResult{Messages: []*sdk.PromptMessage{{
			Role: "user", Content: &sdk.TextContent{Text: "Hello " + req.Params.Arguments["who"]},
		}}}, nil
	})
	set, missing := r.offer("t", r.definition(plain+"safety: {echo: pure}\n"))
	want := []string{
		"mcp__srv__draw", "mcp__srv__echo", "mcp__srv__fail", "mcp__srv__get_prompt", "mcp__srv__leak",
		"mcp__srv__read_resource",
	}
	if !slices.Equal(set.Names(), want) || len(missing) > 0 {
		t.Fatalf("offered %v, missing %v", set.Names(), missing)
	}
	echo, err := set.Find("mcp__srv__echo")
	if err != nil || echo.Safety != tool.Pure || echo.Kind() != tool.KindControl ||
		!strings.HasPrefix(echo.Description, "Does echo.") {
		t.Errorf("echo is %+v, %v", echo, err)
	}
	for _, c := range []struct {
		name, args, want string
		isError          bool
		images           int
	}{
		{"echo", `{"a": 1}`, `{"a":1}`, false, 0},
		{"draw", `{}`, "a picture\n[audio of type audio/wav with 3 bytes, which is not shown]\n[resource file:///a]\n" +
			"embedded\n[resource file:///b: b]", false, 1},
		{"fail", `{}`, "no such issue", true, 0},
		{"leak", `{}`, "it is " + tool.Redacted, false, 0},
		{"read_resource", `{}`, "file:///r - r - A text.", false, 0},
		{"read_resource", `{"uri": "file:///r"}`, "[resource file:///r]\nof r", false, 0},
		{"get_prompt", `{}`, "greet(who) - Greets.", false, 0},
		{"get_prompt", `{"name": "greet", "arguments": {"who": "you"}}`, "user:\nHello you", false, 0},
	} {
		res := call(t, set, "mcp__srv__"+c.name, c.args)
		if res.Text != c.want || res.IsError != c.isError || len(res.Images) != c.images {
			t.Errorf("%s %s: %q, error %v, %d images", c.name, c.args, res.Text, res.IsError, len(res.Images))
		}
	}
}

// What a server says wrong of its tools costs these tools.
func TestAServerThatLiesAboutItsSchemas(t *testing.T) {
	r := newRig(t)
	output := json.RawMessage(`{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}`)
	add := func(name string, in, out any, structured any) {
		r.server.AddTool(&sdk.Tool{Name: name, InputSchema: in, OutputSchema: out},
			func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
				return &sdk.CallToolResult{
					StructuredContent: structured, Content: []sdk.Content{&sdk.TextContent{Text: "text"}},
				}, nil
			})
	}
	add("good", empty, output, map[string]any{"n": 1})
	add("wrong", empty, output, map[string]any{"n": "one"})
	add("none", empty, output, nil)
	add("remote", json.RawMessage(`{"type": "object", "$ref": "https://evil.test/schema"}`), nil, nil)
	add("broken", json.RawMessage(`{"type": "object", "properties": {"a": {"type": "strin"}}}`), nil, nil)
	add("promise", empty, json.RawMessage(`{"type": "object", "required": 1}`), nil)
	add("same.name", empty, nil, nil)
	add("same_name", empty, nil, nil)
	set, missing := r.offer("t", r.definition(plain+"tools: [good, wrong, none, remote, broken, promise, same.name, "+
		"same_name, gone]\n"))
	want := []string{"mcp__srv__good", "mcp__srv__none", "mcp__srv__same_name", "mcp__srv__wrong"}
	if !slices.Equal(set.Names(), want) {
		t.Errorf("offered %v", set.Names())
	}
	said := strings.Join(missing, "\n")
	for _, want := range []string{
		"MCP server srv: the tool remote is left out: its inputSchema is invalid",
		"the tool broken is left out", "the tool promise is left out: its outputSchema is invalid",
		"the tool same_name is left out: its name is mcp__srv__same_name, as that of same.name is",
		"the tool gone is left out: the server does not list it",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not told: %s", want, said)
		}
	}
	for name, want := range map[string]string{
		"good": "text\n{\"n\":1}", "wrong": "outputSchema promises: n: must be an integer, got string",
		"none": "outputSchema promises: there is no structured content",
	} {
		res := call(t, set, "mcp__srv__"+name, `{}`)
		if !strings.Contains(res.Text, want) || res.IsError != (name != "good") {
			t.Errorf("%s: %q, error %v", name, res.Text, res.IsError)
		}
	}
}

// A server with a lot to say of its tools does not fill the model's window.
func TestAServerWithALotOfTools(t *testing.T) {
	r := newRig(t)
	for i := range 100 {
		r.server.AddTool(&sdk.Tool{
			Name: fmt.Sprintf("t%03d", i), InputSchema: empty, Description: strings.Repeat("d", 10_000),
		}, says(""))
	}
	set, missing := r.offer("t", r.definition(plain))
	size := 0
	for _, one := range set.Told() {
		size += len(one.Description) + len(one.Schema)
	}
	if n := len(set.Names()); n < 50 || n > 70 || size > tool.MaxOfferedSize+100*n ||
		!strings.Contains(strings.Join(missing, "\n"), "name the tools that the agent needs") {
		t.Errorf("%d tools of %d bytes, missing %q", n, size, missing)
	}
}

func TestASessionIsSharedByTheLoopsOfATenant(t *testing.T) {
	r := newRig(t)
	r.add("echo", says("hello"))
	d := r.definition(plain)
	for range 3 {
		set, _ := r.offer("t", d)
		call(t, set, "mcp__srv__echo", `{}`)
	}
	if n := r.count("server/discover"); n != 1 {
		t.Errorf("%d sessions of one tenant", n)
	}
	if n := r.count("tools/list"); n != 1 {
		t.Errorf("listed %d times", n)
	}
	r.offer("other", d)
	if n := r.count("server/discover"); n != 2 {
		t.Errorf("%d sessions of two tenants", n)
	}
}

func TestAListThatChangesBetweenTurns(t *testing.T) {
	r := newRig(t)
	r.add("one", says("1"))
	d := r.definition(plain)
	set, _ := r.offer("t", d)
	of := loop.Offer{
		Definition: agent.Definition{MCP: map[string]mcp.Definition{"srv": d}},
		Loop:       lane.Loop{Key: session.Key{Tenant: "t"}},
	}
	before := version(t, r.hub, of)
	if again, _ := r.offer("t", d); version(t, r.hub, of) != before || !model.SameTools(again.Told(), set.Told()) {
		t.Error("without a change the version is another one")
	}
	r.add("two", says("2"))
	for version(t, r.hub, of) == before { // the library tells in a moment
		call(t, set, "mcp__srv__one", `{}`)
	}
	after, _ := r.offer("t", d)
	if want := []string{"mcp__srv__one", "mcp__srv__two"}; !slices.Equal(after.Names(), want) {
		t.Errorf("offered %v", after.Names())
	}
}

// A server that is down costs its tools, and only once the time to find that out.
func TestAServerThatIsDown(t *testing.T) {
	r := newRig(t)
	r.add("echo", says("hello"))
	up := r.definition(plain)
	down := r.definition("url: http://tools.test:81/mcp\nnetworks: [10.0.0.0/8]\n")
	down.Name = "down"
	for _, when := range []string{"; its", " (it is asked again from "} {
		set, missing := r.offer("t", up, down)
		if !slices.Equal(set.Names(), []string{"mcp__srv__echo"}) || len(missing) != 1 ||
			!strings.Contains(missing[0], "MCP server down cannot be used") ||
			!strings.Contains(missing[0], when) || !strings.Contains(missing[0], "its tools are left out") {
			t.Errorf("offered %v, missing %q", set.Names(), missing)
		}
	}
	for name, file := range map[string]string{
		"an address that is not public": "url: https://rebound.test/mcp\n",
		"a variable that is gone":       "url: https://tools.test/mcp\nauth: {bearer: \"${NOPE}\"}\n",
	} {
		set, missing := r.offer("t", r.definition(file))
		if len(set.Names()) > 0 || len(missing) != 1 || strings.Contains(missing[0], "secret") {
			t.Errorf("%s: offered %v, missing %q", name, set.Names(), missing)
		}
	}
}

// Of a call whose answer is lost nobody knows whether the server has acted. It is made again only if the operator has
// said that it may be.
func TestACallWhoseAnswerIsLost(t *testing.T) {
	for safety, want := range map[string]struct {
		calls int
		text  string
	}{
		"at_most_once": {1, "The outcome of this call is unknown: it was interrupted or its result was lost."},
		"idempotent":   {3, "The outcome of this call is unknown: its result was lost. Making it again is safe."},
		"pure":         {3, "The result of this call was lost."},
	} {
		r := newRig(t)
		r.add("act", says("done"))
		set, _ := r.offer("t", r.definition(plain+"safety: {act: "+safety+"}\n"))
		r.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		res := call(t, set, "mcp__srv__act", `{}`)
		if n := r.count("tools/call"); n != want.calls || !res.IsError || !strings.Contains(res.Text, want.text) {
			t.Errorf("%s: %d calls, %q", safety, n, res.Text)
		}
		r.answer(nil)
		if res := call(t, set, "mcp__srv__act", `{}`); res.Text != "done" {
			t.Errorf("%s: the next call: %q", safety, res.Text)
		}
	}
}

// A session that the server has forgotten is made again: the server has refused the call, and not acted.
func TestASessionThatTheServerHasForgotten(t *testing.T) {
	r := newRig(t)
	r.add("act", says("done"))
	set, _ := r.offer("t", r.definition(plain))
	var refused atomic.Bool
	r.answer(func(w http.ResponseWriter, _ *http.Request) {
		refused.Store(true)
		r.answer(nil)
		http.Error(w, "no such session", http.StatusNotFound)
	})
	if res := call(t, set, "mcp__srv__act", `{}`); res.Text != "done" || !refused.Load() {
		t.Errorf("%q", res.Text)
	}
}

func TestAServerThatDiesAndLives(t *testing.T) {
	r := newRig(t)
	r.add("act", says("done"))
	set, _ := r.offer("t", r.definition(plain+"safety: {act: idempotent}\n"))
	r.http.CloseClientConnections()
	if res := call(t, set, "mcp__srv__act", `{}`); res.Text != "done" {
		t.Errorf("%q", res.Text)
	}
}

// A call that takes too long is not waited for, and the server is told.
func TestAServerThatHangs(t *testing.T) {
	r := newRig(t)
	stopped := make(chan struct{})
	r.add("wait", func(ctx context.Context, _ *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		<-ctx.Done()
		close(stopped)
		return nil, ctx.Err()
	})
	set, _ := r.offer("t", r.definition(plain+"timeout: 50ms\n"))
	res := call(t, set, "mcp__srv__wait", `{}`)
	if !res.IsError || !strings.Contains(res.Text, "did not answer within 50ms, and was told to stop") ||
		!strings.Contains(res.Text, "The outcome of this call is unknown") {
		t.Errorf("%q", res.Text)
	}
	<-stopped
}

func TestProgressIsReported(t *testing.T) {
	r := newRig(t)
	said := make(chan tool.Progress)
	r.add("work", func(ctx context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		err := req.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{
			ProgressToken: req.Params.GetProgressToken(), Progress: 1, Total: 2, Message: "half",
		})
		if got := <-said; got != (tool.Progress{Progress: 1, Total: 2, Message: "half"}) {
			t.Errorf("%+v", got)
		}
		return &sdk.CallToolResult{Content: []sdk.Content{}}, err
	})
	set, _ := r.offer("t", r.definition(plain))
	ctx := tool.WithProgress(t.Context(), func(p tool.Progress) { said <- p })
	if res := callIn(t, ctx, set, "mcp__srv__work", `{}`); res.Text != "(no content)" {
		t.Errorf("%q", res.Text)
	}
}

// The protocol's errors reach the model; a redirect to another host is none of the server's business.
func TestRefusals(t *testing.T) {
	r := newRig(t)
	r.add("act", says("done"))
	set, _ := r.offer("t", r.definition(plain))
	for what, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"a redirect": {func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "http://evil.test/mcp", http.StatusTemporaryRedirect)
		}, "redirects to another host are not followed"},
		"forbidden": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "secret-value", http.StatusForbidden)
		}, "status 403 Forbidden"},
		"a method that there is not": {func(w http.ResponseWriter, req *http.Request) {
			var m struct{ ID json.RawMessage }
			_ = json.Unmarshal(readBody(t, req), &m)
			w.Header().Set("Content-Type", "application/json")
			const refusal = `{"jsonrpc": "2.0", "id": %s, "error": {"code": -32601, "message": "needs a task"}}`
			_, _ = fmt.Fprintf(w, refusal, m.ID)
		}, "needs a task; it may be a tool that needs tasks of the protocol, which are not supported"},
	} {
		r.answer(c.answer)
		res := call(t, set, "mcp__srv__act", `{}`)
		if !res.IsError || !strings.Contains(res.Text, c.want) || strings.Contains(res.Text, "secret") {
			t.Errorf("%s: %q", what, res.Text)
		}
		r.answer(nil)
		set, _ = r.offer("t", r.definition(plain))
	}
}

func TestHowAServerIsToldWhoAsks(t *testing.T) {
	r := newRig(t)
	r.add("act", says("done"))
	d := r.definition(plain + "auth: {bearer: \"${SECRET}\"}\n")
	set, missing := r.offer("t", d)
	if res := call(t, set, "mcp__srv__act", `{}`); res.Text != "done" {
		t.Errorf("%q, missing %v", res.Text, missing)
	}
	for _, auth := range r.auth {
		if auth != "Bearer secret-value" {
			t.Errorf("a request with %q", auth)
		}
	}
}

// A server that repeats what it was told in confidence, wherever it can, does not get it into conversations, events and
// logs.
func TestWhatAServerRepeatsIsRedacted(t *testing.T) {
	const token = `acc&ss"token-1`
	for what, auth := range map[string]string{
		"a token":  "{client_id: me, client_secret: \"${SECRET}\", token_url: \"http://tokens.test/\"}",
		"a bearer": "{bearer: \"${SECRET}\"}",
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			secret := `secret&"value`
			r.lookup = func(string) (string, bool) { return secret, true }
			inner := r.http.Config.Handler
			r.http.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.Host == "tokens.test" {
					w.Header().Set("Content-Type", "application/json")
					body, err := json.Marshal(map[string]any{"access_token": token, "expires_in": 3600})
					if err != nil {
						t.Error(err)
					}
					_, _ = w.Write(body)
					return
				}
				inner.ServeHTTP(w, req)
			})
			if what == "a token" {
				secret = token
			}
			came, progress := make(chan string), ""
			r.server.AddTool(&sdk.Tool{
				Name: "echo", Description: "For " + secret + " only.",
				InputSchema: map[string]any{"type": "object", "description": secret},
			}, func(ctx context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
				structured := map[string]any{"headers": []any{secret}}
				body, err := json.Marshal(structured)
				if err := req.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{
					ProgressToken: req.Params.GetProgressToken(), Progress: 1, Message: "as " + secret,
				}); err != nil {
					return nil, err
				}
				progress = <-came
				return &sdk.CallToolResult{StructuredContent: structured, Content: []sdk.Content{
					&sdk.TextContent{Text: "you are " + secret}, &sdk.TextContent{Text: string(body) + " "},
				}}, err
			})
			r.add("refuse", func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
				return nil, &jsonrpc.Error{Code: 7, Message: "not " + secret}
			})
			r.server.AddPrompt(&sdk.Prompt{Name: "p", Description: "of " + secret}, nil)
			d := r.definition(plain + "auth: " + auth + "\n")
			set, missing := r.offer("t", d)
			said := set.Told()
			all := fmt.Sprint(said[0].Description, string(said[0].Schema), missing)
			ctx := tool.WithProgress(t.Context(), func(p tool.Progress) { came <- p.Message })
			for _, name := range []string{"echo", "refuse", "get_prompt"} {
				asked := set.Read(model.Message{Content: []model.Block{{
					Type: model.ToolCallBlock, CallID: "1", Tool: "mcp__srv__" + name, Args: json.RawMessage(`{}`),
				}}})[0]
				reply, err := asked.Call.Run(ctx, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				all += fmt.Sprintf("%+v", reply) + asked.Result(reply).Text
			}
			r.broken.Store(true)
			r.hub.Forget()
			_, missing = r.offer("t", d)
			all += fmt.Sprint(missing) + progress + r.log.String()
			repeated := strings.Contains(all, "ss\"token") || strings.Contains(all, "&\"value")
			if repeated || strings.Contains(all, "u0026") ||
				strings.Count(all, tool.Redacted) < 12 || !strings.Contains(all, "cannot be used") {
				t.Errorf("%d places are redacted:\n%s", strings.Count(all, tool.Redacted), all)
			}
		})
	}
}

// A server that never stops to say that its list has changed costs a bounded number of lists.
func TestAFloodOfChanges(t *testing.T) {
	r := newRig(t)
	r.add("one", says("1"))
	d := r.definition(plain)
	set, _ := r.offer("t", d)
	of := loop.Offer{
		Definition: agent.Definition{MCP: map[string]mcp.Definition{"srv": d}},
		Loop:       lane.Loop{Key: session.Key{Tenant: "t"}},
	}
	for n := range 12 {
		before := r.hub.Generation("t", d)
		r.add(fmt.Sprint("more", n), says(""))
		for r.hub.Generation("t", d) == before { // the library tells in a moment
			call(t, set, "mcp__srv__one", `{}`)
		}
		set, _ = r.offer("t", d)
	}
	if n := r.count("tools/list"); n != 4 {
		t.Errorf("listed %d times", n)
	}
	// What was not asked for then is asked for later.
	offered := version(t, r.hub, of)
	r.hub.Rest("t", d)
	if version(t, r.hub, of) == offered {
		t.Error("the last change is lost")
	}
	if set, _ = r.offer("t", d); len(set.Names()) != 13 {
		t.Errorf("offered %v", set.Names())
	}
}

// The library keeps what a session has read. A session that has read a lot is replaced, between two calls.
func TestASessionThatIsWornIsReplaced(t *testing.T) {
	r := newRig(t)
	r.hub.Hold(3000)
	r.server.AddResourceTemplate(&sdk.ResourceTemplate{URITemplate: "mem:///{n}", Name: "m"},
		func(_ context.Context, req *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
			return &sdk.ReadResourceResult{Contents: []*sdk.ResourceContents{{
				URI: req.Params.URI, Text: strings.Repeat("x", 1000),
			}}}, nil
		})
	begun, end := make(chan struct{}), make(chan struct{})
	r.add("wait", func(context.Context, *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		close(begun)
		<-end
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: "done"}}}, nil
	})
	set, _ := r.offer("t", r.definition(plain))
	under := make(chan tool.Result)
	go func() { under <- call(t, set, "mcp__srv__wait", `{}`) }()
	<-begun
	for n := range 4 {
		if res := call(t, set, "mcp__srv__read_resource", fmt.Sprintf(`{"uri": "mem:///%d"}`, n)); res.IsError {
			t.Fatal(res.Text)
		}
	}
	if n := r.count("server/discover"); n != 2 {
		t.Errorf("%d sessions", n)
	}
	close(end)
	if res := <-under; res.Text != "done" {
		t.Errorf("a call under way came to %q", res.Text)
	}
}

// A token of client credentials is asked for once, and again when the server does not take it any more.
func TestClientCredentials(t *testing.T) {
	r := newRig(t)
	r.add("act", says("done"))
	var tokens atomic.Int32
	good := "token-1"
	issue := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		user, password, _ := req.BasicAuth()
		if user != "me" || password != "secret-value" {
			http.Error(w, "secret-value is wrong", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"access_token": "token-%d", "token_type": "bearer", "expires_in": 3600}`, tokens.Add(1))
	}))
	defer issue.Close()
	inner := r.http.Config.Handler
	r.http.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		want := "Bearer " + good
		r.mu.Unlock()
		if req.Header.Get("Authorization") != want {
			http.Error(w, "expired", http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, req)
	})
	auth := "auth: {client_id: me, client_secret: \"${%s}\", token_url: \"%s\"}\nnetworks: [127.0.0.1]\n"
	file := "url: http://tools.test/mcp\n" + fmt.Sprintf(auth, "SECRET", issue.URL)
	h := hub.New(hub.Deps{
		Lookup: func(string) (string, bool) { return "secret-value", true },
		Client: egress.Client{
			Resolve: func(context.Context, string) ([]netip.Addr, error) {
				return []netip.Addr{netip.MustParseAddr("8.8.8.8")}, nil
			},
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				if !strings.HasPrefix(address, "127.") {
					address = r.http.Listener.Addr().String()
				}
				return (&net.Dialer{}).DialContext(ctx, network, address)
			},
		},
	})
	d := r.definition(file)
	set, missing := offer(t, h, "t", d)
	if res := call(t, set, "mcp__srv__act", `{}`); res.Text != "done" || tokens.Load() != 1 {
		t.Fatalf("%q, %d tokens, missing %v", res.Text, tokens.Load(), missing)
	}
	r.mu.Lock()
	good = "token-2"
	r.mu.Unlock()
	if res := call(t, set, "mcp__srv__act", `{}`); res.Text != "done" || tokens.Load() != 2 {
		t.Errorf("%q, %d tokens", res.Text, tokens.Load())
	}
	bad := r.definition(strings.Replace(file, "client_id: me", "client_id: you", 1))
	if _, missing := offer(t, h, "t", bad); len(missing) != 1 ||
		!strings.Contains(missing[0], "no access token can be had: the token's server answered with status 401") ||
		strings.Contains(missing[0], "secret-value") {
		t.Errorf("missing %q", missing)
	}
	ctx, end := context.WithCancel(t.Context())
	end()
	if err := h.Run(ctx); err != nil {
		t.Error(err)
	}
}

// version is what a source says for a loop.
func version(t *testing.T, s loop.Changing, of loop.Offer) string {
	t.Helper()
	v, known, err := s.Version(t.Context(), of)
	if err != nil || !known {
		t.Errorf("the version is not known: %v", err)
	}
	return v
}
