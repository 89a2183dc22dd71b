// Package mcp has the MCP servers of a project, and makes tools of theirs.
//
//	mcp/<server>.yaml ──Parse──▶ Definition, a part of the agents that name the server or its tools
//	Definition, what the server lists ──Offer──▶ tools mcp__<server>__<tool>
//
// A server is a stranger. What it lists, describes and answers is bounded and checked here, and what it says of itself
// (readOnlyHint, idempotentHint) decides nothing: whether a call may be made again when its outcome is unknown is the
// operator's to say. A server that is down, or lies, costs its tools and never the prompt.
//
// A server with a url is called by control (package hub). One with a command runs on the executor of the session,
// never beside control.
//
// Invariants: values of the control plane's environment are in no Definition and no error; two tools of one set never
// have one name.
package mcp

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/bundle"
	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// Failures.
var (
	// ErrInvalid is a definition that breaks a rule; the text names file, line, column and key.
	ErrInvalid = errs.New(errs.InvalidArgument, "MCP_FILE_INVALID", "the definition of the MCP server is invalid")
	// ErrVariable is a ${NAME} whose variable is not set.
	ErrVariable = errs.New(errs.FailedPrecondition, "MCP_VARIABLE", "a variable that the definition of the MCP server "+
		"refers to is not set")
)

// Definition is an MCP server. Texts that are templates are unexpanded: ${NAME} stands for a variable of the control
// plane. Its JSON form is a part of the definitions of the agents that name the server, and of their digest: a new
// field must be left out there while it has its zero value.
type Definition struct {
	Name    string        `json:"name"`
	HTTP    *HTTP         `json:"http,omitempty"`    // of a server that control calls
	Command *Command      `json:"command,omitempty"` // of one that runs on the session's executor
	Tools   []string      `json:"tools,omitempty"`   // those that may be used, by the server's names; none is all
	Timeout time.Duration `json:"timeout,omitempty"` // of a call, nanoseconds in JSON; 0 is DefaultTimeout
	// Safety says, by the server's names of tools, what may be done when the outcome of a call is unknown. "*" is of
	// the tools that are not named. Without it they must run at most once.
	Safety map[string]tool.Safety `json:"safety,omitempty"`
	Prefix string                 `json:"prefix,omitempty"` // of its tools' names; "" is mcp__<server>__
}

// HTTP is how a server is reached over streamable HTTP.
type HTTP struct {
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers,omitempty"` // templates
	Bearer  string            `json:"bearer,omitempty"`  // a template
	OAuth   *OAuth            `json:"oauth,omitempty"`
	// Networks may be reached although they are not public.
	Networks []netip.Prefix `json:"networks,omitempty"`
}

// OAuth is the grant of client credentials.
type OAuth struct {
	TokenURL string   `json:"token_url"`
	ID       string   `json:"client_id"`     // a template
	Secret   string   `json:"client_secret"` // a template
	Scopes   []string `json:"scopes,omitempty"`
}

// Command is how a server is started that speaks over its standard input and output.
type Command struct {
	Program string            `json:"program"`
	Args    []string          `json:"args,omitempty"`
	Env     map[string]string `json:"env,omitempty"` // templates, beside the agent's own variables
	Cwd     string            `json:"cwd,omitempty"` // within the agent's; "" is that
	Plugin  *Plugin           `json:"plugin,omitempty"`
}

// Plugin is the plugin that a server is of. The server runs in a copy of it, and its texts are no templates: only
// ${PLUGIN_ROOT} and ${PLUGIN_DATA} are replaced, by the executor.
type Plugin struct {
	Name   string            `json:"name"`
	Digest string            `json:"digest"` // of Files, see bundle.Digest
	Env    map[string]string `json:"env,omitempty"`
	Files  []bundle.File     `json:"-"` // definitions of agents hold them once, by Digest
}

// DefaultTimeout is how long a call may take.
const DefaultTimeout = time.Minute

// CallTimeout is how long a call may take.
func (d Definition) CallTimeout() time.Duration {
	if d.Timeout == 0 {
		return DefaultTimeout
	}
	return d.Timeout
}

// Digest tells definitions apart.
func (d Definition) Digest() string {
	body, err := json.Marshal(d)
	if err != nil {
		panic(err) // every field has a JSON form
	}
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// SafetyOf is what may be done when the outcome of a call of a tool is unknown. The server's own hints do not count: a
// server that calls a tool idempotent, and is wrong, would have its effects happen twice.
func (d Definition) SafetyOf(name string) tool.Safety {
	for _, key := range []string{name, "*"} {
		if s, ok := d.Safety[key]; ok {
			return s
		}
	}
	return tool.AtMostOnce
}

// Allows reports whether a tool may be used.
func (d Definition) Allows(name string) bool {
	return len(d.Tools) == 0 || slices.Contains(d.Tools, name)
}

// Templates are all texts that refer to variables, by the key that they have in the file.
func (d Definition) Templates() map[string]string {
	all := map[string]string{}
	if h := d.HTTP; h != nil {
		for name, value := range h.Headers {
			all["headers."+name] = value
		}
		all["auth.bearer"] = h.Bearer
		if h.OAuth != nil {
			all["auth.client_id"], all["auth.client_secret"] = h.OAuth.ID, h.OAuth.Secret
		}
	}
	if c := d.Command; c != nil {
		for name, value := range c.Env {
			all["env."+name] = value
		}
	}
	return all
}

// Expand is the definition with variables in place of the references to them. It is for whoever connects, and never
// kept or shown. ErrVariable names every variable that is not set.
func (d Definition) Expand(lookup func(string) (string, bool)) (Definition, error) {
	var missing []string
	expand := func(key, text string) string {
		t, err := document.ParseTemplate(text)
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s: %v", key, err))
			return ""
		}
		for _, name := range t.Names() {
			if _, ok := lookup(name); !ok {
				missing = append(missing, fmt.Sprintf("%s: variable %s is not set", key, name))
			}
		}
		return t.Expand(lookup)
	}
	all := func(key string, in map[string]string) map[string]string {
		out := maps.Clone(in)
		for _, name := range slices.Sorted(maps.Keys(in)) {
			out[name] = expand(key+"."+name, in[name])
		}
		return out
	}
	if d.HTTP != nil {
		h := *d.HTTP
		h.Headers, h.Bearer = all("headers", h.Headers), expand("auth.bearer", h.Bearer)
		if h.OAuth != nil {
			o := *h.OAuth
			o.ID, o.Secret = expand("auth.client_id", o.ID), expand("auth.client_secret", o.Secret)
			h.OAuth = &o
		}
		d.HTTP = &h
	}
	if d.Command != nil {
		c := *d.Command
		c.Env = all("env", c.Env)
		d.Command = &c
	}
	if len(missing) > 0 {
		return Definition{}, ErrVariable.With("MCP server %s: %s", d.Name, strings.Join(missing, "; "))
	}
	return d, nil
}
