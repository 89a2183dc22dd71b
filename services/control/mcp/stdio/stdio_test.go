package stdio_test

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/mcpclient"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/bundle"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/mcp"
	"github.com/pawl-dev/pawl/services/control/mcp/stdio"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/workspace"
)

// fleet is one executor.
type fleet struct {
	mu    sync.Mutex
	away  bool
	tools string // JSON
	fail  error
	hangs bool
	asked []tool.ServerCall
	at    []string // the executors that were asked
	env   map[string]*string
	put   []workspace.Folder
	full  error // of Put
}

func (f *fleet) Put(_ context.Context, _ string, folder workspace.Folder) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.put = append(f.put, folder)
	return f.full
}

func (f *fleet) Place(_ context.Context, of loop.Offer) (string, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return cmp.Or(of.Executor, "x1"), !f.away, nil
}

func (f *fleet) Ask(
	ctx context.Context, at string, q tool.ServerCall, env map[string]*string,
) (mcpclient.Result, error) {
	if f.hangs {
		<-ctx.Done()
		return mcpclient.Result{}, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked, f.at, f.env = append(f.asked, q), append(f.at, at), env
	return mcpclient.Result{JSON: json.RawMessage(`{"tools": [` + f.tools + `]}`)}, f.fail
}

func offer(t *testing.T, file string) loop.Offer {
	t.Helper()
	d, err := mcp.Parse("srv", "mcp/srv.yaml", []byte(file), nil)
	if err != nil {
		t.Fatal(err)
	}
	return loop.Offer{Definition: agent.Definition{
		Name: "a", Cwd: "work", Env: agent.Env{"A": new("1"), "GONE": nil}, Tools: []string{"mcp__srv"},
		MCP: map[string]mcp.Definition{"srv": d},
	}}
}

func gather(t *testing.T, s loop.Source, of loop.Offer) (names []string, missing []string) {
	t.Helper()
	set, missing, err := loop.Gather(t.Context(), s, of)
	if err != nil {
		t.Fatal(err)
	}
	return set.Names(), missing
}

const (
	one = `{"name": "one", "inputSchema": {"type": "object"}}`
	two = `{"name": "two", "inputSchema": {"type": "object"}}`
)

func lookup(name string) (string, bool) { return "value", name == "KEY" }

func TestToolsOfAServerOnAnExecutor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{tools: one}
		s := stdio.New(f, lookup, slog.New(slog.DiscardHandler))
		of := offer(t, "command: run\nargs: [x]\ncwd: sub\nenv: {B: \"${KEY}\"}\ntimeout: 5s\n")
		for range 2 {
			if names, missing := gather(t, s, of); !slices.Equal(names, []string{"mcp__srv__one"}) || missing != nil {
				t.Errorf("offered %v, missing %v", names, missing)
			}
		}
		if len(f.asked) != 1 || f.asked[0].Cwd != "work/sub" || *f.env["A"] != "1" || *f.env["B"] != "value" ||
			f.env["GONE"] != nil {
			t.Errorf("asked %+v with %v", f.asked, f.env)
		}
		set, _, err := loop.Gather(t.Context(), s, of)
		if err != nil {
			t.Fatal(err)
		}
		asked := set.Read(model.Message{Content: []model.Block{{
			Type: model.ToolCallBlock, CallID: "1", Tool: "mcp__srv__one",
			Args: json.RawMessage(`{"n": 12345678901234567890}`),
		}}})[0]
		q, ok := asked.Call.Request.(tool.ServerCall)
		if !ok || q.Method != "tools/call" || q.Timeout != 5*time.Second || q.Program != "run" ||
			string(q.Params) != `{"arguments":{"n":12345678901234567890},"name":"one"}` ||
			asked.Call.Tool.Kind() != tool.KindExecutor || *asked.Call.Tool.Env["B"] != "${KEY}" {
			t.Errorf("asks for %+v, %v", q, asked.Refused)
		}

		before := version(t, s, of)
		f.tools = one + "," + two
		s.Changed("x1", of.Definition.MCP["srv"].Digest())
		if version(t, s, of) == before {
			t.Error("a change does not show")
		}
		if names, _ := gather(t, s, of); len(names) != 2 {
			t.Errorf("offered %v", names)
		}
		f.tools = two // without a word
		time.Sleep(2 * time.Minute)
		if names, _ := gather(t, s, of); !slices.Equal(names, []string{"mcp__srv__two"}) {
			t.Errorf("offered %v", names)
		}
	})
}

