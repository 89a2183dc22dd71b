package mcp

import (
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/tool"
)

func TestNames(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, c := range []struct{ server, prefix, tool, want string }{
		{"issues", "", "create_issue", "mcp__issues__create_issue"},
		{"issues", "", "issues.create/new v2", "mcp__issues__issues_create_new_v2"},
		{"issues", "", "_private_", "mcp__issues__private"},
		{"issues", "", "größe", "mcp__issues__gr__e"},
		{"issues", "gh_", "create_issue", "gh_create_issue"},
	} {
		d := Definition{Name: c.server, Prefix: c.prefix}
		if got := d.NameFor(c.tool); got != c.want || !tool.ValidName(got) {
			t.Errorf("%s of %s is %s, want %s", c.tool, c.server, got, c.want)
		}
	}
	d := Definition{Name: "issues"}
	first, second := d.NameFor(long+"1"), d.NameFor(long+"2")
	if len(first) != maxToolName || !tool.ValidName(first) || first == second {
		t.Errorf("long names are %s and %s", first, second)
	}
}

func TestWhichToolsAnAgentNames(t *testing.T) {
	issues := Definition{Name: "issues", Prefix: "gh_"}
	for _, c := range []struct {
		list []string
		want bool
	}{
		{[]string{"mcp__issues"}, true},
		{[]string{"bash", "mcp__issues__create_issue"}, true},
		{[]string{"mcp__issues__close_issue"}, false},
		{[]string{"mcp__issue"}, false},
		{[]string{"gh_create_issue"}, false},
	} {
		if got := issues.Named(c.list, "create_issue"); got != c.want {
			t.Errorf("%v: %v", c.list, got)
		}
	}
	for entry, want := range map[string]string{
		"mcp__a": "a", "mcp__a-b__c__d": "a-b", "mcp__": "", "bash": "bash",
	} {
		server, ok := ServerOf(entry)
		if ok != (entry != "bash") || ok && server != want {
			t.Errorf("%s stands for %q, %v", entry, server, ok)
		}
	}
}
