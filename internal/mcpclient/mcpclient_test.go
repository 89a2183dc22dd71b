package mcpclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

var empty = json.RawMessage(`{"type": "object"}`)

// server is one of the library with a few tools.
func server(opts *mcp.ServerOptions) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, opts)
	s.AddTool(&mcp.Tool{Name: "echo", InputSchema: empty},
		func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(r.Params.Arguments)}}}, nil
		})
	return s
}

// connect connects a client to a server in memory.
func connect(t *testing.T, s *mcp.Server) *Conn {
	t.Helper()
	return connectWith(t, s, Options{Version: "test"})
}

func connectWith(t *testing.T, s *mcp.Server, o Options) *Conn {
	t.Helper()
	here, there := mcp.NewInMemoryTransports()
	session, err := s.Connect(t.Context(), there, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Connect(t.Context(), here, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		_ = session.Wait()
	})
	return c
}

func call(tool, args string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"name": %q, "arguments": %s}`, tool, args))
}

func TestACallAndItsAnswer(t *testing.T) {
	c := connect(t, server(nil))
	r, err := c.Do(t.Context(), CallTool, call("echo", `{"a": 12345678901234567890}`), nil)
	if err != nil || !strings.Contains(string(r.JSON), `{\"a\":12345678901234567890}`) {
		t.Errorf("got %s, %v", r.JSON, err)
	}
	var e *Error
	if _, err = c.Do(t.Context(), CallTool, call("nope", `{}`), nil); !errors.As(err, &e) || e.Kind != Answered {
		t.Errorf("an unknown tool: %v", err)
	}
	if _, err = c.Do(t.Context(), CallTool, json.RawMessage(`[]`), nil); !errors.As(err, &e) || e.Kind != NotSent {
		t.Errorf("parameters that are none: %v", err)
	}
	if _, err = c.Do(t.Context(), "tools/nope", nil, nil); !errors.As(err, &e) || e.Kind != NotSent {
		t.Errorf("an unknown method: %v", err)
	}
}

// What a server says in an error is kept in rows and told to people: it is short, and text.
func TestALongErrorIsCut(t *testing.T) {
	s := server(nil)
	s.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
			if method == "tools/call" {
				return nil, &jsonrpc.Error{Code: 7, Message: "x" + strings.Repeat("é", 1<<20)}
			}
			return next(ctx, method, r)
		}
	})
	var e *Error
	_, err := connect(t, s).Do(t.Context(), CallTool, call("echo", `{}`), nil)
	if !errors.As(err, &e) || e.Code != 7 || len(e.Message) > maxTold+3 || !utf8.ValidString(e.Message) {
		t.Errorf("%.100v", err)
	}
}

func TestAListIsReadToItsEndWithinBounds(t *testing.T) {
	s := server(&mcp.ServerOptions{PageSize: 7})
	for i := range 40 {
		s.AddTool(&mcp.Tool{Name: fmt.Sprintf("t%02d", i), InputSchema: empty}, nil)
	}
	var list struct {
		Tools []struct{ Name string }
		Cut   string
	}
	r, err := connect(t, s).Do(t.Context(), ListTools, nil, nil)
	if err != nil || json.Unmarshal(r.JSON, &list) != nil || len(list.Tools) != 41 || list.Cut != "" {
		t.Errorf("got %d tools, %q, %v", len(list.Tools), list.Cut, err)
	}
	for what, add := range map[string]func(*mcp.Server){
		"too many": func(s *mcp.Server) {
			for i := range MaxTools + 10 {
				s.AddTool(&mcp.Tool{Name: fmt.Sprintf("t%d", i), InputSchema: empty}, nil)
			}
		},
		"too large": func(s *mcp.Server) {
			for i := range 100 {
				s.AddTool(&mcp.Tool{
					Name: fmt.Sprintf("t%d", i), InputSchema: empty, Description: strings.Repeat("x", 100<<10),
				}, nil)
			}
		},
		"pages for ever": func(s *mcp.Server) {
			s.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
				return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
					if method == "tools/list" {
						return &mcp.ListToolsResult{Tools: []*mcp.Tool{}, NextCursor: "again"}, nil
					}
					return next(ctx, method, r)
				}
			})
		},
	} {
		s := server(&mcp.ServerOptions{PageSize: 20})
		add(s)
		r, err := connect(t, s).Do(t.Context(), ListTools, nil, nil)
		if err != nil || json.Unmarshal(r.JSON, &list) != nil || len(list.Tools) > MaxTools || len(r.JSON) > 6<<20 ||
			!strings.Contains(list.Cut, "the rest is left out") {
			t.Errorf("%s: %d tools, %q, %v", what, len(list.Tools), list.Cut, err)
		}
	}
}

