// Package agent holds the definitions of agents: it parses them from Markdown with YAML front matter, checks every key,
// and keeps a catalogue of them.
//
//	agents/<name>.md, agents/<name>/agent.md ──Parse──▶ Definition ──▶ Catalogue ──Get, ByDigest──▶ submissions
//	tools/<name>.yaml, …, beside agents/ ──▶ parts, in every Definition that names them
//	plugins/<name>/ ──▶ more parts of these kinds
//
// A submission pins the digest of the definition that it was admitted with, so that an edit never changes work under
// way. A definition holds those of its sub-agents (Team) and its parts, so its digest pins them too: its tasks run with
// what its sub-agents were when it was loaded, and an edit of a sub-agent, or of a part, is a change of every agent
// that can reach it.
//
// Invariants: a Definition in a Catalogue is valid and complete, defaults filled in and sub-agents found; equal digests
// mean equal behaviour; values of the control plane's environment are in no Definition, no digest and no error: a
// definition holds ${NAME} references, which Env.Expand resolves at use.
package agent

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/bundle"
	"github.com/pawl-dev/pawl/services/control/catalogue"
	"github.com/pawl-dev/pawl/services/control/mcp"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/skill"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
	"github.com/pawl-dev/pawl/services/control/tool/command"
)

// Failures of this package.
var (
	// ErrNotFound answers for a name or a digest that the catalogue does not have.
	ErrNotFound = errs.New(errs.NotFound, "AGENT_NOT_FOUND", "no such agent")
	// ErrInvalid is a definition that breaks a rule; the text names file, line, column and key.
	ErrInvalid = errs.New(errs.InvalidArgument, "AGENT_INVALID", "the agent's definition is invalid")
	// ErrVariable is a ${NAME} in env whose variable is not set.
	ErrVariable = errs.New(errs.FailedPrecondition, "AGENT_VARIABLE", "a variable that the agent's env refers to is "+
		"not set")
)

// Missing is ErrNotFound about a name, for agents that there are not and for those that a caller may not know of.
func Missing(name string) error {
	return catalogue.Missing(ErrNotFound, "agent", name)
}

// mostKnown is how many names a message lists.
const mostKnown = 20

// WithKnown adds to an ErrNotFound the names of the agents that there are and how others are loaded. Other errors stay
// as they are.
func WithKnown(err error, known []string) error {
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	names := strings.Join(known[:min(len(known), mostKnown)], ", ")
	switch more := len(known) - mostKnown; {
	case len(known) == 0:
		names = "none"
	case more > 0:
		names += fmt.Sprintf(" and %d more", more)
	}
	return ErrNotFound.With("%v; agents: %s; a new file agents/NAME.md is loaded by `control agents reload` or SIGHUP",
		err, names)
}

// Definition is one agent, with a field for each key of its file. Its JSON form is what a store keeps for submissions
// that pinned it.
type Definition struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	Model       model.Ref      `json:"model"`
	Fallbacks   []model.Ref    `json:"fallbacks,omitempty"` // asked when Model cannot be, in their order
	Thinking    model.Thinking `json:"thinking,omitempty"`  // "" is the model's own default
	Sandbox     Sandbox        `json:"sandbox"`
	Cwd         string         `json:"cwd"` // relative to the executor's root unless absolute
	Env         Env            `json:"env,omitempty"`
	// Tools are the built-in ones in their order, then others by name. One that an executor has to offer is
	// Offered+name.
	Tools     []string `json:"tools"`
	Subagents []string `json:"subagents,omitempty"` // by name; the definitions are in Team
	// Skills and Plugins are by name, sorted. The skills, and the servers, of plugins are among the agent's others too.
	Skills  []string `json:"skills,omitempty"` // they are in SkillFolders
	Plugins []string `json:"plugins,omitempty"`
	Limits  Limits   `json:"limits"`
	// Search offers models their provider's own search of the web.
	Search bool `json:"search,omitempty"`
	// Compaction says when and how long conversations are summarised; nil is by default.
	Compaction *Compaction `json:"compaction,omitempty"`
	Expose     []Surface   `json:"expose"`
	// Tenants are those that the agent exists for, sorted; none is all. To others it is an agent that there is not.
	Tenants      []string `json:"tenants,omitempty"`
	Instructions string   `json:"instructions,omitempty"`
	// Approve are the rules of which calls are allowed, denied, or wait for somebody to decide.
	Approve []approval.Rule `json:"approve,omitempty"`
	// Commands are the command tools that Tools names.
	Commands map[string]command.Definition `json:"commands,omitempty"`
	// MCP are the servers whose tools Tools names, by the server's name.
	MCP map[string]mcp.Definition `json:"mcp,omitempty"`
	// SkillFolders are the skills that Skills names.
	SkillFolders map[string]skill.Skill `json:"skill_folders,omitempty"`
	// PluginVersions are the plugins that Plugins names.
	PluginVersions map[string]PluginVersion `json:"plugin_versions,omitempty"`
	// PluginFolders are the files of plugins whose servers are started, by their digest.
	PluginFolders map[string][]bundle.File `json:"plugin_folders,omitempty"`
	// Team are the definitions of all agents that this one can reach over Subagents, as they were when this one was
	// loaded. They have no Team of their own: see Subagent.
	Team map[string]Definition `json:"team,omitempty"`
}

