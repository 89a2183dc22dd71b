package mcp

import (
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/tool"
)

func lookup(name string) (string, bool) {
	value, ok := map[string]string{"KEY": "key-value", "SECRET": "secret-value", "PATH": "/bin"}[name]
	return value, ok
}

func TestAServerOverHTTP(t *testing.T) {
	const file = `
url: https://mcp.example.com/v1/mcp
headers:
  x-team: platform
  X-Key: "k ${KEY}"
auth: {bearer: "${SECRET}"}
networks: [10.0.0.0/8, 192.168.1.7]
tools: [search, create_issue]
timeout: 90s
safety: {search: pure, "*": idempotent}
prefix: gh_
`
	d, err := Parse("issues", "mcp/issues.yaml", []byte(file), lookup)
	if err != nil {
		t.Fatal(err)
	}
	want := Definition{
		Name: "issues", HTTP: &HTTP{
			URL:     "https://mcp.example.com/v1/mcp",
			Headers: map[string]string{"X-Team": "platform", "X-Key": "k ${KEY}"},
			Bearer:  "${SECRET}",
			Networks: []netip.Prefix{
				netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.168.1.7/32"),
			},
		},
		Tools: []string{"create_issue", "search"}, Timeout: 90 * time.Second,
		Safety: map[string]tool.Safety{"search": tool.Pure, "*": tool.Idempotent}, Prefix: "gh_",
	}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("got %+v\nwant %+v", d, want)
	}
	templates := map[string]string{
		"headers.X-Team": "platform", "headers.X-Key": "k ${KEY}", "auth.bearer": "${SECRET}",
	}
	if got := d.Templates(); !maps.Equal(got, templates) {
		t.Errorf("the templates are %q", got)
	}
	expanded, err := d.Expand(lookup)
	if err != nil || expanded.HTTP.Bearer != "secret-value" || expanded.HTTP.Headers["X-Key"] != "k key-value" {
		t.Errorf("expanded to %+v, %v", expanded.HTTP, err)
	}
	body, err := json.Marshal(d)
	if err != nil || d.HTTP.Bearer != "${SECRET}" || strings.Contains(string(body), "value") {
		t.Errorf("the definition has a secret: %s, %v", body, err)
	}
	var stored Definition
	if err := json.Unmarshal(body, &stored); err != nil || !reflect.DeepEqual(stored, d) ||
		stored.Digest() != d.Digest() {
		t.Errorf("the stored definition is another one: %v", err)
	}
	if d.SafetyOf("search") != tool.Pure || d.SafetyOf("x") != tool.Idempotent ||
		(Definition{}).SafetyOf("x") != tool.AtMostOnce {
		t.Error("the safety is another one")
	}
	none := func(string) (string, bool) { return "", false }
	if _, err := d.Expand(none); !errors.Is(err, ErrVariable) ||
		!strings.Contains(err.Error(), "headers.X-Key: variable KEY is not set; auth.bearer: variable SECRET") {
		t.Error(err)
	}
}

func TestAServerWithClientCredentials(t *testing.T) {
	const file = "url: https://a.test/mcp\nauth: {client_id: \"${KEY}\", client_secret: \"${SECRET}\", " +
		"token_url: https://login.test/token, scopes: [read, write]}\n"
	d, err := Parse("a", "mcp/a.yaml", []byte(file), lookup)
	want := &OAuth{
		TokenURL: "https://login.test/token", ID: "${KEY}", Secret: "${SECRET}", Scopes: []string{"read", "write"},
	}
	if err != nil || !reflect.DeepEqual(d.HTTP.OAuth, want) {
		t.Errorf("got %+v, %v", d.HTTP, err)
	}
	e, err := d.Expand(lookup)
	if err != nil || e.HTTP.OAuth.Secret != "secret-value" || d.HTTP.OAuth.Secret != "${SECRET}" {
		t.Errorf("got %+v, %v", e.HTTP.OAuth, err)
	}
}

func TestAServerThatIsACommand(t *testing.T) {
	const file = "command: npx\nargs: [-y, server, -y]\nenv: {TOKEN: \"${SECRET}\", HOME: \"${PATH}\"}\ncwd: sub\n"
	d, err := Parse("a", "mcp/a.yaml", []byte(file), lookup)
	want := &Command{
		Program: "npx", Args: []string{"-y", "server", "-y"}, Cwd: "sub",
		Env: map[string]string{"TOKEN": "${SECRET}", "HOME": "${PATH}"},
	}
	if err != nil || !reflect.DeepEqual(d.Command, want) || d.HTTP != nil {
		t.Errorf("got %+v, %v", d.Command, err)
	}
	if got := d.Templates(); !maps.Equal(got, map[string]string{"env.TOKEN": "${SECRET}", "env.HOME": "${PATH}"}) {
		t.Errorf("the templates are %q", got)
	}
}

