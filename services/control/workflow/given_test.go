package workflow

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/tool/command"
)

const resizeArguments = `{"type": "object", "required": ["width"], "additionalProperties": false, "properties": {
	"width": {"type": "integer", "maximum": 100}, "mode": {"enum": ["fast", "slow"]},
	"box": {"type": "object", "required": ["x"], "properties": {"x": {"type": "integer", "minimum": 0}, "y": {}}},
	"labels": {"type": "array", "maxItems": 2, "items": {"type": "string", "pattern": "^[a-z]+$"}},
	"shape": {"$ref": "#/$defs/shape"}, "ratio": {"type": "number"}},
	"$defs": {"shape": {"enum": [1, "round"]}}}`

// resizing is a project with the tool resize, and an agent with a skill.
func resizing() Surrounding {
	return Surrounding{
		Tool: func(name string) (t Tool, ok bool) {
			if name == "resize" {
				t.Arguments = json.RawMessage(resizeArguments)
				t.Command = &command.Definition{Name: name, Command: "resize", Arguments: t.Arguments}
			}
			return t, name == "resize" || name == "bash"
		},
		Skills: func(agent string) ([]string, bool, bool) {
			return []string{"review"}, agent == "free", agent == "free" || agent == "bare"
		},
	}
}

// What a call gives to a tool is checked against the schema of the tool's arguments: constants exactly, expressions by
// their types.
func TestArgumentsOfCalls(t *testing.T) {
	const head = "input: {type: object, required: [n, s, f, l], properties: {n: {type: integer}, s: {type: string}, " +
		"f: {type: number}, l: {type: array, items: {type: integer}}}}\nsteps:\n- call: resize\n  with: "
	const wide = "4:17: tool resize "
	for with, want := range map[string]string{
		"{width: 3}":                             "",
		"{width: '${{ input.n }}', mode: fast}":  "",
		"{width: '${{ input.f }}'}":              "", // which may be whole
		"{width: 3.0, ratio: 1, shape: round}":   "",
		"{width: 1, mode: '${{ input.s }}'}":     "", // which may be one of them
		"{width: 1, box: {x: '${{ input.n }}'}}": "",
		"{width: 1, box: '${{ {\"x\": 1} }}'}":   "",
		"{width: 1, labels: ['${{ input.s }}']}": "",

		"{}":                                        "4:3: tool resize needs width in its input",
		"{width: three}":                            wide + "takes width as a whole number, and is given text",
		"{width: '${{ input.s }}'}":                 wide + "takes width as a whole number, and is given text",
		"{width: 3.5}":                              "4:9: tool resize takes no such input: width: must be an integer",
		"{width: 101}":                              "4:9: tool resize takes no such input: width: must be at most 100",
		"{width: 101, mode: '${{ input.s }}'}":      wide + "takes no such input: width: must be at most 100",
		"{width: 1, mode: fats}":                    "takes as mode one of fast, slow, and is given 'fats'",
		"{width: 1, mood: fast}":                    "4:26: tool resize takes no mood: did you mean mode?",
		"{width: 1, box: {x: -1, y: '${{ 1 }}'}}":   "4:29: tool resize takes no such input: box.x: must be at least 0",
		"{width: 1, box: {x: a}}":                   "4:29: tool resize takes box.x as a whole number",
		"{width: 1, box: {y: 1}}":                   "tool resize needs box.x in its input",
		"{width: 1, labels: [1]}":                   "4:28: tool resize takes each of labels as text, and is given",
		"{width: 1, labels: '${{ input.l }}'}":      "4:28: tool resize takes each of labels as text, and is given",
		"{width: 1, labels: ['${{ input.s }}', A]}": "4:47: tool resize takes no such input: labels.1: ",
		"{width: '${{ input.n }}', shape: 2}":       "4:42: tool resize takes no such input: shape: must be one of",
		"'${{ input.s }}'":                          "4:9: tool resize takes an object, and is given text",
	} {
		_, err := Parse("x", "x.yaml", []byte(head+with+"\n"), resizing())
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", with, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s: %v, want %s", with, err, want)
		}
	}
	// A tool of which nothing is known takes anything, and what is wrong in two places is told twice.
	if _, err := Parse("x", "x.yaml", []byte("steps: [{call: bash, with: {any: 1}}]\n"), resizing()); err != nil {
		t.Errorf("%v", err)
	}
	_, err := Parse("x", "x.yaml", []byte(head+"{width: 101, mode: fats}\n"), resizing())
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("%v", err)
	}
}

// A workflow has the command tools that it calls, as they were when it was loaded: a stored one too.
func TestCommandsArePinned(t *testing.T) {
	src := []byte("steps: [{call: resize, with: {width: 1}}, {call: bash}]\n")
	d, err := Parse("x", "x.yaml", src, resizing())
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var again Definition
	if err := json.Unmarshal(body, &again); err != nil || again.Digest() != d.Digest() ||
		len(d.Commands) != 1 || again.Commands["resize"].Command != "resize" {
		t.Errorf("%v, %+v", err, again.Commands)
	}
	around := resizing()
	around.Tool = func(name string) (Tool, bool) {
		return Tool{Command: &command.Definition{Name: name, Command: "other"}}, true
	}
	if other, err := Parse("x", "x.yaml", src, around); err != nil || other.Digest() == d.Digest() {
		t.Errorf("another tool has no other digest: %v", err)
	}
}

// A skill that the agent does not name may be in its workspace, if it has one.
func TestSkillsAreLookedUp(t *testing.T) {
	const bare, none = "x.yaml:2:17: agent bare has no skill ", "and no workspace that could have one"
	for src, want := range map[string]string{
		"agent: free\nsteps: [{skill: review}]":                "",
		"agent: bare\nsteps: [{skill: review}]":                "",
		"agent: bare\nsteps: [{skill: reviev}]":                bare + "reviev, " + none + ": did you mean review?",
		"agent: free\nsteps: [{skill: other, agent: bare}]":    bare + "other, " + none + "; there are review",
		"agent: nobody\nsteps: [{skill: other}]":               "",
		"agent: free\nsteps:\n- id: a\n  skill: reviev\n":      "warning",
		"agent: bare\nsteps: [{skill: reviev, agent: free}]\n": "warning",
	} {
		d, err := Parse("x", "x.yaml", []byte(src), resizing())
		warned := strings.Join(d.warnings, "\n")
		switch {
		case want == "warning":
			if err != nil || !strings.Contains(warned, ": agent free names no skill reviev: the step fails unless its "+
				"workspace has one: did you mean review?") || !strings.HasPrefix(warned, "x.yaml:") {
				t.Errorf("%s: %v, %q", src, err, warned)
			}
		case want == "" && (err != nil || warned != ""), want != "" && (err == nil || err.Error() != want):
			t.Errorf("%s: %v, %q", src, err, warned)
		}
	}
}
