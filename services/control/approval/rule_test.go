package approval_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/model"
)

func rules(all ...approval.Rule) *approval.Policy { return approval.NewPolicy("a", all) }

func rule(do approval.Do, when string, tools ...string) approval.Rule {
	return approval.Rule{Tools: tools, When: when, Do: do}
}

var bash = approval.Tool{Name: "bash"}

func TestJudge(t *testing.T) {
	const args = `{"command":"rm -rf /","cwd":"","timeout":30,"ratio":0.5,"nested":{"list":[1,2]}}`
	policy := rules(
		rule(approval.DoAllow, `args.command == "ls"`, "bash"),
		rule(approval.DoDeny, `args.command.contains("mkfs")`, "bash"),
		rule(approval.DoAsk, `args.command.startsWith("rm") && args.timeout > 10 && args.nested.list[1] == 2`, "bash",
			"exec"),
		rule(approval.DoAsk, "", "mcp__*__write*"),
	)
	for _, c := range []struct {
		name, tool, args string
		want             approval.Do
		number           int
	}{
		{"the first rule that holds counts", "bash", `{"command":"ls"}`, approval.DoAllow, 0},
		{"denied", "bash", `{"command":"mkfs /dev/sda"}`, approval.DoDeny, 0},
		{"asked", "bash", args, approval.DoAsk, 3},
		{"a list names several tools", "exec", args, approval.DoAsk, 3},
		{"no rule holds", "bash", `{"command":"cat x","timeout":1}`, approval.DoAllow, 0},
		{"no rule speaks of it", "read", args, approval.DoAllow, 0},
		{"a pattern", "mcp__db__write_row", `{}`, approval.DoAsk, 4},
		{"a pattern does not match", "mcp__db__read", `{}`, approval.DoAllow, 0},
		{"a condition that cannot be told asks", "bash", `{}`, approval.DoAsk, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := approval.Judge([]*approval.Policy{policy}, approval.Tool{Name: c.tool}, json.RawMessage(c.args))
			if got.Do != c.want || c.number > 0 && (len(got.Asks) != 1 || got.Asks[0].Number != c.number) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// A pattern is not about what is a part of the loop itself: an agent whose tools all ask must be able to end.
func TestPatternsAreNotAboutTheLoopsOwnTools(t *testing.T) {
	for pattern, want := range map[string]approval.Do{
		"*": approval.DoAllow, "fin*": approval.DoAllow, "finish": approval.DoAsk,
	} {
		p := rules(rule(approval.DoAsk, "", pattern))
		got := approval.Judge([]*approval.Policy{p}, approval.Tool{Name: "finish", Own: true}, nil)
		if got.Do != want {
			t.Errorf("a rule about %s: %+v", pattern, got)
		}
		if got := approval.Judge([]*approval.Policy{p}, approval.Tool{Name: "finish"}, nil); got.Do != approval.DoAsk {
			t.Errorf("a rule about %s, of another's tool: %+v", pattern, got)
		}
	}
}

func TestConditionThatFailsIsSaid(t *testing.T) {
	p := rules(rule(approval.DoDeny, `args.missing == 1`, "bash"))
	got := approval.Judge([]*approval.Policy{p}, bash, json.RawMessage(`{"command":"x"}`))
	if got.Do != approval.DoAsk || !strings.Contains(got.Asks[0].Failed, "missing") {
		t.Errorf("got %+v", got)
	}
}

func TestConditionThatCostsTooMuchAsks(t *testing.T) {
	p := rules(rule(approval.DoAllow, `args.list.all(x, args.list.all(y, args.list.all(z, x + y + z >= 0)))`, "bash"))
	list := "[0" + strings.Repeat(",0", 2000) + "]"
	began := time.Now()
	got := approval.Judge([]*approval.Policy{p}, bash, json.RawMessage(`{"list":`+list+`}`))
	if got.Do != approval.DoAsk || !strings.Contains(got.Asks[0].Failed, "cost") {
		t.Errorf("got %+v", got)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestStrictestPolicyWins(t *testing.T) {
	allow := approval.NewPolicy("child", []approval.Rule{rule(approval.DoAllow, "", "*")})
	ask := approval.NewPolicy("parent", []approval.Rule{rule(approval.DoAsk, "", "bash")})
	deny := approval.NewPolicy("root", []approval.Rule{rule(approval.DoDeny, `args.command == "x"`, "bash")})
	judge := func(command string, all ...*approval.Policy) approval.Verdict {
		return approval.Judge(all, bash, json.RawMessage(`{"command":"`+command+`"}`))
	}
	if got := judge("x", allow, ask, deny); got.Do != approval.DoDeny || !strings.Contains(got.Why, "rule 1 of root") {
		t.Errorf("got %+v", got)
	}
	if got := judge("y", allow, ask, deny, ask); got.Do != approval.DoAsk || len(got.Asks) != 1 {
		t.Errorf("got %+v", got)
	}
	if got := judge("y", allow, nil); got.Do != approval.DoAllow {
		t.Errorf("got %+v", got)
	}
}

func TestCheck(t *testing.T) {
	schema := json.RawMessage(`{"type":"object","properties":{"command":{"type":"string"},"n":{"type":"integer"},
		"x":{"type":"number"}}}`)
	for _, c := range []struct {
		when   string
		schema []json.RawMessage
		want   string // a part of the problem, "" for none
		line   int
		column int
	}{
		{`args.command.startsWith("rm") && args.n > 1 && args.x > 1`, []json.RawMessage{schema}, "", 0, 0},
		{`has(args.command) && tool == "bash"`, []json.RawMessage{schema}, "", 0, 0},
		{`args.anything == 1`, nil, "", 0, 0},
		{`args.comand == "x"`, []json.RawMessage{schema}, "undefined field 'comand'", 1, 5},
		{"true &&\n  args.command > 3", []json.RawMessage{schema}, "no matching overload", 2, 16},
		{`args.command`, []json.RawMessage{schema}, "true or false", 1, 1},
		{`args.command ==`, nil, "Syntax error", 1, 16},
		{`request.user == "x"`, nil, "undeclared reference", 1, 1},
		{strings.Repeat("x", approval.MaxCondition+1), nil, "longer", 1, 1},
	} {
		got := approval.Check(c.when, c.schema)
		switch {
		case c.want == "" && len(got) > 0:
			t.Errorf("%.50s: %+v", c.when, got)
		case c.want != "" && (len(got) == 0 || !strings.Contains(got[0].Text, c.want) || got[0].Line != c.line ||
			got[0].Column != c.column):
			t.Errorf("%.50s: got %+v, want %q at %d:%d", c.when, got, c.want, c.line, c.column)
		}
	}
}

func TestWhoMayDecide(t *testing.T) {
	who := func(kind, role, token string) audit.Who { return audit.Who{Kind: kind, Role: role, TokenID: token} }
	subject := func(r approval.Rule, by ...model.Speaker) approval.Subject {
		return approval.Subject{Asks: []approval.Ask{{Agent: "a", Number: 1, Rule: r}}, Requesters: by}
	}
	user, approver := model.Speaker{TokenID: "u", Role: "user"}, model.Speaker{TokenID: "p", Role: "approver"}
	plain := approval.Rule{Tools: []string{"bash"}, Do: approval.DoAsk}
	other, admins, operators := plain, plain, plain
	other.Other = true
	admins.To = []string{"operator", "role:admin"}
	operators.To = []string{"operator"}
	for i, c := range []struct {
		subject approval.Subject
		who     audit.Who
		may     bool
	}{
		{subject(plain, approver), who("client", "approver", "p"), true},
		{subject(plain), who("client", "user", "u"), false},
		{subject(plain), who("client", "viewer", "v"), false},
		{subject(plain), who("executor", "", "e"), false},
		{subject(plain), who("client", "admin", "a"), true},
		{subject(plain), who("operator", "", "o"), true},
		{subject(admins), who("client", "approver", "p"), false},
		{subject(admins), who("client", "admin", "a"), true},
		{subject(operators), who("client", "admin", "a"), false},
		{subject(operators), who("operator", "", "o"), true},
		{subject(other, user), who("client", "approver", "p"), true},
		{subject(other, approver), who("client", "approver", "p"), false},
		{subject(other, approver), who("client", "approver", "p2"), false}, // the same role
		{subject(other, approver), who("client", "admin", "a"), true},
		{subject(other, user, approver), who("client", "approver", "p2"), false}, // one of several inputs
		{subject(other, model.Speaker{TokenID: "o"}), who("operator", "", "o"), false},
		{subject(other, model.Speaker{TokenID: "o"}), who("operator", "", "o2"), true},
		{subject(other, model.Speaker{}), who("operator", "", ""), false}, // --auth=none: nobody can be told apart
		{subject(other), who("client", "admin", "a"), false},
		{subject(other), who("operator", "", "o"), true},
	} {
		if err := c.subject.Allowed(c.who); (err == nil) != c.may {
			t.Errorf("case %d: %v", i, err)
		}
	}
}
