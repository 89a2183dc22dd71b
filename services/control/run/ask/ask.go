// Package ask says what the steps of a run ask others for, and what came of it in the terms of a step.
//
//	shell, read, write, call ──Of──▶ tool.Asked ──(package turn)──▶ tool.Reply ──Outcome──▶ drive.Outcome
//	prompt, skill ──Prompt, Skill──▶ Work ──(a loop)──────┐
//	dispatch ──Dispatch──▶ submission.Input ──(a session)─┼──▶ Worked ──Answered──▶ drive.Outcome
//	workflow ──(another run)──────────────────────────────┘
//
// Everything here is pure, but for Picture, which may wait.
//
// Invariants: equal requests ask for the same, whoever asks; a call gets its arguments as the step writes them; nothing
// that may have had its effect, and must not have it twice, is a plain failure; a step has the whole of what it asked
// for, or fails; reasons of failures are words in lower case.
package ask

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// maxVariable bounds a variable of a command, in bytes: systems refuse a larger one.
const maxVariable = 128<<10 - 1

// newMode are the permission bits of a file whose step does not say any.
const newMode = 0o644

// errRequest refuses a step whose values cannot be asked for.
var errRequest = errs.New(errs.InvalidArgument, "ARGUMENTS_INVALID", "the step asks for what cannot be done")

// Tool is the tool that a call step calls, if the definition knows it: a built-in one, or a command tool that it pins.
// Any other is one of the step's agent, or, if its name begins with agent.Offered, of an executor.
func Tool(d *workflow.Definition, do *workflow.Call) (t *tool.Tool, ok bool, err error) {
	if c, ok := d.Commands[do.Tool]; ok {
		t, err := c.Tool()
		return t, err == nil, err
	}
	t, err = builtin.Tools().Find(do.Tool)
	return t, err == nil, nil
}

// Sandbox is where the calls of a step run: where the step says, or the workflow; the zero value is nowhere in
// particular.
func Sandbox(d *workflow.Definition, do workflow.Action) agent.Sandbox {
	s := d.Sandbox
	if shell, ok := do.(*workflow.Shell); ok {
		s = cmp.Or(shell.Sandbox, s)
	}
	if s == nil {
		return agent.Sandbox{}
	}
	return *s
}

// Of is the call that a step asks for: a drive.Shell, drive.Read, drive.Write or drive.Call. t is the tool of the last;
// nil if there is none. Failed has the outcome of an error.
func Of(request any, t *tool.Tool) (tool.Asked, error) {
	switch q := request.(type) {
	case drive.Shell:
		return shellCall(q)
	case drive.Read:
		if err := checkPath(q.Path); err != nil {
			return tool.Asked{}, err
		}
		return asked(reading, tool.ReadFile{Path: q.Path}), nil
	case drive.Write:
		return writeCall(q)
	case drive.Call:
		return toolCall(q, t)
	}
	return tool.Asked{}, fmt.Errorf("a step that asks for a %T makes no call", request)
}

func asked(t *tool.Tool, q tool.Request) tool.Asked {
	return tool.Asked{
		Block: model.Block{Type: model.ToolCallBlock, Tool: t.Name}, Call: tool.Call{Tool: t, Request: q},
	}
}

func shellCall(q drive.Shell) (tool.Asked, error) {
	for _, name := range slices.Sorted(maps.Keys(q.Env)) {
		switch value := q.Env[name]; {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			return tool.Asked{}, errRequest.With("%q cannot be the name of a variable", name)
		case strings.ContainsRune(value, 0):
			return tool.Asked{}, errRequest.With("the variable %s must not contain a NUL character", name)
		case len(name)+len(value)+1 > maxVariable:
			return tool.Asked{}, errRequest.With("the variable %s has %d bytes, at most %d are possible: pass it by "+
				"stdin, or in a file", name, len(value), maxVariable-len(name)-1)
		}
	}
	switch {
	case len(q.Stdin) > tool.MaxInput:
		return tool.Asked{}, errRequest.With("stdin has %d bytes, at most %d are possible: write it to a file first",
			len(q.Stdin), tool.MaxInput)
	case strings.ContainsRune(q.Cwd, 0) || strings.ContainsRune(q.Step.Command, 0):
		return tool.Asked{}, errRequest.With("neither the command nor cwd may contain a NUL character")
	}
	x := tool.Exec{Command: q.Step.Command, Cwd: q.Cwd, Env: q.Env, Whole: true}
	if q.Stdin != "" {
		x.Input = []byte(q.Stdin)
	}
	return asked(shellTool(q.Step), x), nil
}

