package agent

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/model"
)

const full = `---
# a comment
model: openrouter/anthropic/claude-sonnet-4-6
description: Reviews a change and reports findings.
thinking: off
sandbox: {executor: {labels: {gpu: "a100", zone/eu: b}}}
cwd: work/tree
env:
  CI: "true"
  TOKEN: "Bearer ${GITHUB_TOKEN}"
  PAGER: null
tools: [task, bash, read]
subagents: [writer, researcher]
limits: {turns: 7, tokens: 2_000_000, cost_usd: 5, timeout: 90m, attempts: 3, calls: 20}
expose: [websocket, http]
---

You are a reviewer.
---
Be brief.

`

func parse(src string) (Definition, error) { return Parse("x", "agents/x.md", []byte(src), nil, nil) }

func TestParseReadsEveryKey(t *testing.T) {
	got, err := parse(full)
	if err != nil {
		t.Fatal(err)
	}
	want := Definition{
		Name:        "x",
		Description: "Reviews a change and reports findings.",
		Model:       model.Ref{Provider: "openrouter", ID: "anthropic/claude-sonnet-4-6"},
		Thinking:    model.ThinkingOff,
		Sandbox:     Sandbox{Kind: SandboxExecutor, Labels: map[string]string{"gpu": "a100", "zone/eu": "b"}},
		Cwd:         "work/tree",
		Env:         Env{"CI": new("true"), "TOKEN": new("Bearer ${GITHUB_TOKEN}"), "PAGER": nil},
		Tools:       []string{"read", "bash", "task"},
		Subagents:   []string{"writer", "researcher"},
		Limits: Limits{
			Turns: 7, Tokens: 2_000_000, CostUSD: 5, Timeout: 90 * time.Minute, Attempts: 3, Calls: 20,
		},
		Expose:       []Surface{HTTP, WebSocket},
		Instructions: "You are a reviewer.\n---\nBe brief.",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %#v\nwant %#v", got, want)
	}
}

func TestParseFillsInDefaults(t *testing.T) {
	for name, src := range map[string]string{
		"plain":            "---\nmodel: offline/shell\n---\n",
		"no body":          "---\nmodel: offline/shell\n---",
		"windows, BOM":     "\ufeff---\r\nmodel: offline/shell\r\n--- \r\n",
		"executor's local": "---\nmodel: offline/shell\nsandbox: local\n---\n",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parse(src)
			if err != nil {
				t.Fatal(err)
			}
			want := Definition{
				Name:    "x",
				Model:   model.Ref{Provider: "offline", ID: "shell"},
				Sandbox: Sandbox{Kind: SandboxLocal},
				Cwd:     ".",
				Tools:   []string{"read", "write", "edit", "bash", "grep", "glob", "task"},
				Limits:  Limits{Turns: 100, Timeout: time.Hour, Attempts: 10},
				Expose:  []Surface{HTTP, WebSocket},
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %#v\nwant %#v", got, want)
			}
		})
	}
}

func TestParseEmptyLists(t *testing.T) {
	d, err := parse("---\nmodel: a/b\ntools: []\nexpose: []\n---\n")
	if err != nil || d.Tools == nil || len(d.Tools) != 0 || d.Expose == nil || len(d.Expose) != 0 {
		t.Errorf("got %#v, %v", d, err)
	}
}

func TestParseWithoutSandboxHasTheToolsThatNeedNone(t *testing.T) {
	d, err := parse("---\nmodel: a/b\nsandbox: none\n---\n")
	if err != nil || d.Sandbox.Kind != SandboxNone || !slices.Equal(d.Tools, []string{"task"}) {
		t.Errorf("got %#v, %v", d, err)
	}
	d, err = parse("---\nmodel: a/b\nsandbox: none\ntools: [task]\n---\n")
	if err != nil || len(d.Tools) != 1 {
		t.Errorf("task needs no sandbox: got %#v, %v", d, err)
	}
}