// SandboxKind says where an agent's calls run.
type SandboxKind string

// Kinds of sandbox.
const (
	SandboxLocal    SandboxKind = "local"    // the built-in executor
	SandboxNone     SandboxKind = "none"     // nowhere: the agent has no tools that need one
	SandboxExecutor SandboxKind = "executor" // an executor that has Labels
)

// Sandbox is where an agent's calls run.
type Sandbox struct {
	Kind   SandboxKind       `json:"kind"`
	Labels map[string]string `json:"labels,omitempty"` // of SandboxExecutor, never empty there
}

// Surface is a way in from outside.
type Surface string

// Surfaces.
const (
	HTTP      Surface = "http"
	WebSocket Surface = "websocket"
)

// Limits bound one submission. Zero is no limit, for Tokens and CostUSD only.
type Limits struct {
	Turns    int           `json:"turns"`
	Tokens   int64         `json:"tokens,omitempty"`
	CostUSD  float64       `json:"cost_usd,omitempty"`
	Timeout  time.Duration `json:"timeout"` // nanoseconds in JSON
	Attempts int           `json:"attempts"`
	Calls    int           `json:"calls,omitempty"` // of one turn; 0 is DefaultCalls
}

// Bounds of how many calls of one turn are run.
const (
	DefaultCalls = 128
	maxCalls     = 1000
)

// CallsOfTurn is how many calls of one turn are run.
func (l Limits) CallsOfTurn() int { return cmp.Or(l.Calls, DefaultCalls) }

// DefaultLimits are the limits of an agent that names none.
func DefaultLimits() Limits { return Limits{Turns: 100, Timeout: time.Hour, Attempts: 10} }

// String names the definition without its content.
func (d Definition) String() string { return "agent " + d.Name + "@" + d.Digest()[:12] }

// LogValue keeps the content, env above all, out of logs.
func (d Definition) LogValue() slog.Value { return slog.StringValue(d.String()) }

// Models are all models that the agent may ask, the first first.
func (d Definition) Models() []model.Ref { return append([]model.Ref{d.Model}, d.Fallbacks...) }

// Exposes tells whether the agent can be prompted on a surface.
func (d Definition) Exposes(s Surface) bool { return slices.Contains(d.Expose, s) }

// ExistsFor tells whether the agent exists for a tenant.
func (d Definition) ExistsFor(tenant string) bool { return catalogue.Includes(d.Tenants, tenant) }

// clone shares nothing with d that a caller could change.
func (d Definition) clone() Definition {
	d.Fallbacks = slices.Clone(d.Fallbacks)
	d.Env = maps.Clone(d.Env)
	d.Sandbox.Labels = maps.Clone(d.Sandbox.Labels)
	d.Tools = slices.Clone(d.Tools)
	d.Subagents = slices.Clone(d.Subagents)
	d.Skills = slices.Clone(d.Skills)
	d.SkillFolders = maps.Clone(d.SkillFolders)
	d.Plugins = slices.Clone(d.Plugins)
	d.PluginVersions, d.PluginFolders = maps.Clone(d.PluginVersions), maps.Clone(d.PluginFolders)
	d.Expose = slices.Clone(d.Expose)
	if d.Compaction != nil {
		c := *d.Compaction
		d.Compaction = &c
	}
	d.Tenants = slices.Clone(d.Tenants)
	d.Approve = slices.Clone(d.Approve)
	d.Commands = maps.Clone(d.Commands)
	d.MCP = maps.Clone(d.MCP)
	d.Team = maps.Clone(d.Team)
	for name, member := range d.Team {
		d.Team[name] = member.clone()
	}
	return d
}

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

// Digest is the sha256 of everything that the definition says, in hex. Comments, the order of keys and where the
// definition was read from do not matter. The hash is taken of the JSON form, so a new field must be left out there
// while it has its zero value.
func (d Definition) Digest() string {
	if d.Tools == nil {
		d.Tools = []string{}
	}
	if d.Expose == nil {
		d.Expose = []Surface{}
	}
	content, err := json.Marshal(d.withoutFiles())
	if err != nil {
		panic(err) // only a cost limit that is no number, which Parse refuses
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
