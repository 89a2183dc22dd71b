package agent

import (
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/catalogue"
	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/mcp"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
	"github.com/pawl-dev/pawl/services/control/tool/command"
	"github.com/pawl-dev/pawl/services/control/webfetch"
)

// Offered begins the name of a tool in an agent's list that an executor has to offer. Nothing that control can read
// says which tools executors will offer, so such a name is taken as it is. Any other name must be known when the agent
// is loaded: a name that is written wrong is found at once.
const Offered = "executor/"

// tools is the list that names an agent's tools.
var tools = &naming{
	key: "tools", what: "tool", names: func(d Definition) []string { return d.Tools },
	other: func(entry string) bool {
		return slices.Contains(builtin.Names(), entry) || offered(entry) || entry == webfetch.Name
	},
	known: append(builtin.Names(), webfetch.Name),
	hint:  "; one that an executor offers is named " + Offered + "NAME",
}

// reserved are names of tools that are neither of the project nor of an executor.
var reserved = []string{"activate_skill", "finish", "give_up", webfetch.Name, "web_search"}

// Taken reports whether no part of the project, and no executor, can have a tool of a name.
func Taken(name string) bool {
	return slices.Contains(builtin.Names(), name) || slices.Contains(reserved, name) ||
		strings.HasPrefix(name, mcp.Prefix)
}

// offered reports whether an entry of an agent's tools names one that an executor has to offer.
func offered(entry string) bool { return strings.HasPrefix(entry, Offered) }

// Offered are the tools, sorted, that executors have to offer to the agent and to all that it can reach: they share an
// executor.
func (d Definition) Offered() []string {
	var names []string
	take := func(tools []string) {
		for _, entry := range tools {
			if name, ok := strings.CutPrefix(entry, Offered); ok {
				names = append(names, name)
			}
		}
	}
	take(d.Tools)
	for _, member := range d.Team {
		take(member.Tools)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// commands are tools/<name>.yaml.
var commands = kindOf(kind{
	folder: "tools", form: catalogue.Form{Suffix: ".yaml"}, list: tools, sandbox: func(any) bool { return true },
}, readCommand, func(d *Definition) *map[string]command.Definition { return &d.Commands })

func readCommand(s source, lookup Lookup) (command.Definition, error) {
	if Taken(s.Name) {
		return command.Definition{}, ErrInvalid.With("%s: the name %s is taken; give your tool another one", s.File,
			s.Name)
	}
	src, err := document.Load(s.File)
	if err != nil {
		return command.Definition{}, ErrInvalid.With("%v", err)
	}
	return command.Parse(s.Name, s.File, src, lookup)
}

// HasTool reports whether an agent of the project can name a tool: a built-in one, one of the project, one that an
// executor may offer, or one of the project's MCP servers.
func (c *Catalogue) HasTool(name string) bool {
	if tools.other(name) {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, k := range kinds {
		if part, ok := k.stands(name); ok && k.list == tools && i < len(c.parts) && c.parts[i][part].value != nil {
			return true
		}
	}
	return false
}

// Command finds a command tool of the project.
func (c *Catalogue) Command(name string) (command.Definition, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.parts.of(commands)[name].value.(command.Definition)
	return d, ok
}

// Tools are names that HasTool knows, for errors.
func (c *Catalogue) Tools() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parts == nil {
		return slices.Clone(tools.known)
	}
	return c.parts.known(tools)
}
