package workflow

import (
	"math"
	"slices"

	"cel.dev/cel-go/common/types"
)

// Kind is one kind of step: a row of the table that Parse, the JSON Schema for editors and the documentation share.
type Kind struct {
	Name    string // the key that makes a step one of this kind
	Doc     string
	Options []Option // Options[0] is the main argument
	Outputs []Output
}

type kind struct {
	name, doc string
	make      func() Action
}

var kinds = []kind{
	{"shell", "Runs a command in the sandbox. It fails if the command ends with another code than 0.", func() Action {
		return &Shell{}
	}},
	{"prompt", "Lets an agent work on a message.", func() Action { return &Prompt{} }},
	{"skill", "Lets an agent work with one of its skills.", func() Action { return &Skill{} }},
	{"read", "Reads a file of the sandbox.", func() Action { return &Read{} }},
	{"write", "Writes a file of the sandbox.", func() Action { return &Write{} }},
	{"call", "Calls a tool, without a model.", func() Action { return &Call{} }},
	{"dispatch", "Gives a session of an agent a message, and waits for its answer if `wait` is true.", func() Action {
		return &Dispatch{}
	}},
	{"http", "Makes an HTTP request to a host that control may speak to.", func() Action { return &HTTP{} }},
	{"sleep", "Waits for a while, or until a time. Days cost nothing.", func() Action { return &Sleep{} }},
	{"signal", "Waits until the run is sent a signal. After a `timeout` it is completed without one.", func() Action {
		return &Signal{}
	}},
	{"approve", "Waits until somebody approves or rejects.", func() Action { return &Approve{} }},
	{"workflow", "Runs another workflow.", func() Action { return &Workflow{Wait: true} }},
	{"foreach", "Runs steps for each element of a list. It fails when a round fails.", func() Action {
		return &Foreach{}
	}},
	{"parallel", "Runs several lists of steps at the same time.", func() Action { return &Parallel{} }},
	{"repeat", "Runs steps again until a condition holds, or as often as it says.", func() Action { return &Repeat{} }},
	{"group", "Runs a list of steps, with others for when it fails.", func() Action { return &Group{} }},
	{"set", "Gives names to values.", func() Action { return &Set{} }},
	{"log", "Writes a line into the run's log.", func() Action { return &Log{} }},
	{"fail", "Ends the list that it is in as failed.", func() Action { return &Fail{} }},
}

// Kinds are all kinds of steps.
func Kinds() []Kind {
	out := make([]Kind, len(kinds))
	for i, k := range kinds {
		a := k.make()
		out[i] = Kind{k.name, k.doc, a.options(), a.outputs()}
	}
	return out
}

func kindNames() []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	return names
}

// find is the kind of a name.
func find(name string) (kind, bool) {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
	if i < 0 {
		return kind{}, false
	}
	return kinds[i], true
}

// CommonOptions are the keys that steps of every kind can have.
func CommonOptions() []Option { return (&Step{}).options() }

// maxAttempts bounds how often a step is tried.
const maxAttempts = 100

func (s *Step) options() []Option {
	return []Option{
		{Name: "id", Doc: "The name by which expressions refer to the step: steps.ID.", Form: id(&s.ID)},
		{Name: "name", Doc: "What people see.", Form: plain(&s.Name, maxText)},
		{Name: "if", Doc: "The step is skipped unless this holds.", Form: condition(&s.If)},
		{Name: "timeout", Doc: "The step fails when it takes longer, all attempts together.", Form: length(&s.Timeout)},
		{Name: "retry", Doc: "The step is tried again when it fails.", Form: mapping("retry", s.Retry.options())},
		{
			Name: "on_error", Doc: "With continue the run goes on when the step has failed.",
			Form: continues(&s.Continue),
		},
		{
			Name: "undo", Doc: "Steps that run if the step was completed and a later one of its list fails.",
			Form: steps(),
		},
	}
}

func (r *Retry) options() []Option {
	return []Option{
		{Name: "attempts", Doc: "How often in all.", Form: count(&r.Attempts, 1, maxAttempts)},
		{Name: "backoff", Doc: "How long to wait first; each time it is twice as long.", Form: fixed(&r.Backoff)},
		{Name: "max", Doc: "How long to wait at most.", Form: fixed(&r.Max)},
		{
			Name: "on", Doc: "Reasons for which it is tried again; all that may pass if there are none.",
			Form: list(&r.On, "a reason: lower-case letters, digits and _", wordPattern, isWord),
		},
	}
}

// CommonOutputs are what expressions see of every step.
func CommonOutputs() []Output {
	return []Output{
		{Name: "status", Type: types.StringType, Words: []string{"completed", "failed", "skipped", "cancelled"}},
		{Name: "attempts", Type: types.IntType},
		{Name: "duration", Type: types.DurationType},
		{Name: "error", Of: "{step, reason, message}", Absent: "the step may not have failed"},
	}
}

// WorkflowOptions are the keys of a file.
func WorkflowOptions() []Option { return (&Definition{}).options() }

func (d *Definition) options() []Option {
	return []Option{
		{Name: "description", Doc: "What the workflow does.", Form: plain(&d.Description, maxText)},
		{Name: "version", Doc: "Of this format: 1.", Form: version()},
		{Name: "input", Doc: "JSON Schema of the input.", Form: schema(&d.Input)},
		{Name: "agent", Doc: "The agent of steps that name none.", Form: agentName(&d.Agent)},
		{Name: "sandbox", Doc: "Where commands run and files are.", Form: sandbox(&d.Sandbox)},
		{
			Name: "env", Doc: "Variables of control's environment that expressions may read as env.NAME.",
			Form: list(&d.Env, "a variable's name: letters, digits and _", "", isVariable),
		},
		{Name: "timeout", Doc: "How long a run may take.", Form: fixed(&d.Timeout)},
		{Name: "limits", Doc: "What agents of a run may use in all.", Form: mapping("limits", d.Limits.options())},
		{
			Name: "concurrency", Doc: "How many runs of one key there are at a time.",
			Form: concurrency(&d.Concurrency),
		},
		{Name: "on", Doc: "What starts runs by itself.", Form: mapping("on", []Option{{
			Name: "schedule", Doc: "Times at which runs start.", Form: schedules(&d.Schedules),
		}})},
		{Name: "expose", Doc: "Where clients can start runs from outside.", Form: exposes(&d.Expose)},
		{
			Name: "tenants", Doc: "Whom the workflow exists for; all if there are none.",
			Form: list(&d.Tenants, "a tenant: lower-case letters, digits and -", "", isTenant),
		},
		required(Option{Name: "steps", Doc: "What is done, in order.", Form: steps()}),
		{Name: "catch", Doc: "Steps that run when a run has failed.", Form: steps()},
		{Name: "finally", Doc: "Steps that run in any case.", Form: steps()},
		{
			Name: "output", Doc: "What a run results in.",
			Form: Form{Name: "value", Schema: map[string]any{}, later: true},
		},
	}
}

func (l *Limits) options() []Option {
	return []Option{
		{Name: "turns", Doc: "Answers of models.", Form: count(&l.Turns, 1, math.MaxInt32)},
		{Name: "tokens", Doc: "Tokens, in and out.", Form: count(&l.Tokens, 1, math.MaxInt64)},
		{Name: "cost_usd", Doc: "US dollars.", Form: amount(&l.CostUSD)},
	}
}