func TestProgressIsPassedOnAtABoundedRate(t *testing.T) {
	s := server(nil)
	s.AddTool(&mcp.Tool{Name: "work", InputSchema: empty},
		func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			for i := range 1000 {
				if err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
					ProgressToken: r.Params.GetProgressToken(), Progress: float64(i), Total: 1000, Message: "working",
				}); err != nil {
					return nil, err
				}
			}
			return &mcp.CallToolResult{Content: []mcp.Content{}}, nil
		})
	var mu sync.Mutex
	var got []Progress
	begun := time.Now()
	_, err := connect(t, s).Do(t.Context(), CallTool, call("work", `{}`), func(p Progress) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, p)
	})
	mu.Lock()
	defer mu.Unlock()
	most := int(time.Since(begun)/progressEvery) + 1
	if err != nil || len(got) == 0 || len(got) > most || got[0] != (Progress{0, 1000, "working"}) {
		t.Errorf("got %v, at most %d, %v", got, most, err)
	}
}

func TestAListThatChanges(t *testing.T) {
	s := server(nil)
	c := connect(t, s)
	if !c.Announces() {
		t.Error("the server does not say that it announces changes")
	}
	s.AddTool(&mcp.Tool{Name: "new", InputSchema: empty}, nil)
	for c.Generation() == 0 { // the library waits a moment before it tells
		if _, err := c.Do(t.Context(), CallTool, call("echo", `{}`), nil); err != nil {
			t.Fatal(err)
		}
	}
}

// The server is told that nobody waits any more.
func TestACallThatIsCancelled(t *testing.T) {
	begun, stopped := make(chan struct{}), make(chan struct{})
	s := server(nil)
	s.AddTool(&mcp.Tool{Name: "wait", InputSchema: empty},
		func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			close(begun)
			<-ctx.Done()
			close(stopped)
			return nil, ctx.Err()
		})
	c := connect(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		cancel()
	}()
	if _, err := c.Do(ctx, CallTool, call("wait", `{}`), nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-stopped
}

// Whichever way the version of the protocol has for it.
func TestAQuestionIsDeclined(t *testing.T) {
	for _, version := range []string{"2026-07-28", "2025-11-25"} {
		s := server(nil)
		s.AddTool(&mcp.Tool{Name: "ask", InputSchema: empty},
			func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				answer, ok := r.Params.InputResponses["sure"].(*mcp.ElicitResult)
				if !ok {
					return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{
						"sure": &mcp.ElicitParams{Message: "Really?"},
					}}, nil
				}
				return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: answer.Action}}}, nil
			})
		c := connectWith(t, s, Options{Protocol: version})
		r, err := c.Do(t.Context(), CallTool, call("ask", `{}`), nil)
		if err != nil || !strings.Contains(string(r.JSON), "decline") || len(r.Declined) != 1 ||
			r.Declined[0] != "Really?" || c.Protocol() != version {
			t.Errorf("version %s: got %s, %v, %v", c.Protocol(), r.JSON, r.Declined, err)
		}
	}
}

// A session is shared by requests of different callers. What a server asks one of them is none of the others' business.
func TestAQuestionIsNotToldToOthers(t *testing.T) {
	s := server(nil)
	asked, begun := make(chan struct{}), make(chan struct{})
	s.AddTool(&mcp.Tool{Name: "wait", InputSchema: empty},
		func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			close(begun)
			<-asked
			return &mcp.CallToolResult{Content: []mcp.Content{}}, nil
		})
	s.AddTool(&mcp.Tool{Name: "ask", InputSchema: empty},
		func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			_, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: "Delete file X?"})
			close(asked)
			return &mcp.CallToolResult{Content: []mcp.Content{}}, err
		})
	c := connectWith(t, s, Options{Protocol: "2025-11-25"})
	other := make(chan Result)
	go func() {
		r, err := c.Do(t.Context(), CallTool, call("wait", `{}`), nil)
		if err != nil {
			t.Error(err)
		}
		other <- r
	}()
	<-begun
	if _, err := c.Do(t.Context(), CallTool, call("ask", `{}`), nil); err != nil {
		t.Error(err)
	}
	if r := <-other; len(r.Declined) != 1 || strings.Contains(r.Declined[0], "file X") {
		t.Errorf("the other call was told %q", r.Declined)
	}
}

