package agent

import (
	"slices"

	"github.com/pawl-dev/pawl/services/control/catalogue"
	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/mcp"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
)

// servers are mcp/<server>.yaml. In an agent's tools mcp__<server> stands for all tools of a server, and
// mcp__<server>__<tool> for one. Which tools there are is known only when the server is asked.
var servers = withFolders(kindOf(kind{
	folder: "mcp", form: catalogue.Form{Suffix: ".yaml"}, list: tools, stands: mcp.ServerOf, entry: mcp.Entry,
	sandbox: func(part any) bool { return part.(mcp.Definition).Command != nil },
}, readServer, func(d *Definition) *map[string]mcp.Definition { return &d.MCP }))

// Has reports the names of the agent's own tools, and of those that it may be given: tools of servers cannot have them.
func (d Definition) Has() func(name string) bool {
	return func(name string) bool {
		_, command := d.Commands[name]
		return command || slices.Contains(builtin.Names(), name) || slices.Contains(reserved, name) ||
			slices.Contains(d.Tools, Offered+name)
	}
}

func readServer(s source, lookup Lookup) (mcp.Definition, error) {
	src, err := document.Load(s.File)
	if err != nil {
		return mcp.Definition{}, ErrInvalid.With("%v", err)
	}
	return mcp.Parse(s.Name, s.File, src, lookup)
}
