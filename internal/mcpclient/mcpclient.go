// Package mcpclient is one session with an MCP server, for whoever carries its transport: control over HTTP, an
// executor over the standard input and output of a process.
//
//	Connect ──▶ Conn ──Do(method, params)──▶ result, or an Error that says whether the server may have acted
//	              └──list_changed──▶ Generation grows
//
// The server is a stranger. A message has at most MaxMessage bytes, a list MaxTools tools; pages are followed within
// bounds; notifications are taken at a bounded rate, see Throttle. The library speaks the protocol's versions from
// 2024-11-05 to 2026-07-28, whichever is the newest that both sides know.
//
// The client has no sampling and no roots. A question of the server to a person (elicitation) is declined, and the call
// that it came with says so: agents have nobody who answers.
package mcpclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/time/rate"
)

// Bounds of what a server can say.
const (
	MaxMessage = 12 << 20 // bytes of a result
	MaxTools   = 1000     // tools, resources or prompts of a list
	maxPages   = 200      // of a list
	maxList    = 4 << 20  // bytes of a list
	maxAsked   = 500      // characters of a question that is told of
	// A server may ask its client things, askedBurst at once and askedPerSecond in the long run. The session of one
	// that asks more ends: whoever does not read the answers would make them pile up.
	askedPerSecond = 10
	askedBurst     = 100
	// progressEvery is the least time between two pieces of progress of one call that are passed on.
	progressEvery = 250 * time.Millisecond
)

// Methods that Do knows.
const (
	// ListTools reads all pages. It adds to the result whether the server has resources and prompts, and in cut why the
	// list is not complete.
	ListTools     = "tools/list"
	CallTool      = "tools/call"
	ListResources = "resources/list"
	ReadResource  = "resources/read"
	ListPrompts   = "prompts/list"
	GetPrompt     = "prompts/get"
)

// Known reports whether Do knows a method.
func Known(method string) bool {
	switch method {
	case ListTools, CallTool, ListResources, ReadResource, ListPrompts, GetPrompt:
		return true
	}
	return false
}

// Progress is how far a call is, as the server says.
type Progress struct {
	Progress, Total float64 // Total 0 is unknown
	Message         string
}

// Options of Connect.
type Options struct {
	Version string // of this program
	// Tracked says that the transport reports with Sent what reaches the server. Else all does that is asked for.
	Tracked bool
	// Protocol is the newest version to speak; "" is the newest that the library knows.
	Protocol string
	// Held is after how many bytes of lists and resources a session is worn; 0 is never.
	Held int64
	// Changed is called when the server says that its list of tools has changed; nil is nobody.
	Changed func()
	Log     *slog.Logger // nil discards
}

// Conn is one session. Its methods may be called concurrently.
type Conn struct {
	session    *mcp.ClientSession
	tracked    bool
	most       int64 // Options.Held
	generation atomic.Int64
	held       atomic.Int64 // bytes of what the library keeps
	closed     chan struct{}
	close      sync.Once

	mu    sync.Mutex
	calls map[string]*running // by progress token
	next  int64
}

// running is a request under way.
type running struct {
	progress func(Progress)
	last     time.Time
	asked    []string // questions that were declined meanwhile
}

// Connect makes a session. It ends when ctx does, or when the server has said what it is; whoever closes the transport
// ends it.
func Connect(ctx context.Context, t mcp.Transport, o Options) (*Conn, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Conn{tracked: o.Tracked, most: o.Held, closed: make(chan struct{}), calls: map[string]*running{}}
	client := mcp.NewClient(&mcp.Implementation{Name: "pawl", Version: o.Version}, &mcp.ClientOptions{
		Logger:       o.Log,
		Capabilities: &mcp.ClientCapabilities{},
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) {
			c.generation.Add(1)
			if o.Changed != nil {
				o.Changed()
			}
		},
		ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			c.declined(r.Params.Message)
			return &mcp.ElicitResult{Action: "decline"}, nil
		},
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			c.progressed(r.Params)
		},
	})
	client.AddReceivingMiddleware(c.bounded)
	session, err := client.Connect(ctx, t, &mcp.ClientSessionOptions{ProtocolVersion: o.Protocol})
	if err != nil {
		return nil, err
	}
	c.session = session
	go func() {
		_ = session.Wait() // why it has ended is told to whoever uses it
		c.over()
	}()
	return c, nil
}

func (c *Conn) over() { c.close.Do(func() { close(c.closed) }) }

// bounded bounds how much the server asks.
func (c *Conn) bounded(next mcp.MethodHandler) mcp.MethodHandler {
	pace := rate.NewLimiter(askedPerSecond, askedBurst)
	return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
		if !strings.HasPrefix(method, "notifications/") && !pace.Allow() {
			c.over()
			return nil, errors.New("too many requests")
		}
		return next(ctx, method, r)
	}
}

// Close ends the session, and the requests under way.
func (c *Conn) Close() error { return c.session.Close() }

