package claude

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/mcp"
)

// server is one of .mcp.json.
type server struct {
	Type    string            `json:"type"`
	Command string            `json:"command"`
	Args    []string          `json:"args"`
	Env     map[string]string `json:"env"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
}

// servers turns .mcp.json into a file for each server. found is whether there is one.
func (r *reader) servers() (found bool, err error) {
	file := filepath.Join(r.dir, ".mcp.json")
	src, err := document.Load(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var all struct {
		Servers map[string]json.RawMessage `json:"mcpServers"`
	}
	if err := json.Unmarshal(src, &all); err != nil {
		r.left(file, "it cannot be read: %v", err)
		return true, nil
	}
	for _, name := range slices.Sorted(maps.Keys(all.Servers)) {
		r.server(file, name, all.Servers[name])
	}
	return true, nil
}

func (r *reader) server(file, name string, body json.RawMessage) {
	var s server
	var keys map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(body, &s), json.Unmarshal(body, &keys)); err != nil {
		r.left(file, "server %s, which cannot be read: %v", name, err)
		return
	}
	if s.Type == "sse" {
		r.left(file, "server %s: Pawl speaks streamable HTTP, which most servers do as well: try type http", name)
		return
	}
	known := []string{"type", "command", "args", "env", "url", "headers"}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !slices.Contains(known, key) {
			r.left(file, "server %s: %s: see the key auth of mcp/<server>.yaml", name, key)
		}
	}
	var b strings.Builder
	put := func(key string, v any) {
		given := quote(v)
		took := fallback.ReplaceAllString(given, "$${$1}")
		if took != given {
			r.left(file, "server %s: %s: the default of a variable, which has to be set", name, key)
		}
		if key != "env" && key != "headers" && variable.MatchString(took) {
			r.left(file, "server %s: %s: the values of variables, which stand in env and headers only", name, key)
		}
		b.WriteString(key + ": " + took + "\n")
	}
	r.plain(file, name, "env", s.Env)
	r.plain(file, name, "headers", s.Headers)
	if s.URL != "" {
		put("url", s.URL)
		if len(s.Headers) > 0 {
			put("headers", s.Headers)
		}
	} else {
		put("command", s.Command)
		if len(s.Args) > 0 {
			put("args", s.Args)
		}
		if len(s.Env) > 0 {
			put("env", s.Env)
		}
	}
	path := "mcp/" + name + ".yaml"
	if _, err := mcp.Parse(name, path, []byte(b.String()), nil); err != nil {
		r.left(file, "server %s, which cannot be loaded: %v", name, err)
		return
	}
	r.mcp = append(r.mcp, name)
	r.out.Files[path] = []byte(b.String())
}

// plain says of values that are secrets, by their names, that they stand in a file.
func (r *reader) plain(file, server, key string, values map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if confidential.MatchString(name) && !variable.MatchString(values[name]) && values[name] != "" {
			of := strings.ReplaceAll(strings.ToUpper(name), "-", "_")
			r.left(file, "server %s: %s.%s: that it is a secret; put it into a variable, and ${%s} into "+
				"mcp/%s.yaml, or it is not redacted", server, key, name, of, server)
		}
	}
}

// fallback is a reference to a variable with what it is when it is not set.
var fallback = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*):-[^}]*\}`)

// variable is a reference to a variable.
var variable = regexp.MustCompile(`\$\{[A-Za-z_][A-Za-z0-9_]*`)

// confidential is what the names of secrets have in common.
var confidential = regexp.MustCompile(`(?i)key|token|secret|passw|auth|credential`)
