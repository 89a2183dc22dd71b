package offline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/pawl-dev/pawl/services/control/tool/builtin"
	"github.com/pawl-dev/pawl/services/control/tool/result"
)

// verb is what one line asks for.
type verb uint8

const (
	say verb = iota
	think
	fail
	call
	again
)

// step is one line, or several that start with "& ".
type step struct {
	verb  verb
	text  string // of say, think and fail
	calls []toolCall
}

// toolCall is one call of a step, in the form in which it is asked for.
type toolCall struct {
	tool string
	args json.RawMessage
}

// parse reads a program. It accepts every text: a line that makes no sense becomes a step that fails. message is what
// commands find in MESSAGE.
func parse(program, message string) []step {
	var steps []step
	number := 0
	for line := range strings.SplitSeq(program, "\n") {
		number++
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		rest, joined := strings.CutPrefix(line, "& ")
		s := parseLine(strings.TrimSpace(rest), number, message)
		if last := len(steps) - 1; joined && s.verb == call && last >= 0 && steps[last].verb == call {
			steps[last].calls = append(steps[last].calls, s.calls...)
			continue
		}
		steps = append(steps, s)
	}
	return steps
}

// parseLine reads a line that is not blank.
func parseLine(line string, number int, message string) step {
	for _, v := range []struct {
		prefix string
		verb   verb
	}{{"say:", say}, {"think:", think}, {"fail:", fail}, {"again:", again}} {
		if text, ok := strings.CutPrefix(line, v.prefix); ok {
			return step{verb: v.verb, text: strings.TrimPrefix(text, " ")}
		}
	}
	if text, ok := strings.CutPrefix(line, "finish:"); ok {
		return finish(strings.TrimSpace(text), number)
	}
	if text, ok := strings.CutPrefix(line, "give up:"); ok {
		return ask(result.NameGiveUp, map[string]string{"reason": strings.TrimSpace(text)})
	}
	if m := askLine.FindStringSubmatch(line); m != nil {
		return parseAsk(m[1], m[2], strings.TrimSpace(m[3]), number)
	}
	if m := skillLine.FindStringSubmatch(line); m != nil {
		args := map[string]json.RawMessage{"name": json.RawMessage(strconv.Quote(m[1]))}
		if m[2] != "" {
			args["args"] = json.RawMessage(m[2])
		}
		if body, err := json.Marshal(args); err == nil {
			return step{verb: call, calls: []toolCall{{tool: builtin.NameActivateSkill, args: body}}}
		}
		return step{verb: fail, text: fmt.Sprintf(`line %d: write skill NAME {"argument": "value"}`, number)}
	}
	if strings.Contains(line, "$MESSAGE") {
		line = "MESSAGE='" + strings.ReplaceAll(strings.TrimSpace(message), "'", `'\''`) + "'\n" + line
	}
	return ask(builtin.NameBash, map[string]string{"command": line})
}

// skillLine is a line that asks for a skill. No command is called skill.
var skillLine = regexp.MustCompile(`^skill ([a-z0-9.:-]+) *(\{.*\})?$`)

// askLine is a line that asks for a call of another tool than bash.
var askLine = regexp.MustCompile(`^(tool|task)(?: +([^\s:]+))?:(.*)$`)

// parseAsk reads what comes after `tool NAME:`, of which the arguments may be left out, or `task AGENT:`, of which the
// agent may be left out.
func parseAsk(what, name, rest string, number int) step {
	if what == builtin.NameTask {
		args := map[string]string{"prompt": rest}
		if name != "" {
			args["agent"] = name
		}
		return ask(builtin.NameTask, args)
	}
	if rest == "" {
		rest = "{}"
	}
	var object bytes.Buffer
	if name == "" || rest[0] != '{' || json.Compact(&object, []byte(rest)) != nil {
		return step{verb: fail, text: fmt.Sprintf(`line %d: write tool NAME: {"argument": "value"}`, number)}
	}
	return step{verb: call, calls: []toolCall{{tool: name, args: object.Bytes()}}}
}

// finish is a step that ends the work with a structured result. One that is no object is put into one.
func finish(text string, number int) step {
	var args bytes.Buffer
	if json.Compact(&args, []byte(text)) != nil {
		return step{verb: fail, text: fmt.Sprintf("line %d: write finish: JSON", number)}
	}
	if args.Bytes()[0] != '{' {
		text = args.String()
		args.Reset()
		args.WriteString(`{"` + result.Inside + `":` + text + "}")
	}
	return step{verb: call, calls: []toolCall{{tool: result.NameFinish, args: args.Bytes()}}}
}

// ask is a step that asks for one call.
func ask(tool string, args map[string]string) step {
	body, err := json.Marshal(args)
	if err != nil { // a map of strings always has a form
		return step{verb: fail, text: err.Error()}
	}
	return step{verb: call, calls: []toolCall{{tool: tool, args: body}}}
}
