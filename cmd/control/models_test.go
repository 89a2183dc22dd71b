package main

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What is known of models is listed, with the names of the variables that hold their keys and never what is in these.
func TestModelsAreListed(t *testing.T) {
	const key = "sk-very-secret-key-1"
	t.Setenv("LOCAL_KEY", key)
	t.Setenv("ANTHROPIC_API_KEY", "")
	data := t.TempDir()
	file := write(t, "local:\n  api: openai-chat\n  base_url: http://127.0.0.1:1/v1\n  key_env: LOCAL_KEY\n  models:\n"+
		"    mine: {window: 1000, max_output: 100, images: true, price: {input: 2, output: 8}}\n",
		data, "providers.yaml")
	write(t, "---\nmodel: [local/other, anthropic/claude-sonnet-4-6]\nsandbox: none\n---\nHelp.\n",
		data, "agents", "a.md")
	s := start(t, data, "--providers", file, "--agents", filepath.Join(data, "agents"), "--executor", "none")
	table, _, err := invoke(t, "models", "list", "--data", data)
	for _, row := range []string{
		`anthropic/claude-sonnet-4-6 +\d+ +yes +\S+ +3/15 +0\.3/3\.75 +ANTHROPIC_API_KEY \(not set\) ` +
			`+model anthropic.*`,
		`local/mine +1000 +yes +\? +2/8 +0/0 +LOCAL_KEY \(set\) +-`,
		`local/other +\? +\? +\? +\? +\? +LOCAL_KEY \(set\) +-`,
		`offline/shell +\? +\? +\? +\? +\? +none +-`,
	} {
		if err != nil || !regexp.MustCompile("(?m)^"+row+"$").MatchString(table) {
			t.Errorf("%v: no row is %s:\n%s", err, row, table)
		}
	}
	out, _, err := invoke(t, "models", "list", "--provider", "anthropic", "-o", "json", "--data", data)
	if err != nil || strings.Count(out, `"anthropic/claude-`) < 5 || strings.Contains(out, "local/") ||
		!json.Valid([]byte(strings.SplitN(out, "\n{", 2)[0])) && !json.Valid([]byte(out)) {
		t.Errorf("%v, %s", err, out)
	}
	_, said, err := invoke(t, "models", "list", "--provider", "antropic", "--data", data)
	if err == nil || !strings.Contains(said, `no models are known of a provider "antropic"`) {
		t.Errorf("%v, %s", err, said)
	}
	if !strings.Contains(out, `"search": 10`) && !strings.Contains(out, `"search":10`) {
		t.Errorf("no price of a search: %s", out)
	}
	shown, _, err := invoke(t, "agents", "get", "a", "--data", data)
	if err != nil || !regexp.MustCompile(`(?m)^fallbacks: +anthropic/claude-sonnet-4-6$`).MatchString(shown) {
		t.Errorf("%v, %s", err, shown)
	}
	if strings.Contains(table+out+s.log.String(), key) {
		t.Error("a key is told")
	}
}