// An operator who names an address by the URL may mean it.
func TestAnAddressThatTheURLNames(t *testing.T) {
	for text, want := range map[string][]string{
		"http://127.0.0.1:8080/mcp": {"127.0.0.1/32"},
		"http://localhost:1/mcp":    {"127.0.0.0/8", "::1/128"},
		"https://10.1.2.3/mcp":      {"10.1.2.3/32"},
		"https://[fd00::1]/mcp":     {"fd00::1/128"},
		"https://8.8.8.8/mcp":       nil,
		"https://example.com/mcp":   nil,
	} {
		d, err := Parse("a", "a.yaml", []byte("url: \""+text+"\""), nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range d.HTTP.Networks {
			got = append(got, n.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v", text, got)
		}
	}
	d, err := Parse("a", "a.yaml", []byte("url: https://a.test\nauth: {client_id: x, client_secret: y, token_url: "+
		"\"http://localhost:1/token\"}"), nil)
	if err != nil || len(d.HTTP.Networks) != 2 {
		t.Errorf("a server of tokens on this machine: %v, %v", d.HTTP, err)
	}
}

func TestDefinitionsThatCannotBe(t *testing.T) {
	const either = "a.yaml:1:1: must have either url, of a server that control calls, or command, of one that runs " +
		"on " +
		"the executor of the session"
	for file, want := range map[string]string{
		"":                                either,
		"url: https://a.test\ncommand: x": either,
		"timeout: 5s":                     either,
		"url: ftp://a.test": "a.yaml:1:6: url: must be an http or https URL without a user, a password and " +
			"a fragment",
		"url: https://u:p@a.test": "a.yaml:1:6: url: must be an http or https URL without a user, a password and " +
			"a fragment",
		"url: http://a.test": "a.yaml:1:6: url: must be https: over http everybody on the way reads what " +
			"is said, and answers",
		"url: https://a.test\nargs: [a]":             "a.yaml:2:1: args: does not go with url",
		"command: x\nauth: {bearer: x}":              "a.yaml:2:1: auth: does not go with command",
		"url: https://a.test\nheaders: {Accept: x}":  "a.yaml:2:11: headers.Accept: is set by the protocol",
		"url: https://a.test\nheaders: {mcp-a: x}":   "a.yaml:2:11: headers.mcp-a: is set by the protocol",
		"url: https://a.test\nheaders: {\"a b\": x}": "a.yaml:2:11: headers.a b: cannot be the name of a header",
		"url: https://a.test\nauth: {}": "a.yaml:2:7: auth: must have either bearer, or client_id, client_secret " +
			"and token_url",
		"url: https://a.test\nauth: {client_id: x}": "a.yaml:2:7: auth: needs client_id, client_secret and " +
			"token_url",
		"url: https://a.test\nauth: {client_id: x, client_secret: y, token_url: \"http://b.test\"}": "a.yaml:2:51: " +
			"auth.token_url: must be https: over http everybody on the way reads what is said, and answers",
		"url: https://a.test\nauth: {bearer: ${NOPE}}": "a.yaml:2: not valid YAML: did not find expected ',' or '}'",
		"url: https://a.test\nauth: {bearer: \"${NOPE}\"}": "a.yaml:2:16: auth.bearer: variable NOPE is not set in " +
			"the " +
			"environment of control",
		"url: https://a.test\nnetworks: [ten]": "a.yaml:2:12: networks: must be networks or addresses, such as " +
			"10.0.0.0/8 or 192.168.1.7",
		"command: x\ntools: []": "a.yaml:2:8: tools: must name a tool; leave it out to allow all",
		"command: x\nsafety: {a: safe}": "a.yaml:2:13: safety.a: must be one of pure, idempotent, at_most_once, " +
			"got \"safe\"",
		"command: x\nprefix: \"a.b\"": "a.yaml:2:9: prefix: must have letters, digits, _ and -",
		"command: x\ntimeout: 25h":    "a.yaml:2:10: timeout: must be at most 24h0m0s",
		"command: x\nenv: {\"a-b\": c}": "a.yaml:2:7: env.a-b: cannot be a variable's name: letters, digits and _, " +
			"not beginning with a digit",
		"command: x\nargs: y": "a.yaml:2:7: args: must be a list, got text",
		"command: \" \"":      "a.yaml:1:10: command: must not be empty",
		"command: x\nurls: y": "a.yaml:2:1: urls: unknown key; there are url, headers, auth, networks, command, " +
			"args, env, cwd, tools, timeout, safety, prefix",
		"command: x\nenv: {A: \"${SECRET\"}": "a.yaml:2:10: env.A: ${ must be followed by the name of a variable " +
			"and }; write $${ for a literal ${",
	} {
		_, err := Parse("a", "a.yaml", []byte(file), lookup)
		if err == nil || err.Error() != want || !errors.Is(err, ErrInvalid) {
			t.Errorf("%q:\n got %v\nwant %s", file, err, want)
		}
	}
	for _, name := range []string{"A", "a_b", "a--b", "-a", "", strings.Repeat("a", 33), "a.b"} {
		if _, err := Parse(name, "a.yaml", []byte("command: x"), nil); err == nil {
			t.Errorf("%q can be a name", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("url: https://a.test/mcp\nheaders: {a: b}\nauth: {bearer: \"${KEY}\"}\nnetworks: [10.0.0.0/8]")
	f.Add("command: x\nargs: [a]\nenv: {A: b}\nsafety: {a: pure}")
	f.Fuzz(func(t *testing.T, file string) {
		d, err := Parse("a", "a.yaml", []byte(file), lookup)
		if err == nil && (d.HTTP == nil) == (d.Command == nil) {
			t.Errorf("neither or both: %+v", d)
		}
		if err != nil && strings.Contains(err.Error(), "secret-value") {
			t.Errorf("an error has a secret: %v", err)
		}
	})
}
