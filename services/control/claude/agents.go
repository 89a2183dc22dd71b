package claude

import (
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/mcp"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
	"github.com/pawl-dev/pawl/services/control/webfetch"
)

// models are what names of families stand for.
var models = map[string]string{
	"sonnet": "anthropic/claude-sonnet-4-6", "opus": "anthropic/claude-opus-4-6", "haiku": "anthropic/claude-haiku-4-5",
}

// refused are keys of an agent that are named apart, with what to do instead.
var refused = map[string]string{
	"hooks":          "Pawl runs no hooks",
	"permissionMode": "what needs a decision is said by the key approve",
	"mcpServers":     "servers are files mcp/<server>.yaml, whose tools an agent names",
	"skills":         "those of the workspace are found by themselves",
}

// maxDescription is how long a description can be, in characters.
const maxDescription = 1024

// agent turns the file of one agent into Pawl's.
func (r *reader) agent(file, src string) {
	front, body, ok := split(src)
	if !ok {
		r.left(file, "it has no front matter")
		return
	}
	name := front["name"]
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(file), ".md")
	}
	var b strings.Builder
	b.WriteString("---\nmodel: " + quote(r.modelOf(file, front["model"])) + "\n")
	if d := []rune(front["description"]); len(d) > maxDescription {
		r.left(file, "description: the end of it, because %d characters are the most", maxDescription)
		front["description"] = string(d[:maxDescription])
	}
	if d := front["description"]; d != "" {
		b.WriteString("description: " + quote(d) + "\n")
	}
	switch _, named := front["tools"]; {
	case r.plugged != "" && !named:
		b.WriteString("plugins: " + quote([]string{r.plugged}) + "\n")
	case len(r.skills) > 0: // it has the tools that it names, and none of the plugin's servers
		b.WriteString("skills: " + quote(r.skills) + "\n")
	}
	list, denied, limited := r.toolsOf(file, front)
	if list != nil {
		b.WriteString("tools: " + quote(list) + "\n")
	}
	b.WriteString(rules(denied, limited))
	if turns, err := strconv.Atoi(front["maxTurns"]); err == nil && turns > 0 {
		b.WriteString("limits: {turns: " + strconv.Itoa(turns) + "}\n")
	}
	b.WriteString("---\n" + body + "\n")
	for _, key := range front.unknown() {
		why := refused[key]
		if why == "" {
			why = "Pawl has no such key"
		}
		r.left(file, "%s: %s", key, why)
	}
	path := "agents/" + name + ".md"
	if _, err := agent.Parse(name, path, []byte(b.String()), nil, nil); err != nil {
		r.left(file, "the agent, which cannot be loaded: %v", err)
		return
	}
	if _, twice := r.out.Files[path]; twice {
		r.left(file, "the agent, because another file has its name too")
		return
	}
	r.out.Files[path] = []byte(b.String())
}

// rules are those of an agent of which some tools must not be called, and some need a decision; "" when there are none.
func rules(denied, limited []string) string {
	var all []string
	if denied != nil {
		all = append(all, "{tool: "+quote(denied)+", do: deny}")
	}
	if limited != nil {
		all = append(all, "{tool: "+quote(limited)+", do: ask}")
	}
	if all == nil {
		return ""
	}
	return "approve: [" + strings.Join(all, ", ") + "]\n"
}

func (r *reader) modelOf(file, name string) string {
	switch known, ok := models[name]; {
	case ok:
		return known
	case strings.HasPrefix(name, "claude-"):
		return "anthropic/" + name
	case name != "" && name != "inherit":
		r.left(file, "model %s: %s is taken", name, r.model)
	}
	return r.model
}

