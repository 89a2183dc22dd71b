package agent

import (
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
)

// defaults is an agent of which nothing is said.
func defaults(name string) Definition {
	return Definition{
		Name:    name,
		Sandbox: Sandbox{Kind: SandboxLocal},
		Cwd:     ".",
		Tools:   builtin.Names(),
		Limits:  DefaultLimits(),
		Expose:  []Surface{HTTP, WebSocket},
	}
}

// Shell is the built-in agent that runs the user's message as a shell command. It needs no key.
func Shell() Definition {
	d := defaults("shell")
	d.Description = "Runs each line of a message as a shell command and answers with its output. Works without a key."
	d.Model = model.Ref{Provider: "offline", ID: "shell"}
	d.Instructions = "Run the message as shell commands and answer with what they print."
	return d
}