// Several models are the first and those that are asked when it cannot be. A list of one is that one.
func TestParseModels(t *testing.T) {
	one, err := parse("---\nmodel: a/b\n---\n")
	if err != nil {
		t.Fatal(err)
	}
	listed, err := parse("---\nmodel: [a/b]\n---\n")
	if err != nil || listed.Digest() != one.Digest() {
		t.Errorf("a list of one is %+v, %v", listed, err)
	}
	all, err := parse("---\nmodel: [a/b, c/d]\n---\n")
	if err != nil || len(all.Fallbacks) != 1 || all.Fallbacks[0].String() != "c/d" || all.Model.String() != "a/b" ||
		all.Digest() == one.Digest() {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestParseThinkingLevels(t *testing.T) {
	for _, level := range []model.Thinking{"off", "minimal", "low", "medium", "high", "xhigh"} {
		d, err := parse("---\nmodel: a/b\nthinking: " + string(level) + "\n---\n")
		if err != nil || d.Thinking != level {
			t.Errorf("%s: got %q, %v", level, d.Thinking, err)
		}
	}
}

// The front matter is given without its first lines; the model is line 2, so the first line of each case is line 3.
func TestParseRefuses(t *testing.T) {
	long := strings.Repeat("d", 1025)
	for name, c := range map[string]struct{ front, want string }{
		"unknown key": {"modle: a/b", "3:1: modle: unknown key; there are model, description, thinking, sandbox, " +
			"cwd, " +
			"env, tools, search, skills, plugins, subagents, compaction, limits, expose, approve, tenants"},
		"unknown nested key": {
			"limits:\n  turn: 3",
			"4:3: limits.turn: unknown key; there are turns, tokens, cost_usd, timeout, attempts, calls",
		},
		"merge key": {"<<: {cwd: a}", "3:1: <<: unknown key; there are model, description, thinking, " +
			"sandbox, cwd, env, tools, search, skills, plugins, subagents, compaction, limits, expose, approve, " +
			"tenants"},
		"key twice":     {"cwd: a\ncwd: b", "4:1: cwd: is given twice"},
		"env key twice": {"env: {A: a, A: b}", "3:13: env.A: is given twice"},
		"number as key": {"1: a", "3:1: keys must be text, got a number"},
		"key that breaks lines": {"\"a\\nb\": c", "3:1: a?b: unknown key; there are model, description, thinking, " +
			"sandbox, cwd, env, tools, search, skills, plugins, subagents, compaction, limits, expose, approve, " +
			"tenants"},
		"description number":  {"description: 5", "3:14: description: must be text, got a number; put it in quotes"},
		"description empty":   {"description:", "3:13: description: must be text, got nothing"},
		"description list":    {"description: [a]", "3:14: description: must be text, got a list"},
		"description long":    {"description: " + long, "3:14: description: must have at most 1024 characters"},
		"description control": {`description: "a\eb"`, "3:14: description: must not contain control characters"},
		"description date": {"description: 2026-01-01", "3:14: description: must be text, got a date; put it in " +
			"quotes"},
		"thinking": {
			"thinking: hard",
			`3:11: thinking: must be one of off, minimal, low, medium, high, xhigh, got "hard"`,
		},
		"thinking bool":  {"thinking: true", "3:11: thinking: must be text, got true or false; put it in quotes"},
		"subagents text": {"subagents: researcher", "3:12: subagents: must be a list, got text"},
		"subagent twice": {"subagents: [b, b]\ntools: [task]", "3:16: subagents: b is given twice"},
		"subagent's name": {
			"subagents:\n - researcher\n - a/b\ntools: [task]", `5:4: subagents: "a/b" cannot be an agent's name`,
		},
		"subagent, number": {
			"subagents: [1]\ntools: [task]", "3:13: subagents: must be text, got a number; put it in quotes",
		},
		"no task for subagents": {
			"tools: [read]\nsubagents: [b]", "4:1: subagents: are never asked: tools does not name task",
		},
		"compaction":       {"compaction: on", `3:13: compaction: must be one of off, got "on"`},
		"sandbox word":     {"sandbox: docker", `3:10: sandbox: must be one of local, none, got "docker"`},
		"sandbox list":     {"sandbox: [local]", "3:10: sandbox: must be text, got a list"},
		"sandbox provider": {"sandbox: {provider: e2b, template: x}", "3:11: sandbox.provider: not yet supported"},
		"sandbox empty":    {"sandbox: {}", "3:10: sandbox: must be local, none or {executor: {labels: {…}}}"},
		"executor without labels": {"sandbox:\n  executor: {labels: {}}", "4:13: sandbox.executor: must have labels " +
			"that say which executors will do"},
		"executor text": {"sandbox: {executor: any}", "3:21: sandbox.executor: must have labels that say " +
			"which executors will do|3:21: sandbox.executor: must be a mapping of keys to values, got text"},
		"executor unknown": {"sandbox: {executor: {labels: {a: b}, id: c}}", "3:38: sandbox.executor.id: unknown " +
			"key; there are labels"},
		"label number": {"sandbox: {executor: {labels: {gpu: 4}}}", "3:36: sandbox.executor.labels.gpu: must " +
			"be text, got a number; put it in quotes"},
		"label empty": {`sandbox: {executor: {labels: {gpu: ""}}}`, "3:36: sandbox.executor.labels.gpu: " +
			"must not be empty"},
		"label name": {`sandbox: {executor: {labels: {"g u": a}}}`, "3:31: sandbox.executor.labels.g u: " +
			"cannot be a label: it must begin with a letter or digit and have at most 63 letters, digits and . _ / -"},
		"label long": {
			"sandbox: {executor: {labels: {gpu: " + strings.Repeat("a", 257) + "}}}",
			"3:36: sandbox.executor.labels.gpu: must have at most 256 characters",
		},
		"cwd empty": {`cwd: " "`, "3:6: cwd: must not be empty"},
		"cwd lines": {`cwd: "a\nb"`, "3:6: cwd: must not contain line breaks or tabs"},
		"cwd long":  {"cwd: " + strings.Repeat("a", 4097), "3:6: cwd: must have at most 4096 characters"},
		"env list":  {"env: [A]", "3:6: env: must be a mapping of keys to values, got a list"},
		"env bool":  {"env: {CI: true}", "3:11: env.CI: must be text, got true or false; put it in quotes"},
		"env name": {"env: {A-B: c}", "3:7: env.A-B: cannot be a variable's name: letters, digits and " +
			"_, not beginning with a digit"},
		"env long": {
			"env: {A: " + strings.Repeat("a", 32*1024+1) + "}",
			"3:10: env.A: must have at most 32768 characters",
		},
		"env open reference": {"env: {A: \"${B\"}", "3:10: env.A: ${ must be followed by the name of a variable " +
			"and }; write $${ for a literal ${"},
		"env shell reference": {"env: {A: \"${B:-c}\"}", "3:10: env.A: ${ must be followed by the name of a " +
			"variable and }; write $${ for a literal ${"},
		"tool": {
			"tools:\n  - read\n  - re ed",
			`5:5: tools: "re ed" cannot be a tool's name: it must have 1 to 64 letters, digits, _ and -`,
		},
		"tool twice":           {"tools: [read, read]", "3:15: tools: read is given twice"},
		"tools text":           {"tools: read", "3:8: tools: must be a list, got text"},
		"tools of numbers":     {"tools: [1]", "3:9: tools: must be text, got a number; put it in quotes"},
		"tool twice, offered":  {"tools: [a, executor/a]", "3:12: tools: a is given twice"},
		"tool offered, twice":  {"tools: [executor/a, a]", "3:21: tools: a is given twice"},
		"built in and offered": {"tools: [executor/bash]", "3:9: tools: no executor can offer bash: the name is taken"},
		"a server's, offered": {
			"tools: [executor/mcp__a__b]", "3:9: tools: no executor can offer mcp__a__b: the name is taken",
		},
		"offered by nobody": {
			"tools: [executor/]",
			`3:9: tools: "" cannot be a tool's name: it must have 1 to 64 letters, digits, _ and -`,
		},
		"offered, no sandbox": {
			"sandbox: none\ntools: [executor/a]", "4:1: tools: need a sandbox, and sandbox is none",
		},
		"tools without sandbox": {"sandbox: none\ntools: [read]", "4:1: tools: need a sandbox, and sandbox is none"},
		"turns zero":            {"limits: {turns: 0}", "3:17: limits.turns: must be positive and at most 2147483647"},
		"turns huge": {"limits: {turns: 2147483648}", "3:17: limits.turns: must be positive and at most " +
			"2147483647"},
		"turns fraction": {"limits: {turns: 1.5}", "3:17: limits.turns: must be a whole number, got a number"},
		"turns text":     {`limits: {turns: "3"}`, "3:17: limits.turns: must be a whole number, got text"},
		"tokens": {"limits: {tokens: -1}", "3:18: limits.tokens: must be positive and at most " +
			"9223372036854775807"},
		"tokens overflow": {"limits: {tokens: 9223372036854775808}", "3:18: limits.tokens: must be a whole " +
			"number, got a number"},
		"cost zero": {"limits: {cost_usd: 0}", "3:20: limits.cost_usd: must be positive"},
		"cost nan":  {"limits: {cost_usd: .nan}", "3:20: limits.cost_usd: must be positive"},
		"cost inf":  {"limits: {cost_usd: .inf}", "3:20: limits.cost_usd: must be positive"},
		"cost text": {"limits: {cost_usd: $5}", "3:20: limits.cost_usd: must be a number, got text"},
		"timeout number": {"limits: {timeout: 60}", "3:19: limits.timeout: must be a duration, such as 30m or " +
			"1h, got a number"},
		"timeout text": {"limits: {timeout: soon}", "3:19: limits.timeout: must be a duration, such as 30m " +
			"or 1h"},
		"timeout negative": {"limits: {timeout: -1h}", "3:19: limits.timeout: must be positive"},
		"attempts": {"limits: {attempts: 0}", "3:20: limits.attempts: must be positive and at most " +
			"2147483647"},
		"calls":       {"limits: {calls: 0}", "3:17: limits.calls: must be positive and at most 1000"},
		"calls huge":  {"limits: {calls: 1001}", "3:17: limits.calls: must be positive and at most 1000"},
		"limits list": {"limits: [1]", "3:9: limits: must be a mapping of keys to values, got a list"},
		"expose":      {"expose: [grpc]", `3:10: expose: must be one of http, websocket, got "grpc"`},
		"expose null": {"expose:", "3:8: expose: must be a list, got nothing"},
		"anchor":      {"cwd: &a b", "3:6: anchors and aliases are not allowed"},
		"alias": {"env: &a {A: b}\nlimits: *a", "3:6: anchors and aliases are not allowed|4:9: anchors " +
			"and aliases are not allowed"},
		"tag":               {"cwd: !!str 5", "3:6: tags are not allowed"},
		"own tag":           {"env: !x {A: b}", "3:6: tags are not allowed"},
		"not YAML":          {"cwd: [a", "3: not valid YAML: did not find expected ',' or ']'"},
		"not YAML, scanner": {"cwd: \"a", "3: not valid YAML: found unexpected end of stream"},
		"not YAML, block":   {"env:\n  - a\n  b: c", "4: not valid YAML: did not find expected '-' indicator"},
		"not YAML, map":     {"limits: {turns: 1", "3: not valid YAML: did not find expected ',' or '}'"},
		"unknown alias":     {"cwd: *a", "1: not valid YAML: unknown anchor 'a' referenced"},
		"tab":               {"env:\n\tA: b", "4: not valid YAML: found character that cannot start any token"},
		"second document":   {"--- {model: b/c}", "3:1: front matter must be a single YAML document"},
		"after the end":     {"...\nmodel: b/c", "4: not valid YAML: did not find expected <document start>"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := parse("---\nmodel: a/b\n" + c.front + "\n---\nBody\n")
			check(t, err, "agents/x.md:", c.want)
			if !reflect.DeepEqual(d, Definition{}) {
				t.Errorf("a refused definition must be empty, got %#v", d)
			}
		})
	}
}

func TestParseRefusesFiles(t *testing.T) {
	required := ":1:1: model: is required: the model as provider/id"
	noFront := ":1:1: must begin with front matter: YAML between two lines of ---"
	bad := ":2:8: model: must be provider/id, such as anthropic/claude-sonnet-4-6"
	for name, c := range map[string]struct{ src, want string }{
		"empty":              {"", noFront},
		"no front matter":    {"You are.", noFront},
		"not closed":         {"---\nmodel: a/b\n", noFront},
		"text before":        {"\n---\nmodel: a/b\n---\n", noFront},
		"empty front matter": {"---\n---\nbody", required},
		"comments only":      {"---\n# nothing\n---\nbody", required},
		"no model":           {"---\ncwd: a\n---\n", required},
		"also no model": {"---\ncwd: 5\n---\n", required + "|:2:6: cwd: must be text, got a number; put it in " +
			"quotes"},
		"no mapping":        {"---\n- a\n---\n", required + "|:2:1: must be a mapping of keys to values, got a list"},
		"models, none":      {"---\nmodel: []\n---\n", ":2:8: model: must name at least one model"},
		"models, twice":     {"---\nmodel: [a/b, a/b]\n---\n", ":2:14: model: a/b is given twice"},
		"models, one is no": {"---\nmodel: [a/b, c]\n---\n", strings.Replace(bad, ":8", ":14", 1)},
		"models, many": {
			"---\nmodel: [a/1, a/2, a/3, a/4, a/5, a/6]\n---\n", ":2:8: model: must name at most 5 models",
		},
		"model no slash":    {"---\nmodel: gpt\n---\n", bad},
		"model no provider": {"---\nmodel: /gpt\n---\n", bad},
		"model no id":       {"---\nmodel: openai/\n---\n", bad},
		"model with blank":  {"---\nmodel: openai/g pt\n---\n", bad},
		"model provider":    {"---\nmodel: Open AI/gpt\n---\n", bad},
		"model long": {
			"---\nmodel: a/" + strings.Repeat("b", 199) + "\n---\n",
			":2:8: model: must have at most 200 characters",
		},
		"large": {
			"---\nmodel: a/b\n---\n" + strings.Repeat("x", document.MaxFile),
			": is larger than 1 MiB",
		},
		"not UTF-8": {"---\nmodel: a/b\n---\n\xff", ": is not UTF-8"},
		"NUL":       {"---\nmodel: a/b\n---\n\x00", ": contains a NUL character"},
		"order": {
			"---\nthinking: x\nmodel: x\n---\n",
			`:2:11: thinking: must be one of off, minimal, low, medium, high, xhigh, got "x"|` +
				`:3:8: model: must be provider/id, such as anthropic/claude-sonnet-4-6`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(c.src)
			check(t, err, "agents/x.md", c.want)
		})
	}
}