// The library keeps every resource that was read, whatever the server says of how long it is good.
func TestASessionIsWorn(t *testing.T) {
	s := server(nil)
	s.AddResourceTemplate(&mcp.ResourceTemplate{URITemplate: "mem:///{n}", Name: "m"},
		func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{
				URI: r.Params.URI, Text: strings.Repeat("x", 1000),
			}}}, nil
		})
	c := connectWith(t, s, Options{Held: 3000})
	for n := range 3 {
		if c.Worn() {
			t.Errorf("after %d", n)
		}
		if _, err := c.Do(t.Context(), ReadResource, fmt.Appendf(nil, `{"uri": "mem:///%d"}`, n), nil); err != nil {
			t.Fatal(err)
		}
	}
	if !c.Worn() {
		t.Error("it is not worn by more than it may hold")
	}
}

// Answers to a server that asks without end would pile up: its session ends.
func TestAServerThatAsksWithoutEnd(t *testing.T) {
	s := server(nil)
	s.AddTool(&mcp.Tool{Name: "ask", InputSchema: empty},
		func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			var refused error
			for range askedBurst + 50 {
				if err := r.Session.Ping(ctx, nil); err != nil {
					refused = err
				}
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprint(refused)}}}, nil
		})
	c := connect(t, s)
	select {
	case <-c.Closed():
		t.Error("it is over before")
	default:
	}
	r, err := c.Do(t.Context(), CallTool, call("ask", `{}`), nil)
	if err != nil || !strings.Contains(string(r.JSON), "too many requests") {
		t.Errorf("%s, %v", r.JSON, err)
	}
	<-c.Closed()
}

func TestWhatIsKnownOfARequestOverHTTP(t *testing.T) {
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server(nil) }, nil)
	var mu sync.Mutex
	var instead http.HandlerFunc
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		f := instead
		mu.Unlock()
		if f != nil && r.Method == http.MethodPost {
			f(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	defer h.Close()
	for what, c := range map[string]struct {
		instead http.HandlerFunc
		want    Kind
	}{
		"a hang-up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, Lost},
		"unavailable": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no", http.StatusServiceUnavailable)
		}, Lost},
		"forbidden": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no", http.StatusForbidden)
		}, Refused},
		"too many": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no", http.StatusTooManyRequests)
		}, Refused},
		"an end in the middle": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, ": nothing\n\n")
		}, Lost},
		"rubbish": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{")
		}, Lost},
	} {
		mu.Lock()
		instead = nil
		mu.Unlock()
		client := &http.Client{Transport: tracked{}}
		conn, err := Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: h.URL, HTTPClient: client},
			Options{Tracked: true})
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		instead = c.instead
		mu.Unlock()
		var e *Error
		if _, err := conn.Do(t.Context(), CallTool, call("echo", `{}`), nil); !errors.As(err, &e) || e.Kind != c.want {
			t.Errorf("%s: %v, kind %d", what, err, e.Kind)
		}
		mu.Lock()
		instead = nil
		mu.Unlock()
		_ = conn.Close()
	}
}

// tracked reports to the requests' contexts, as whoever gives the transport must.
type tracked struct{}

func (tracked) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r.WithContext(Sent(r.Context())))
	if err != nil {
		return nil, err
	}
	return res, Answer(r.Context(), res, r.Method)
}

func TestARequestThatCannotBeSent(t *testing.T) {
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server(nil) }, nil)
	h := httptest.NewServer(handler)
	conn, err := Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: h.URL, HTTPClient: &http.Client{Transport: tracked{}},
	}, Options{Tracked: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	h.CloseClientConnections()
	h.Close()
	var e *Error
	if _, err := conn.Do(t.Context(), CallTool, call("echo", `{}`), nil); !errors.As(err, &e) || e.Kind != NotSent {
		t.Errorf("%v", err)
	}
}

// A server that never stops talking is made to wait.
func TestAFloodIsThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, lines := time.Now(), 0
		r := Throttle(io.NopCloser(endless{}))
		p := make([]byte, 32<<10)
		for lines < 100_000 {
			n, err := r.Read(p)
			if err != nil {
				t.Fatal(err)
			}
			lines += strings.Count(string(p[:n]), "\n")
		}
		if took := time.Since(begun); took < 30*time.Second {
			t.Errorf("%d lines took %s", lines, took)
		}
		stopped := make(chan error)
		go func() {
			for {
				if _, err := r.Read(p); err != nil {
					stopped <- err
					return
				}
			}
		}()
		synctest.Wait()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := <-stopped; !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	})
}

// endless is short lines for ever.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = "x\n"[i%2]
	}
	return len(p), nil
}
