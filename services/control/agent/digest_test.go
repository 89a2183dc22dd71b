package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/mcp"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool/command"
)

// A digest that changes between versions of Pawl orphans nothing, but makes every agent look edited.
func TestDigestIsStable(t *testing.T) {
	d, err := parse(full)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		d    Definition
		want string
	}{
		{Shell(), "94321dee5872b80724f9db4e4874d088427cc49e33c3f7f353249855d97d110f"},
		{d, "0fefcce6950499b6ad1d3a6958ab9b0ca565d5da65a9390d6015a95c240d743c"},
	} {
		if got := c.d.Digest(); got != c.want {
			t.Errorf("%s: got %s, want %s", c.d.Name, got, c.want)
		}
	}
}

func TestDigestCoversEverythingSaid(t *testing.T) {
	seen := map[string]string{Shell().Digest(): "unchanged"}
	for name, change := range map[string]func(*Definition){
		"name":          func(d *Definition) { d.Name = "x" },
		"description":   func(d *Definition) { d.Description = "x" },
		"provider":      func(d *Definition) { d.Model.Provider = "x" },
		"model":         func(d *Definition) { d.Model.ID = "x" },
		"search":        func(d *Definition) { d.Search = true },
		"thinking":      func(d *Definition) { d.Thinking = model.ThinkingLow },
		"fallbacks":     func(d *Definition) { d.Fallbacks = []model.Ref{{Provider: "x", ID: "y"}} },
		"sandbox":       func(d *Definition) { d.Sandbox.Kind = SandboxNone },
		"labels":        func(d *Definition) { d.Sandbox.Labels = map[string]string{"a": "b"} },
		"cwd":           func(d *Definition) { d.Cwd = "x" },
		"env":           func(d *Definition) { d.Env = Env{"A": new("b")} },
		"tools":         func(d *Definition) { d.Tools = d.Tools[1:] },
		"subagents":     func(d *Definition) { d.Subagents = []string{"x"} },
		"team":          func(d *Definition) { d.Team = map[string]Definition{"x": {Name: "x"}} },
		"command tools": func(d *Definition) { d.Commands = map[string]command.Definition{"x": {Name: "x"}} },
		"of a tool":     func(d *Definition) { d.Commands = map[string]command.Definition{"x": {Name: "x", Cwd: "y"}} },
		"servers":       func(d *Definition) { d.MCP = map[string]mcp.Definition{"x": {Name: "x"}} },
		"of a server":   func(d *Definition) { d.MCP = map[string]mcp.Definition{"x": {Name: "x", Prefix: "y"}} },
		"of the team":   func(d *Definition) { d.Team = map[string]Definition{"x": {Name: "x", Cwd: "y"}} },
		"approve":       func(d *Definition) { d.Approve = []approval.Rule{{Do: approval.DoAsk}} },
		"turns":         func(d *Definition) { d.Limits.Turns++ },
		"tokens":        func(d *Definition) { d.Limits.Tokens++ },
		"cost":          func(d *Definition) { d.Limits.CostUSD++ },
		"timeout":       func(d *Definition) { d.Limits.Timeout += time.Second },
		"attempts":      func(d *Definition) { d.Limits.Attempts++ },
		"expose":        func(d *Definition) { d.Expose = nil },
		"instructions":  func(d *Definition) { d.Instructions += "x" },
	} {
		d := Shell()
		change(&d)
		digest := d.Digest()
		if other, ok := seen[digest]; ok {
			t.Errorf("%s has the digest of %s", name, other)
		}
		seen[digest] = name
	}
}

func TestDigestIgnoresHowItIsWritten(t *testing.T) {
	a, err := parse("---\nmodel: a/b\ncwd: c\ntools: [bash, read]\nexpose: [websocket, http]\n---\nBody")
	if err != nil {
		t.Fatal(err)
	}
	b, err := parse("---\n# comment\ntools:\n- read\n- bash\ncwd: \"c\"\nmodel: a/b\nexpose: [http, " +
		"websocket]\nlimits: {turns: 100}\n---\n\nBody\n\n")
	if err != nil {
		t.Fatal(err)
	}
	if a.Digest() != b.Digest() {
		t.Error("digests differ")
	}
}

func TestDigestTakesNilForEmpty(t *testing.T) {
	a, b := Shell(), Shell()
	a.Tools, b.Tools = nil, []string{}
	a.Expose, b.Expose = nil, []Surface{}
	if a.Digest() != b.Digest() {
		t.Error("digests differ")
	}
	if len(a.Digest()) != 64 || strings.ToLower(a.Digest()) != a.Digest() {
		t.Errorf("not hex: %s", a.Digest())
	}
}
