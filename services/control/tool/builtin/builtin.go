// Package builtin has the tools that every agent can have: six that work on the files of a workspace and run commands
// there, and task, which asks a sub-agent. One file has all of one tool: what models are told of it, how they get its
// arguments wrong, and how replies are shown.
package builtin

import (
	"sync"

	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// Names of the tools.
const (
	NameRead  = "read"
	NameWrite = "write"
	NameEdit  = "edit"
	NameBash  = "bash"
	NameGrep  = "grep"
	NameGlob  = "glob"
	NameTask  = "task"
)

const source = "the built-in tools"

// Tools are the tools that executors carry out, in the order in which they are offered.
var Tools = sync.OnceValue(func() tool.Set {
	var tools []*tool.Tool
	for _, s := range []tool.Spec{read, write, edit, bash, grep, glob} {
		tools = append(tools, define(s))
	}
	set, err := tool.NewSet(tools...)
	if err != nil {
		panic(err) // the names are constants: any test finds this
	}
	return set
})

// Shell is the tool that runs a command, alone.
func Shell() tool.Set { return Tools().Offer([]string{NameBash}, 1) }

// Names are the tools that an agent can name, in the order in which they are kept.
func Names() []string { return append(Tools().Names(), NameTask) }

func define(s tool.Spec) *tool.Tool {
	t, err := tool.Define(s)
	if err != nil {
		panic(err) // the specs are constants: any test finds this
	}
	return t
}

// omitEmpty takes away optional arguments that are empty: an empty path is no path.
func omitEmpty(a *tool.Arguments) {
	a.All(func(name string) {
		if a.Value(name) == "" && !a.Required(name) {
			a.Drop(name)
		}
	})
}

// maxNote bounds a note of an executor, in bytes.
const maxNote = 500

// note is what an executor adds for the model.
func note(text string) string {
	if text == "" {
		return ""
	}
	return "\n\n[" + clip.Shorten(clip.Sanitize(text), maxNote) + "]"
}

// fit shows as many of the items, one a line, as a result may have, at most most, and says how many they are.
func fit[T any](items []T, most int, show func(T) string) (lines string, shown int) {
	all := make([]string, min(len(items), most))
	for i := range all {
		all[i] = show(items[i])
	}
	return clip.Fit(all, tool.MaxLines, tool.MaxText)
}
