package offline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// verb is what one line asks for.
type verb uint8

const (
	say verb = iota
	think
	fail
	call
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

// parse reads a prompt. It accepts every text: a line that makes no sense becomes a step that fails.
func parse(prompt string) []step {
	var steps []step
	number := 0
	for line := range strings.SplitSeq(prompt, "\n") {
		number++
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		rest, joined := strings.CutPrefix(line, "& ")
		s := parseLine(strings.TrimSpace(rest), number)
		if last := len(steps) - 1; joined && s.verb == call && last >= 0 && steps[last].verb == call {
			steps[last].calls = append(steps[last].calls, s.calls...)
			continue
		}
		steps = append(steps, s)
	}
	return steps
}

// parseLine reads a line that is not blank.
func parseLine(line string, number int) step {
	for _, v := range []struct {
		prefix string
		verb   verb
	}{{"say:", say}, {"think:", think}, {"fail:", fail}} {
		if text, ok := strings.CutPrefix(line, v.prefix); ok {
			return step{verb: v.verb, text: strings.TrimPrefix(text, " ")}
		}
	}
	if text, ok := strings.CutPrefix(line, "call:"); ok {
		return parseCall(strings.TrimSpace(text), number)
	}
	args, err := json.Marshal(map[string]string{"command": line})
	if err != nil { // a map of strings always has a form
		return step{verb: fail, text: err.Error()}
	}
	return step{verb: call, calls: []toolCall{{tool: "bash", args: args}}}
}

// parseCall reads `NAME JSON`; the arguments may be left out.
func parseCall(text string, number int) step {
	name, args, _ := strings.Cut(text, " ")
	if args = strings.TrimSpace(args); args == "" {
		args = "{}"
	}
	var object bytes.Buffer
	if name == "" || args[0] != '{' || json.Compact(&object, []byte(args)) != nil {
		return step{verb: fail, text: fmt.Sprintf(`line %d: write call: NAME {"argument": "value"}`, number)}
	}
	return step{verb: call, calls: []toolCall{{tool: name, args: object.Bytes()}}}
}