// toolsOf is the list of an agent's tools, nil for what an agent has that names none. Those that it must not call are
// denied; limited are those of which it may make some calls: these ask.
func (r *reader) toolsOf(file string, front matter) (list, denied, limited []string) {
	given, named := front["tools"]
	if !named && front["disallowedTools"] == "" && len(r.mcp) == 0 {
		return nil, nil, nil
	}
	list = []string{}
	if !named {
		list = builtin.Names() // it had all servers of the project as well
		for _, server := range r.mcp {
			list = append(list, mcp.Entry(server))
		}
	}
	add := func(to *[]string, own string) {
		if !slices.Contains(*to, own) {
			*to = append(*to, own)
		}
	}
	for _, name := range items(given) {
		own, some := r.tool(name)
		if own == "" {
			r.left(file, "tool %s: Pawl has no such tool", name)
			continue
		}
		add(&list, own)
		if some {
			r.left(file, "tool %s: its limit; each call asks, see the key approve", name)
			add(&limited, own)
		}
	}
	for _, name := range items(front["disallowedTools"]) {
		switch own, some := r.tool(name); {
		case own == "":
		case some:
			r.left(file, "disallowed tool %s: its limit; each call asks, see the key approve", name)
			add(&limited, own)
		default:
			list = slices.DeleteFunc(list, func(n string) bool { return n == own || within(n, own) })
			if slices.ContainsFunc(list, func(n string) bool { return within(own, n) }) {
				add(&denied, own) // one of a server whose others it has
			}
		}
	}
	return list, denied, limited
}

// within reports whether a name is that of a tool of a server that the other name stands for.
func within(name, server string) bool {
	of, isMCP := mcp.ServerOf(name)
	return isMCP && name != server && mcp.Entry(of) == server
}

// items are what a list names.
func items(list string) (all []string) {
	for _, name := range strings.FieldsFunc(list, func(c rune) bool { return c == ',' || c == '\n' }) {
		if name = strings.TrimSpace(name); name != "" {
			all = append(all, name)
		}
	}
	return all
}

// tool is Pawl's name of a tool, "" for none, and whether only some of its calls are meant.
func (r *reader) tool(name string) (own string, limited bool) {
	bare, _, limited := strings.Cut(name, "(")
	if server, isMCP := mcp.ServerOf(name); isMCP && slices.Contains(r.mcp, server) {
		return strings.TrimSuffix(name, "__*"), false
	}
	if bare == "WebFetch" {
		return webfetch.Name, limited
	}
	return builtin.Foreign(bare), limited
}

// matter is front matter: texts by their keys. A list is its items, one a line.
type matter map[string]string

// understood are the keys that have a counterpart, or change nothing.
var understood = []string{"name", "description", "model", "tools", "disallowedTools", "maxTurns", "color"}

func (m matter) unknown() (keys []string) {
	for key := range m {
		if !slices.Contains(understood, key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

var keyLine = regexp.MustCompile(`^([A-Za-z][\w-]*):[ \t]*(.*)$`)

// split reads front matter as it is written for Claude Code, which takes colons in texts that YAML does not.
func split(src string) (front matter, body string, ok bool) {
	src = strings.ReplaceAll(strings.TrimPrefix(src, "\ufeff"), "\r\n", "\n")
	rest, ok := strings.CutPrefix(src, "---\n")
	if !ok {
		return nil, "", false
	}
	head, body, ok := strings.Cut(rest, "\n---")
	if !ok {
		return nil, "", false
	}
	_, body, _ = strings.Cut(body, "\n")
	front = matter{}
	var values map[string]any
	if yaml.Unmarshal([]byte(head), &values) == nil {
		for key, v := range values {
			front[key] = text(v)
		}
		return front, strings.TrimSpace(body), true
	}
	last := ""
	for line := range strings.SplitSeq(head, "\n") {
		if m := keyLine.FindStringSubmatch(line); m != nil {
			last, front[m[1]] = m[1], strings.Trim(m[2], `"'`)
		} else if last != "" && strings.TrimSpace(line) != "" {
			front[last] += "\n" + strings.TrimPrefix(strings.TrimSpace(line), "- ")
		}
	}
	return front, strings.TrimSpace(body), true
}

// text is a value in words.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []any:
		lines := make([]string, len(v))
		for i := range v {
			lines[i] = text(v[i])
		}
		return strings.Join(lines, "\n")
	}
	return quote(v)
}