// The files of a plugin are at the executor before one of its servers is asked, and the executor is told where.
func TestAServerOfAPlugin(t *testing.T) {
	f := &fleet{tools: one}
	s := stdio.New(f, lookup, slog.New(slog.DiscardHandler))
	of := offer(t, "command: run")
	of.Loop.Key.Tenant = "acme"
	of.Definition.MCP["srv"] = mcp.Definition{Name: "srv", Command: &mcp.Command{
		Program: "./run", Args: []string{"${PLUGIN_DATA}"}, Cwd: "./bin",
		Plugin: &mcp.Plugin{Name: "p", Digest: "abcdefabcdefabcdef", Env: map[string]string{"B": "${KEY}"}},
	}}
	of.Definition.PluginFolders = map[string][]bundle.File{"abcdefabcdefabcdef": {{Path: "run"}}}
	if names, missing := gather(t, s, of); len(names) != 1 || missing != nil {
		t.Errorf("offered %v, missing %v", names, missing)
	}
	if len(f.put) != 1 || f.put[0].Under != "~/.pawl/plugins" || f.put[0].Name != "p@abcdefabcdef" ||
		len(f.put[0].Files) != 1 {
		t.Errorf("put %+v", f.put)
	}
	q, want := f.asked[0], tool.PluginPlace{
		Root: "~/.pawl/plugins/p@abcdefabcdef", Data: "~/.pawl/plugin-data/acme/p",
		Env: map[string]string{"B": "${KEY}"},
	}
	if q.Cwd != "./bin" || q.Args[0] != "${PLUGIN_DATA}" || q.Plugin == nil || !reflect.DeepEqual(*q.Plugin, want) {
		t.Errorf("asked %+v, %+v", q, q.Plugin)
	}
	if _, ok := f.env["B"]; ok {
		t.Error("a text of a plugin was taken for a template")
	}
	f.full = errs.New(errs.ResourceExhausted, "NO_SPACE", "the disk is full")
	s = stdio.New(f, lookup, slog.New(slog.DiscardHandler))
	if names, missing := gather(t, s, of); len(names) > 0 || len(missing) != 1 ||
		!strings.Contains(missing[0], "the disk is full") {
		t.Errorf("offered %v, missing %v", names, missing)
	}
}

// A server that cannot be used costs its tools, and says so.
func TestServersOnExecutorsThatCannotBeUsed(t *testing.T) {
	down := errs.New(errs.Unavailable, "MCP_SERVER", "no licence found")
	for name, c := range map[string]struct {
		fleet *fleet
		file  string
		want  string
	}{
		"no executor": {&fleet{away: true}, "command: run", "no executor is there to run it"},
		"down":        {&fleet{fail: down}, "command: run", "no licence found; its tools are left out"},
		"silent":      {&fleet{hangs: true}, "command: run", "has not started within 20s"},
		"a variable":  {&fleet{}, "command: run\nenv: {A: \"${NOPE}\"}", "variable NOPE is not set"},
		"rubbish":     {&fleet{tools: "{"}, "command: run", "list of tools cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := stdio.New(c.fleet, lookup, slog.New(slog.DiscardHandler))
				names, missing := gather(t, s, offer(t, c.file))
				if len(names) > 0 || len(missing) != 1 || !strings.Contains(missing[0], c.want) {
					t.Errorf("offered %v, missing %q", names, missing)
				}
			})
		})
	}
}

