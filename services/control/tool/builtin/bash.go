package builtin

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/pawl-dev/pawl/services/control/tool"
)

var bash = tool.Spec{
	Name:    NameBash,
	Source:  source,
	Safety:  tool.AtMostOnce,
	How:     tool.ByExecutor(RenderExec),
	Subject: "command",
	Lines:   []string{"command", "cwd"},
	Access:  tool.ReadsFiles | tool.ListsFiles | tool.WritesFiles | tool.RemovesFiles | tool.RunsCommands,
	Lost: "The outcome of this command is unknown: it was interrupted or its result was lost. It may or may not " +
		"have run, and if it ran it may or may not have finished. Check what it has done before you repeat it.",
	Description: "Run a shell command in the working directory and return its output, standard output first, then " +
		"standard error. There is no terminal and no input. Of long output the beginning and the end are " +
		"kept. Processes that are left in the background are ended with the command.",
	Habits: tool.Habits{
		Names: map[string]string{
			"cmd": "command", "commandline": "command", "script": "command", "code": "command", "input": "command",
			"bash": "command", "shell": "command", "workdir": "cwd", "workingdirectory": "cwd", "workingdir": "cwd",
			"directory": "cwd", "dir": "cwd", "timeoutseconds": "timeout", "timeoutsecs": "timeout",
			"timeoutsec": "timeout", "timeouts": "timeout",
		},
		Words: map[string]func(*tool.Arguments, any) bool{
			"timeoutms": milliseconds, "timeoutmillis": milliseconds, "timeoutmilliseconds": milliseconds,
		},
		Text:  commandText,
		After: adjustCommand,
	},
	Schema: json.RawMessage(`{
  "type": "object",
  "properties": {
    "command": {"type": "string", "minLength": 1,
      "description": "The command line."},
    "cwd": {"type": "string", "minLength": 1,
      "description": "Directory to run in; the working directory when absent."},
    "timeout": {"type": "number", "minimum": 0, "maximum": 86400,
      "description": "Seconds after which the command is ended; 0 or absent: no limit of its own."}
  },
  "required": ["command"],
  "additionalProperties": false
}`),
}

// milliseconds takes a timeout whose name says that it is in milliseconds.
func milliseconds(a *tool.Arguments, v any) bool {
	n, ok := tool.Number(v)
	if ok {
		a.Fill("timeout", n/1000)
	}
	return ok
}

// commandText is the command of an argument vector that a shell would run: ["bash", "-lc", "make"].
func commandText(_ *tool.Arguments, name string, v any) (any, bool) {
	list, _ := v.([]any)
	texts := stringsOf(list)
	if name == "command" && len(texts) == 3 &&
		slices.Contains([]string{"bash", "sh", "/bin/bash", "/bin/sh"}, texts[0]) &&
		slices.Contains([]string{"-c", "-lc"}, texts[1]) {
		return texts[2], true
	}
	return nil, false
}

// stringsOf is a list whose elements are all strings; nil for any other.
func stringsOf(list []any) []string {
	texts := make([]string, len(list))
	for i, v := range list {
		text, ok := v.(string)
		if !ok {
			return nil
		}
		texts[i] = text
	}
	return texts
}

// A timeout from leastMillis on that is a multiple of a thousand is taken as milliseconds, as other tools count: nobody
// means 120,000 seconds. One above the limit can be nothing else.
const (
	leastMillis = 10_000
	maxTimeout  = 86_400
)

// adjustCommand settles what has the right type and an odd value.
func adjustCommand(a *tool.Arguments) {
	omitEmpty(a)
	if command, ok := a.Value("command").(string); ok {
		a.Set("command", unfence(command))
	}
	n, ok := a.Value("timeout").(float64)
	as := tool.Fold(a.GivenAs("timeout"))
	switch {
	case !ok:
	case n < 0:
		a.Drop("timeout")
	case as != "" && as != "timeout": // the name says the unit
	case n >= leastMillis && math.Mod(n, 1000) == 0 || n > maxTimeout && n <= maxTimeout*1000:
		a.Set("timeout", n/1000)
		a.Note(fmt.Sprintf("timeout is in seconds; %s was taken as milliseconds.",
			strconv.FormatFloat(n, 'f', -1, 64)))
	}
}

// unfence takes a command out of the Markdown fence that a model has put around it.
func unfence(command string) string {
	text := strings.TrimSpace(command)
	first, rest, ok := strings.Cut(text, "\n")
	body, closed := strings.CutSuffix(rest, "```")
	if !ok || !closed || !strings.HasPrefix(first, "```") || strings.ContainsAny(first[3:], " `") {
		return command
	}
	return body
}
