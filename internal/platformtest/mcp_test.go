package platformtest_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/egress"
	"github.com/pawl-dev/pawl/services/control/mcp"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
)

// calling is an agent with an MCP server, over http or beside its workspace, whose name it has.
func calling(over string) agent.Definition {
	d := agent.Shell()
	d.Name, d.Tools = over, []string{builtin.NameBash, mcp.Entry("srv")}
	srv := mcp.Definition{Name: "srv", Safety: map[string]tool.Safety{"again": tool.Idempotent}, Timeout: time.Hour}
	if over == "stdio" {
		srv.Command = &mcp.Command{Program: "server"}
	} else {
		srv.HTTP = &mcp.HTTP{URL: "http://tools.test/mcp"}
	}
	d.MCP = map[string]mcp.Definition{"srv": srv}
	return d
}

// served is the MCP servers of a world.
type served struct {
	once  sync.Once
	conns chan net.Conn
	over  chan struct{}

	mu sync.Mutex // of the file effects
}

// Accept implements net.Listener.
func (s *served) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.over:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (s *served) Close() error { return nil }

// Addr implements net.Listener.
func (s *served) Addr() net.Addr { return &net.UnixAddr{Name: "served", Net: "pipe"} }

// acting is a server whose tools leave a mark, take a minute, and say what they did.
func (w *world) acting() *sdk.Server {
	s := sdk.NewServer(&sdk.Implementation{Name: "acting", Version: "1"}, nil)
	for _, name := range []string{"act", "again"} {
		s.AddTool(&sdk.Tool{Name: name, InputSchema: json.RawMessage(`{"type": "object"}`)},
			func(ctx context.Context, _ *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
				w.served.mu.Lock()
				before, _ := w.m.Box.Get("effects")
				w.m.Box.Put("effects", before+name+"\n")
				w.served.mu.Unlock()
				select {
				case <-time.After(time.Minute):
				case <-ctx.Done():
					return nil, ctx.Err()
				}
				return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: name + " is done"}}}, nil
			})
	}
	return s
}

// wayOut leads to one server in memory, which is started when it is needed.
func (w *world) wayOut() egress.Client {
	w.served.conns, w.served.over = make(chan net.Conn), make(chan struct{})
	start := func() {
		one := w.acting()
		h := &http.Server{Handler: sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return one },
			&sdk.StreamableHTTPOptions{DisableLocalhostProtection: true, Stateless: true})}
		go func() { _ = h.Serve(&w.served) }()
		w.Cleanup(func() {
			close(w.served.over)
			if err := h.Close(); err != nil {
				w.Error(err)
			}
		})
	}
	return egress.Client{
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("8.8.8.8")}, nil
		},
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			w.served.once.Do(start)
			here, there := net.Pipe()
			select {
			case w.served.conns <- there:
				return here, nil
			case <-w.served.over:
				return nil, net.ErrClosed
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	}
}

// serveBeside is such a server on a machine.
func (w *world) serveBeside(in io.ReadCloser, out io.Writer) {
	_ = w.acting().Run(context.Background(), &sdk.IOTransport{Reader: in, Writer: open{out}}) // it ends with in
}

type open struct{ io.Writer }

func (open) Close() error { return nil }

// told is what a session's model was told of the calls of a tool.
func (w *world) told(agent, tool string) (all []string) {
	for _, e := range w.entries(w.sessionID(agent)) {
		for _, b := range e.Message.Content {
			if e.Kind == session.ToolResult && b.Type == model.ToolResultBlock && b.Tool == tool {
				all = append(all, b.Text)
			}
		}
	}
	return all
}

// acted checks what a session was told of the calls of both tools. It reports whether it was told that the outcome of
// one is unknown that has happened.
func (w *world) acted(agent string) (unknown bool) {
	w.Helper()
	effects := w.effects()
	n := map[string]int{}
	for _, e := range effects {
		n[e]++
	}
	told, again := w.told(agent, "mcp__srv__act"), w.told(agent, "mcp__srv__again")
	if len(told) != 1 || len(again) != 1 {
		w.Fatalf("told %q and %q", told, again)
	}
	lost := strings.Contains(told[0], "The outcome of this call is unknown")
	if done := told[0] == "act is done"; n["act"] > 1 || done == lost || done && n["act"] == 0 {
		w.Errorf("effects %q, told %q", effects, told)
	}
	if again[0] != "again is done" || n["again"] == 0 {
		w.Errorf("effects %q, told %q", effects, again)
	}
	return lost && n["act"] == 1
}

const both = "tool mcp__srv__act: {}\ntool mcp__srv__again: {}\nsay: end"

// A replica is killed before and after every commit of a submission that calls tools of an MCP server. Nothing happens
// twice that may not, and nothing is told that nobody knows.
func TestMCPOverHTTPKilledAtEveryCommit(t *testing.T)  { mcpAtEveryCommit(t, "http") }
func TestMCPOverStdioKilledAtEveryCommit(t *testing.T) { mcpAtEveryCommit(t, "stdio") }

func mcpAtEveryCommit(t *testing.T, over string) {
	unknown := 0
	atEveryCommit(t, 4, func(w *world, n int64, after bool) bool {
		met := w.atCommit(w.a, n, after, w.a.Strike)
		_, _ = w.try(w.Context(), w.a, over, both) // the answer may get lost
		select {
		case <-w.a.Dead():
		case <-time.After(time.Hour):
		}
		w.a.DB.Strike(nil)
		p := w.a
		if met.Load() {
			p = w.next(w.a)
		}
		w.wait(p, w.again(p, over, both), "end")
		if w.acted(over) {
			unknown++
		}
		w.finish(p, over, w.effects()...)
		return met.Load()
	})
	// What control calls itself is unknown when control dies before it has written the outcome. An executor keeps it.
	if (unknown > 0) != (over == "http") {
		t.Errorf("%d times what has happened is unknown", unknown)
	}
}

// One replica calls and dies, or does not know that another one has taken over. The other one does not call again what
// must happen once.
func TestMCPAtTwoReplicas(t *testing.T) {
	for what, fault := range map[string]func(*platformtest.Platform){
		"dies": (*platformtest.Platform).Kill, "is frozen": (*platformtest.Platform).Freeze,
	} {
		t.Run(what, func(t *testing.T) {
			within(t, func(w *world) {
				b := w.c.Start("b", nil)
				id := w.submitTo(w.a, "http", both)
				w.sleep(10 * time.Second)
				fault(w.a)
				w.m.Dial(b)
				w.sleep(30 * time.Minute)
				w.a.Thaw()
				w.wait(b, id, "end")
				if !w.acted("http") {
					t.Errorf("effects %q, told %q", w.effects(), w.told("http", "mcp__srv__act"))
				}
				w.finish(b, "http", w.effects()...)
			})
		})
	}
}

// A daemon is killed while a tool of a server beside a workspace runs, which ends with it.
func TestMCPWhoseExecutorIsKilled(t *testing.T) {
	within(t, func(w *world) {
		id := w.submitTo(w.a, "stdio", both)
		w.sleep(10 * time.Second)
		w.m.Kill()
		w.m.Start(w.a)
		w.wait(w.a, id, "end")
		if !w.acted("stdio") {
			t.Errorf("effects %q, told %q", w.effects(), w.told("stdio", "mcp__srv__act"))
		}
		w.unknown("stdio")
		if !slices.ContainsFunc(w.calls(w.sessionID("stdio")), func(c call.Call) bool { return c.State == call.Lost }) {
			t.Error("no call is lost")
		}
		w.finish(w.a, "stdio", w.effects()...)
	})
}