func TestParseSortsProblemsByLine(t *testing.T) {
	_, err := parse("---\nmodel: a/b\nsandbox: none\ntools: [bash]\ncwd: 5\n---\n")
	check(t, err, "agents/x.md:", "4:1: tools: need a sandbox, and sandbox is none|5:6: cwd: must be text, got a "+
		"number; "+
		"put it in quotes")
}

func TestParseRefusesNames(t *testing.T) {
	for _, name := range []string{"", "1a", "a b", "a:b", "../a", "a.b", strings.Repeat("a", 65)} {
		if _, err := Parse(name, "f", []byte("---\nmodel: a/b\n---\n"), nil, nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: got %v", name, err)
		}
	}
	for _, name := range []string{"a", "A1_b-c", strings.Repeat("a", 64)} {
		if _, err := Parse(name, "f", []byte("---\nmodel: a/b\n---\n"), nil, nil); err != nil {
			t.Errorf("%q: got %v", name, err)
		}
	}
}

func TestParseTakesAFileOfExactlyTheLimit(t *testing.T) {
	head := "---\nmodel: a/b\n---\n"
	if _, err := parse(head + strings.Repeat("x", document.MaxFile-len(head))); err != nil {
		t.Error(err)
	}
}

func TestParseRefusesAliasBombQuickly(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		p := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+p+",", 9) + "]\n"
	}
	if _, err := parse("---\n" + bomb + "---\n"); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestParseChecksVariables(t *testing.T) {
	src := "---\nmodel: a/b\nenv:\n  A: ${SET}\n  B: x${UNSET}\n---\n"
	set := func(name string) (string, bool) { return "", name == "SET" }
	_, err := Parse("x", "x.md", []byte(src), set, nil)
	check(t, err, "x.md:", "5:6: env.B: variable UNSET is not set in the environment of control")
	if _, err := Parse("x", "x.md", []byte(src), nil, nil); err != nil {
		t.Errorf("without a lookup: %v", err)
	}
}