// A server that never stops to say that its list has changed costs a bounded number of lists, and one that nobody knows
// costs nothing.
func TestAFloodOfChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{tools: one}
		s := stdio.New(f, lookup, slog.New(slog.DiscardHandler))
		of := offer(t, "command: run")
		gather(t, s, of)
		digest := of.Definition.MCP["srv"].Digest()
		for range 100 {
			for i := range 50 {
				s.Changed("x1", digest)
				s.Changed("x1", strconv.Itoa(i))
				s.Changed("x2", digest)
			}
			version(t, s, of)
			gather(t, s, of)
		}
		if len(f.asked) != 4 {
			t.Errorf("asked %d times by a flood", len(f.asked))
		}
		time.Sleep(20 * time.Second)
		before := version(t, s, of)
		f.tools = one + "," + two
		s.Changed("x1", digest)
		if version(t, s, of) == before {
			t.Error("a change after the flood does not show")
		}
		if names, _ := gather(t, s, of); len(names) != 2 {
			t.Errorf("offered %v", names)
		}
	})
}

// The version of a source is compared: it is the same as long as nothing changes, whichever executor may be chosen.
func TestTheVersionOfAServerOnSeveralExecutors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stdio.New(&fleet{tools: one}, lookup, slog.New(slog.DiscardHandler))
		of := offer(t, "command: run")
		digest := of.Definition.MCP["srv"].Digest()
		for i := range 8 {
			of.Executor = "x" + strconv.Itoa(i)
			gather(t, s, of)
			s.Changed(of.Executor, digest)
		}
		of.Executor = ""
		before := version(t, s, of)
		for range 20 {
			if version(t, s, of) != before {
				t.Fatal("it changes although nothing else does")
			}
		}
	})
}

// A loop that began while no executor was there is offered the tools when one has come, and keeps them while it is
// away.
func TestAnExecutorThatComesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{tools: one, away: true}
		s := stdio.New(f, lookup, slog.New(slog.DiscardHandler))
		of := offer(t, "command: run")
		if names, _ := gather(t, s, of); len(names) != 0 {
			t.Errorf("offered %v", names)
		}
		if v, known, err := s.Version(t.Context(), of); known || err != nil {
			t.Errorf("without an executor: %q, %v", v, err)
		}
		f.away = false
		there := version(t, s, of)
		if names, _ := gather(t, s, of); there == "" || len(names) != 1 {
			t.Errorf("offered %v, %q", names, there)
		}
		of.Executor = "x2"
		if version(t, s, of) == there {
			t.Error("a workspace that is bound elsewhere has what was listed before")
		}
	})
}

// What a server says of its tools is told to models: it may repeat what is in its environment.
func TestSecretsInAListOfTools(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{tools: `{"name": "one", "inputSchema": {"type": "object", "description": "with key-of-srv"},
			"description": "Connected with key-of-srv."}`}
		of := offer(t, "command: run\nenv: {B: \"${KEY}\"}\n")
		s := stdio.New(f, func(string) (string, bool) { return "key-of-srv", true }, slog.New(slog.DiscardHandler))
		set, _, err := loop.Gather(t.Context(), s, of)
		if err != nil || len(set.Told()) != 1 {
			t.Fatalf("%v, %v", set.Names(), err)
		}
		told := set.Told()[0]
		if text := told.Description + string(told.Schema); strings.Contains(text, "key-of-srv") ||
			strings.Count(text, tool.Redacted) != 2 {
			t.Errorf("models are told %s", text)
		}
	})
}

// Lists are of one tenant and one executor: an executor that lies does so to those that it serves.
func TestListsAreNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{tools: one}
		s := stdio.New(f, lookup, slog.New(slog.DiscardHandler))
		of := offer(t, "command: run")
		for _, tenant := range []string{"t", "u"} {
			for _, of.Executor = range []string{"x1", "x2"} {
				of.Loop.Key.Tenant = tenant
				for range 2 {
					gather(t, s, of)
				}
			}
		}
		if !slices.Equal(f.at, []string{"x1", "x2", "x1", "x2"}) {
			t.Errorf("asked %v", f.at)
		}
	})
}

// An executor is away for a moment after a restart of control: the first loop does not go on without its tools.
func TestAnExecutorThatComesSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{tools: one, away: true}
		s := stdio.New(f, lookup, slog.New(slog.DiscardHandler))
		go func() {
			time.Sleep(3 * time.Second)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.away = false
		}()
		if names, missing := gather(t, s, offer(t, "command: run")); len(names) != 1 || missing != nil {
			t.Errorf("offered %v, missing %v", names, missing)
		}
	})
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
