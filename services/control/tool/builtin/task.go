package builtin

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/pawl-dev/pawl/services/control/tool"
)

// Asks reports whether task is one of the tools.
func Asks(tools []string) bool { return slices.Contains(tools, NameTask) }

// Agent is a sub-agent that task offers.
type Agent struct{ Name, Description string }

// TaskRequest is what task asks for: a loop with a conversation of its own that begins with Prompt.
type TaskRequest struct {
	Prompt      string `json:"prompt"`
	Agent       string `json:"agent"`       // one of the sub-agents; "" is a copy of the agent that asks
	Description string `json:"description"` // for people who watch
	Cwd         string `json:"cwd"`         // relative to that of the agent that asks; "" is the same
}

// Problems are what is wrong with the request that a schema cannot say.
func (r TaskRequest) Problems() []string {
	if strings.TrimSpace(r.Prompt) == "" {
		return []string{"prompt: must not be blank"}
	}
	return nil
}

var task = tool.Spec{
	Name:    NameTask,
	Source:  source,
	Safety:  tool.AtMostOnce,
	How:     tool.ByLoop(renderTask),
	Subject: "agent",
	Lines:   []string{"prompt", "cwd"},
	Lost: "The outcome of this task is unknown: the sub-agent was interrupted, and may have done a part of it, or " +
		"all. Check what it has done before you ask again.",
	Habits: tool.Habits{
		Names: map[string]string{
			"instructions": "prompt", "instruction": "prompt", "task": "prompt", "message": "prompt", "query": "prompt",
			"input": "prompt", "text": "prompt",
			"subagent": "agent", "subagenttype": "agent", "agentname": "agent", "agenttype": "agent",
			"workdir": "cwd", "workingdirectory": "cwd", "workingdir": "cwd", "directory": "cwd", "dir": "cwd",
		},
		After: omitEmpty,
	},
	Schema: json.RawMessage(`{
  "type": "object",
  "properties": {
    "prompt": {"type": "string", "minLength": 1,
      "description": "The task, with all that the sub-agent must know for it, and what it shall answer."},
    "agent": {"type": "string", "minLength": 1,
      "description": "Name of the sub-agent; a copy of yourself when absent."},
    "description": {"type": "string", "minLength": 1,
      "description": "The task in a few words, for people who watch."},
    "cwd": {"type": "string", "minLength": 1,
      "description": "Directory for the sub-agent to work in; your working directory when absent."}
  },
  "required": ["prompt"],
  "additionalProperties": false
}`),
}

var defined = sync.OnceValue(func() *tool.Tool { return define(task) })

// Task is the tool by which a loop asks sub-agents. It can always ask a copy of the agent that asks. Its calls are
// answered with a tool.Answer, the last text of the sub-agent, or with a tool.Failure that says why there is none.
func Task(agents ...Agent) *tool.Tool {
	var told strings.Builder
	told.WriteString("Give a task to a sub-agent. It works on its own in the same workspace, and its last message is " +
		"the result. It sees nothing of this conversation, so the prompt must say everything, and it can ask " +
		"nothing. Several calls in one answer are worked on side by side.")
	names := make([]string, len(agents))
	for i, a := range agents {
		if names[i] = a.Name; i == 0 {
			told.WriteString("\n\nSub-agents:")
		}
		told.WriteString("\n- " + a.Name)
		if a.Description != "" {
			told.WriteString(": " + a.Description)
		}
	}
	return defined().Describe(told.String(), func(req tool.Request) []string {
		asked := req.(TaskRequest).Agent
		switch {
		case asked == "" || slices.Contains(names, asked):
			return nil
		case len(names) == 0:
			return []string{"agent: there are no sub-agents; leave it out, and a copy of yourself does the task"}
		}
		return []string{fmt.Sprintf("agent: there is no such sub-agent; there are %s", strings.Join(names, ", "))}
	})
}

// renderTask shows what the sub-agent said last.
func renderTask(req TaskRequest, a tool.Answer) tool.Result {
	details := tool.Fields{}
	for name, value := range map[string]string{"agent": req.Agent, "cwd": req.Cwd, "description": req.Description} {
		if value != "" {
			details[name] = value
		}
	}
	return tool.RenderAnswer(a, details)
}