func safetyOf(s workflow.Safety) tool.Safety {
	switch s {
	case workflow.Pure:
		return tool.Pure
	case workflow.Idempotent:
		return tool.Idempotent
	case workflow.AtMostOnce:
	}
	return tool.AtMostOnce
}

func writeCall(q drive.Write) (tool.Asked, error) {
	if err := checkPath(q.Path); err != nil {
		return tool.Asked{}, err
	}
	if len(q.Content) > tool.MaxWhole {
		return tool.Asked{}, errRequest.With("the content has %d bytes, at most %d are possible", len(q.Content),
			tool.MaxWhole)
	}
	mode := uint32(newMode)
	if q.Step.Mode != "" {
		n, err := strconv.ParseUint(q.Step.Mode, 8, 32)
		if err != nil {
			return tool.Asked{}, errRequest.With("%q is no mode of a file", q.Step.Mode)
		}
		mode = uint32(n)
	}
	return asked(writing, tool.WriteFile{Path: q.Path, Content: tool.Text(q.Content), Mode: &mode}), nil
}

func checkPath(path string) error {
	switch {
	case strings.TrimSpace(path) == "":
		return errRequest.With("the path is empty")
	case strings.ContainsRune(path, 0):
		return errRequest.With("the path must not contain a NUL character")
	}
	return nil
}

// toolCall is a call of a tool. One that is a command has all of its output kept.
func toolCall(q drive.Call, t *tool.Tool) (tool.Asked, error) {
	if t == nil {
		return tool.Asked{}, tool.ErrUnknown.With("there is no tool %s for this step", q.Step.Tool)
	}
	args := json.RawMessage("{}")
	if q.With != nil {
		if _, object := q.With.(map[string]any); !object {
			return tool.Asked{}, errRequest.With("with must be a mapping of the tool's arguments")
		}
		var err error
		if args, err = rawjson.Encode(q.With); err != nil {
			return tool.Asked{}, errRequest.With("the arguments cannot be written as JSON: %v", err)
		}
	}
	set, err := tool.NewSet(t.Exactly())
	if err != nil {
		return tool.Asked{}, err
	}
	b := model.Block{Type: model.ToolCallBlock, Tool: t.Name, Args: args}
	c, err := set.Parse(0, b)
	if err != nil {
		return tool.Asked{}, err
	}
	if x, command := c.Request.(tool.Exec); command {
		x.Whole = !x.Image
		c.Request = x
	}
	return tool.Asked{Block: b, Call: c}, nil
}

// reasons are those of others that steps have another word for.
var reasons = map[string]string{
	"TOOL_ARGUMENTS":     drive.ReasonArguments,
	"INVALID_ARG":        drive.ReasonArguments,
	"TOO_LARGE":          drive.ReasonTooLarge,
	"MODEL_RATE_LIMITED": "rate_limited",
}

// reason is a word for programs of the reason that somebody else gives, which may be anything; or else otherwise.
func reason(given, otherwise string) string {
	if own, ok := reasons[given]; ok {
		return own
	}
	if word := strings.ToLower(given); workflow.ValidReason(word) {
		return word
	}
	return otherwise
}

// Failed is the outcome of a step that cannot be asked for, or that somebody refuses. An error that has no reason, or
// of a database that does not answer now, is nothing that a run is told of: ok is false.
func Failed(err error) (o drive.Outcome, ok bool) {
	var known *refusal
	if errors.As(err, &known) {
		return known.Outcome, true
	}
	e, ok := errs.Public(err)
	if !ok || lane.Outage(err) {
		return o, false
	}
	return failed(reason(e.Reason(), drive.ReasonFailed), e.Error()), true
}
