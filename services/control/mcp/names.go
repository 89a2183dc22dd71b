package mcp

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Prefix begins the names of tools of MCP servers, unless a server has a prefix of its own.
const Prefix = "mcp__"

// ServerOf is the server that an entry of an agent's tools stands for: mcp__<server>, or mcp__<server>__<tool>.
func ServerOf(entry string) (server string, ok bool) {
	rest, ok := strings.CutPrefix(entry, Prefix)
	server, _, _ = strings.Cut(rest, "__")
	return server, ok
}

// Entry stands for all tools of a server in an agent's tools.
func Entry(server string) string { return Prefix + server }

// maxToolName bounds the name of a tool.
const maxToolName = 64

// clean is a server's name of a tool as it can stand in the name of one.
func clean(name string) string {
	name = strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, name)
	return strings.Trim(name, "_")
}

// ToolName is the name under which an agent names a server's tool: mcp__<server>__<tool>. What cannot stand in a name
// is an underscore. A name that is too long is cut, and ends with a part of its hash.
func ToolName(server, tool string) string { return join(Prefix+server+"__", tool) }

// NameFor is the name that models know a tool of the server by.
func (d Definition) NameFor(tool string) string {
	if d.Prefix != "" {
		return join(d.Prefix, tool)
	}
	return ToolName(d.Name, tool)
}

func join(prefix, tool string) string {
	name := prefix + clean(tool)
	if len(name) <= maxToolName {
		return name
	}
	sum := sha256.Sum256([]byte(tool))
	mark := "_" + hex.EncodeToString(sum[:4])
	return name[:maxToolName-len(mark)] + mark
}

// Named reports whether an agent's list of tools names a tool of the server, by itself or with all others.
func (d Definition) Named(list []string, tool string) bool {
	for _, entry := range list {
		if entry == Entry(d.Name) || entry == ToolName(d.Name, tool) {
			return true
		}
	}
	return false
}
