package agent

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/approval"
)

func TestParseReadsApprovalRules(t *testing.T) {
	got, err := parse(`---
model: a/b
tools: [bash, deploy, task]
approve:
  - {tool: read, do: allow}
  - tool: [bash, edit]
    when: args.command.startsWith("rm")
    do: ask
    to: [operator, role:approver]
    timeout: 30m
    on_timeout: allow
    other: true
  - {tool: mcp__*, do: deny}
  - {tool: deploy, when: 'args.target == "live"', do: ask}
---
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []approval.Rule{
		{Tools: []string{"read"}, Do: approval.DoAllow},
		{
			Tools: []string{"bash", "edit"}, When: `args.command.startsWith("rm")`, Do: approval.DoAsk,
			To: []string{"role:approver", "operator"}, Timeout: 30 * time.Minute, OnTimeout: approval.DoAllow,
			Other: true,
		},
		{Tools: []string{"mcp__*"}, Do: approval.DoDeny},
		{Tools: []string{"deploy"}, When: `args.target == "live"`, Do: approval.DoAsk},
	}
	if !reflect.DeepEqual(got.Approve, want) {
		t.Errorf("got %+v", got.Approve)
	}
	body, err := json.Marshal(got)
	var back Definition
	if err != nil || json.Unmarshal(body, &back) != nil || !reflect.DeepEqual(back.Approve, want) {
		t.Errorf("stored and read again: %+v, %v", back.Approve, err)
	}
}

func TestParseRefusesApprovalRules(t *testing.T) {
	for _, c := range []struct{ name, approve, want string }{
		{"no list", "approve: {tool: bash, do: ask}", "agents/x.md:4:10: approve: must be a list"},
		{"no tool", "approve:\n  - {do: ask}", "agents/x.md:5:5: approve.tool: is required"},
		{"no do", "approve:\n  - {tool: bash}", "agents/x.md:5:5: approve.do: is required"},
		{"another do", "approve:\n  - {tool: bash, do: maybe}", "approve.do: must be one of ask, allow, deny"},
		{"an unknown key", "approve:\n  - {tool: bash, do: ask, who: x}", "approve.who: unknown key"},
		{
			"a tool that there is not", "approve:\n  - {tool: bsh, do: ask}",
			"agents/x.md:5:12: approve.tool: the agent has no tool bsh",
		},
		{"no pattern", "approve:\n  - {tool: 'ba sh', do: ask}", "cannot be a tool's name"},
		{"an empty list", "approve:\n  - {tool: [], do: ask}", "names no tool"},
		{
			"a viewer", "approve:\n  - {tool: bash, do: ask, to: [role:viewer]}",
			"approve.to: must be one of role:approver",
		},
		{"nobody", "approve:\n  - {tool: bash, do: ask, to: []}", "names nobody"},
		{"to of a rule that allows", "approve:\n  - {tool: bash, do: allow, to: [operator]}", "is for rules that ask"},
		{"on_timeout alone", "approve:\n  - {tool: bash, do: ask, on_timeout: deny}", "needs a timeout"},
		{
			"a field", "approve:\n  - tool: bash\n    when: args.comand == \"x\"\n    do: ask",
			"agents/x.md:6:15: approve.when: undefined field 'comand'",
		},
		{
			"a field in quotes", "approve:\n  - tool: bash\n    when: 'args.comand == \"x\"'\n    do: ask",
			"agents/x.md:6:16: approve.when: undefined field 'comand'",
		},
		{
			"a field in a block", "approve:\n  - tool: bash\n    when: |\n      args.command == \"x\" ||\n" +
				"      args.comand == \"x\"\n    do: ask",
			"agents/x.md:8: approve.when: column 5 of the text: undefined field 'comand'",
		},
		{
			"a type", "approve:\n  - {tool: bash, do: ask, when: args.command}",
			"x.md:5:33: approve.when: must be true or false",
		},
		{"of several tools", "approve:\n  - {tool: [read, bash], do: ask, when: args.comand == 1}", "undefined field"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parse("---\nmodel: a/b\ntools: [read, bash]\n" + c.approve + "\n---\n")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestRulesMayNameToolsOfSubagents(t *testing.T) {
	src := "---\nmodel: a/b\ntools: [task]\nsubagents: [c]\napprove: [{tool: deploy, do: ask}]\n---\n"
	if _, err := parse(src); err != nil {
		t.Error(err)
	}
}

func TestRulesThatWaitForTooLong(t *testing.T) {
	d, err := parse("---\nmodel: a/b\nlimits: {timeout: 1h}\napprove:\n- {tool: bash, do: ask, timeout: 1h}\n" +
		"- {tool: bash, do: ask, timeout: 2h}\n---\n")
	if err != nil || !reflect.DeepEqual(d.Unreachable(), []int{2}) {
		t.Errorf("got %v, %v", d.Unreachable(), err)
	}
}
