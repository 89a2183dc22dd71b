// Package workflow holds the definitions of workflows: it reads them from YAML, types every expression in them, and
// keeps a catalogue of them.
//
//	workflows/<name>.yaml ──Parse──▶ Definition: a tree of steps ──▶ Catalogue ──Get, ByDigest──▶ runs
//	Kinds: one table of kinds of steps and their options ──▶ what Parse accepts, package schema, docs/workflows.md
//
// A run pins the digest of the definition that it was admitted with, so that an edit never changes a run under way. A
// definition holds what it knows of the workflows that it runs, so that its expressions keep their types, and the
// command tools that it calls.
//
// Everything here is pure, but for the Catalogue, which reads files. How a run goes on from step to step is not decided
// here.
//
// Invariants: a Definition in a Catalogue is valid; a problem names file, line and column; equal digests mean equal
// behaviour; values of the control plane's environment are in no Definition, no digest and no error.
package workflow

import (
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/catalogue"
	"github.com/pawl-dev/pawl/services/control/schedule"
	"github.com/pawl-dev/pawl/services/control/tool/command"
	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// Failures of this package.
var (
	// ErrNotFound answers for a name or a digest that the catalogue does not have.
	ErrNotFound = errs.New(errs.NotFound, "WORKFLOW_NOT_FOUND", "no such workflow")
	// ErrInvalid is a definition that breaks a rule; the text names file, line and column.
	ErrInvalid = errs.New(errs.InvalidArgument, "WORKFLOW_INVALID", "the workflow's definition is invalid")
	// ErrInput refuses the input of a run.
	ErrInput = errs.New(errs.InvalidArgument, "WORKFLOW_INPUT_INVALID", "the input is not what the workflow takes")
)

// Missing is ErrNotFound about a name.
func Missing(name string) error {
	return catalogue.Missing(ErrNotFound, "workflow", name)
}

// WithKnown adds to an ErrNotFound the names of the workflows that there are. Other errors stay as they are.
func WithKnown(err error, known []string) error {
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	if len(known) == 0 {
		return ErrNotFound.With("%v; there are none", err)
	}
	return ErrNotFound.With("%v; workflows: %s", err, strings.Join(known[:min(len(known), mostKnown)], ", "))
}

// mostKnown is how many names a message lists.
const mostKnown = 20

// Definition is one workflow, with a field for each key of its file, and what makes the file complete. It is immutable,
// and its expressions may be evaluated concurrently. Its JSON form is what a store keeps for runs that pinned it.
type Definition struct {
	Name        string
	Description string
	Input       *Schema // nil takes anything
	Agent       string  // of steps that name none; "" is none
	Sandbox     *agent.Sandbox
	Env         []string      // variables of control that expressions may read
	Timeout     time.Duration // of a run; 0 is none
	Limits      Limits
	Concurrency *Concurrency
	Schedules   []Schedule
	Expose      []agent.Surface
	// Tenants are those that the workflow exists for, sorted; none is all.
	Tenants []string
	Steps   []*Step
	Catch   []*Step
	Finally []*Step
	Output  *Value // nil: a run has no output

	// Scope is what expressions of the workflow itself can use: input, run and env.
	Scope *expr.Scope
	// Commands are the project's command tools that steps call, as they were when this one was loaded.
	Commands map[string]command.Definition
	// Children are the workflows that steps run, as they were when this one was loaded.
	Children map[string]Child

	source   string // the file
	content  json.RawMessage
	warnings []string // what is right and may be of no use, with file, line and column
}

// Limits bound what the agents of a run may use in all. Zero is no limit.
type Limits struct {
	Turns   int
	Tokens  int64
	CostUSD float64
}

// Policy says what becomes of a run whose concurrency key is taken.
type Policy string

// Policies.
const (
	Queue        Policy = "queue"
	Reject       Policy = "reject"
	CancelOldest Policy = "cancel_oldest"
)

// Concurrency bounds the runs of one key.
type Concurrency struct {
	Key    *expr.Template // over input and run
	Limit  int
	Policy Policy
}

// Schedule starts runs at times.
type Schedule struct {
	Cron    string // five fields
	Zone    string // of the IANA database; "" is UTC
	Catchup schedule.Catchup
	Input   json.RawMessage // nil is {}
}

// Child is what a workflow knows of one that it runs.
type Child struct {
	Input  json.RawMessage `json:"input,omitempty"` // its JSON Schema; nil takes anything
	Output expr.Shape      `json:"output"`
}

// String names the definition without its content.
func (d *Definition) String() string { return "workflow " + d.Name + "@" + d.Digest()[:12] }

// LogValue keeps the content out of logs.
func (d *Definition) LogValue() slog.Value { return slog.StringValue(d.String()) }

// Exposes tells whether runs can be started on a surface.
func (d *Definition) Exposes(s agent.Surface) bool { return slices.Contains(d.Expose, s) }

// ExistsFor tells whether the workflow exists for a tenant.
func (d *Definition) ExistsFor(tenant string) bool { return catalogue.Includes(d.Tenants, tenant) }

// Admit is the input of a run: what was given, with the defaults of the schema. None is {}. Errors: ErrInput, with
// every problem.
func (d *Definition) Admit(input json.RawMessage) (json.RawMessage, error) {
	if len(input) == 0 {
		input = json.RawMessage("{}")
	}
	if d.Input == nil {
		if !json.Valid(input) {
			return nil, ErrInput.With("the input is not JSON")
		}
		return input, nil
	}
	filled, problems := d.Input.Fill(input)
	if len(problems) > 0 {
		return nil, ErrInput.With("the input is not what workflow %s takes: %s", d.Name, strings.Join(problems, "; "))
	}
	return filled, nil
}

// Secrets are the names of the secrets that steps use, sorted.
func (d *Definition) Secrets() []string {
	var names []string
	for s := range d.All() {
		for _, t := range s.Do.secret() {
			names = append(names, t.Secrets()...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