func TestDefinitionSurvivesJSON(t *testing.T) {
	none, err := parse("---\nmodel: a/b\nsandbox: none\nexpose: []\nenv: {}\n---\n")
	if err != nil {
		t.Fatal(err)
	}
	whole, err := parse(full)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []Definition{none, whole, Shell()} {
		raw, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var back Definition
		if err := json.Unmarshal(raw, &back); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(d, back) || d.Digest() != back.Digest() {
			t.Errorf("got  %#v\nwant %#v", back, d)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(full)
	f.Add("---\nmodel: a/b\nsandbox: none\nenv: {A: \"$${x} ${Y}\"}\n---\nbody")
	f.Add("---\n? [a]\n: b\n<<: *x\n---")
	f.Add("---\nmodel: !!binary a\nlimits: {turns: 0x7f, cost_usd: .inf, timeout: 1h}\n...\n---\n")
	f.Fuzz(func(t *testing.T, src string) {
		d, err := parse(src)
		if err != nil {
			for _, line := range strings.Split(err.Error(), "\n") {
				if !strings.HasPrefix(line, "agents/x.md:") {
					t.Fatalf("a problem must be one line with the file's name, got %q", err)
				}
			}
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("got %v", err)
			}
			return
		}
		raw, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var back Definition
		if err := json.Unmarshal(raw, &back); err != nil || !reflect.DeepEqual(d, back) || back.Digest() != d.Digest() {
			t.Fatalf("got  %#v, %v\nwant %#v", back, err, d)
		}
		if d.Model.ID == "" || d.Limits.Turns <= 0 || d.Limits.Timeout <= 0 || d.Limits.Attempts <= 0 || d.Cwd == "" {
			t.Fatalf("incomplete: %#v", d)
		}
		if _, err := d.Env.Expand(func(string) (string, bool) { return "v", true }); err != nil {
			t.Fatalf("env that was accepted must expand: %v", err)
		}
	})
}

// check compares the lines of an error, which want gives separated by | and without the prefix.
func check(t *testing.T, err error, prefix, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", want)
	}
	if !errors.Is(err, ErrInvalid) {
		t.Errorf("%v is not ErrInvalid", err)
	}
	lines := strings.Split(want, "|")
	for i := range lines {
		lines[i] = prefix + lines[i]
	}
	if got, want := err.Error(), strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestParseSearch(t *testing.T) {
	for front, want := range map[string]bool{"search: true\n": true, "search: false\n": false, "": false} {
		d, err := Parse("x", "x.md", []byte("---\nmodel: offline/shell\n"+front+"---\n"), nil, nil)
		if err != nil || d.Search != want {
			t.Errorf("%q: %v, %v", front, d.Search, err)
		}
	}
}