// Closed is closed when the session is over, or has to be: Close it then.
func (c *Conn) Closed() <-chan struct{} { return c.closed }

// Generation grows when the server says that its list of tools has changed.
func (c *Conn) Generation() int64 { return c.generation.Load() }

// Worn reports whether the session should be replaced by another one. The library keeps every list and every resource
// that a session has ever read.
func (c *Conn) Worn() bool { return c.most > 0 && c.held.Load() > c.most }

// Announces reports whether the server has promised to say when its list of tools changes.
func (c *Conn) Announces() bool {
	caps := c.session.InitializeResult().Capabilities
	return caps != nil && caps.Tools != nil && caps.Tools.ListChanged
}

// Protocol is the version of the protocol that is spoken.
func (c *Conn) Protocol() string { return c.session.InitializeResult().ProtocolVersion }

// declined notes a question of the server that nobody answers. The protocol does not always say with which request it
// came: of several under way each is told that there was one, and none what it was, which may be somebody else's.
func (c *Conn) declined(question string) {
	if runes := []rune(question); len(runes) > maxAsked {
		question = string(runes[:maxAsked]) + "..."
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.calls) > 1 {
		question = "(it may have come with another request)"
	}
	for _, r := range c.calls {
		if len(r.asked) < 3 {
			r.asked = append(r.asked, question)
		}
	}
}

func (c *Conn) progressed(p *mcp.ProgressNotificationParams) {
	token, _ := p.ProgressToken.(string)
	c.mu.Lock()
	r := c.calls[token]
	due := r != nil && r.progress != nil && time.Since(r.last) >= progressEvery
	if due {
		r.last = time.Now()
	}
	c.mu.Unlock()
	if due {
		r.progress(Progress{p.Progress, p.Total, p.Message})
	}
}

// begin notes a request.
func (c *Conn) begin(progress func(Progress)) (token string, r *running) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	token, r = strconv.FormatInt(c.next, 10), &running{progress: progress}
	c.calls[token] = r
	return token, r
}

func (c *Conn) finish(token string, r *running) (asked []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, token)
	return r.asked
}

// Result is the answer to a request.
type Result struct {
	JSON     json.RawMessage
	Declined []string // questions of the server that were declined while the request ran
}

// Do makes a request. progress, which may be nil, is called with what the server says of it, at a bounded rate, and
// concurrently. When ctx ends the server is told to stop, and the error is that of ctx; every other error is an *Error.
func (c *Conn) Do(ctx context.Context, method string, params json.RawMessage, progress func(Progress)) (Result, error) {
	ctx, cancel := context.WithCancel(ctx) // what the transport does for the request ends with it
	defer cancel()
	x := &exchange{}
	x.sent.Store(!c.tracked)
	token, r := c.begin(progress)
	answer, err := c.do(context.WithValue(ctx, exchangeKey{}, x), method, params, token)
	out := Result{Declined: c.finish(token, r)}
	if err == nil {
		out.JSON, err = json.Marshal(answer)
	}
	if method != CallTool && method != GetPrompt {
		c.held.Add(int64(len(out.JSON)))
	}
	if err == nil && len(out.JSON) > MaxMessage {
		err = &Error{Answered, 0, fmt.Sprintf("the server's answer has %d bytes, and %d are the most that is taken",
			len(out.JSON), MaxMessage)}
	}
	if err != nil {
		return Result{Declined: out.Declined}, x.classify(ctx, err)
	}
	return out, nil
}

func (c *Conn) do(ctx context.Context, method string, params json.RawMessage, token string) (any, error) {
	switch method {
	case ListTools:
		return c.tools(ctx)
	case ListResources:
		return list(ctx, c.listResources)
	case ListPrompts:
		return list(ctx, c.listPrompts)
	case CallTool:
		var p struct {
			Name      string          `json:"name"`
			Arguments json.RawMessage `json:"arguments"`
		}
		if err := decode(params, &p); err != nil {
			return nil, err
		}
		call := &mcp.CallToolParams{Name: p.Name}
		if len(p.Arguments) > 0 {
			call.Arguments = p.Arguments
		}
		call.SetProgressToken(token)
		return c.session.CallTool(ctx, call)
	case ReadResource:
		p := &mcp.ReadResourceParams{}
		if err := decode(params, p); err != nil {
			return nil, err
		}
		return c.session.ReadResource(ctx, p)
	case GetPrompt:
		p := &mcp.GetPromptParams{}
		if err := decode(params, p); err != nil {
			return nil, err
		}
		return c.session.GetPrompt(ctx, p)
	}
	return nil, &Error{NotSent, 0, "the method " + method + " is not known"}
}

func decode(params json.RawMessage, into any) error {
	if err := json.Unmarshal(params, into); err != nil {
		return &Error{NotSent, 0, "the parameters cannot be read: " + err.Error()}
	}
	return nil
}
