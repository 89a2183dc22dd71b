package workflow

import (
	"maps"
	"slices"

	"cel.dev/cel-go/common/types"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// Action is what a step does: one of the types of this file, as a pointer.
type Action interface {
	options() []Option // the first is the one that names the kind
	outputs() []Output
	lists() []List
	secret() []*expr.Template // that may use secrets
}

// Output is what expressions see of a step that was completed, beside what every step has.
type Output struct {
	Name string
	Type *types.Type // nil: of a type that depends on the step
	Of   string      // the type, for the documentation; "" is the name of Type
	Doc  string
	// Absent says why the output may not be there although the step is completed.
	Absent string
	Words  []string
}

// Safety says what becomes of a step whose outcome is not known.
type Safety string

// Kinds of safety.
const (
	Pure       Safety = "pure"         // has no effect
	Idempotent Safety = "idempotent"   // running it again has the same effect
	AtMostOnce Safety = "at_most_once" // has effects that must not happen twice
)

// OnUnknown says how a run goes on when nobody knows whether a step has had its effect.
type OnUnknown string

// Ways to go on.
const (
	UnknownFail     OnUnknown = "fail"
	UnknownRetry    OnUnknown = "retry"
	UnknownContinue OnUnknown = "continue"
)

// none is what actions have that hold no steps and no secrets.
type none struct{}

func (none) lists() []List            { return nil }
func (none) secret() []*expr.Template { return nil }

// ordered are the texts of a mapping, by name.
func ordered(all map[string]*expr.Template) []*expr.Template {
	out := make([]*expr.Template, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if all[name] != nil {
			out = append(out, all[name])
		}
	}
	return out
}

// Shell runs a command in the sandbox.
type Shell struct {
	Command   string
	Env       map[string]*expr.Template // may use secrets
	Cwd       *expr.Template
	Stdin     *expr.Template
	ExitCodes []int // that count as success; none is 0
	Sandbox   *agent.Sandbox
	Safety    Safety
	OnUnknown OnUnknown
	Result    *Schema // of stdout, which is JSON then
}

func (s *Shell) lists() []List            { return nil }
func (s *Shell) secret() []*expr.Template { return ordered(s.Env) }

// Prompt lets an agent work.
type Prompt struct {
	none
	Text     *expr.Template
	Agent    string // "": the workflow's
	Session  *expr.Template
	Images   *Value
	Data     *Value
	Model    *model.Ref
	Thinking model.Thinking
	Limits   Limits
	Result   *Schema
}

// Skill lets an agent work with a skill of its.
type Skill struct {
	none
	Name    string
	Agent   string
	Session *expr.Template
	Args    *expr.Template
	Result  *Schema
}

// Read reads a file of the sandbox.
type Read struct {
	none
	Path   *expr.Template
	Result *Schema
}

// Write writes a file of the sandbox.
type Write struct {
	none
	Path    *expr.Template
	Content *expr.Template
	Mode    string // octal; "" is 0644
}

// Call calls a tool.
type Call struct {
	none
	Tool      string
	With      *Value
	Agent     string // whose tool it is; "" is the workflow's, or the project's where that has none
	Result    *Schema
	OnUnknown OnUnknown
}

// WhenBusy says what becomes of a message to a session that is at work.
type WhenBusy string

// Ways to reach a session that is at work.
const (
	BusyQueue     WhenBusy = "queue"
	BusySteer     WhenBusy = "steer"
	BusyInterrupt WhenBusy = "interrupt"
)

// Dispatch gives an agent's session a message.
type Dispatch struct {
	none
	Agent    string
	Instance *expr.Template
	Session  *expr.Template
	Message  *expr.Template
	Wait     bool
	WhenBusy WhenBusy
	Result   *Schema
}

// HTTP makes a request.
type HTTP struct {
	URL       *expr.Template
	Method    string                    // "" is GET
	Headers   map[string]*expr.Template // may use secrets
	Body      *Value                    // JSON, unless it is a text
	OK        []int                     // statuses that count as success; none is 200 to 299
	Safety    Safety                    // "": GET and HEAD are idempotent, others happen at most once
	OnUnknown OnUnknown
	Result    *Schema // of the body, which is JSON then
}

func (h *HTTP) lists() []List            { return nil }
func (h *HTTP) secret() []*expr.Template { return ordered(h.Headers) }

// Sleep waits: For a while, or until what the expression says, which is a timestamp or a duration.
type Sleep struct {
	none
	For Duration
}

// Signal waits for a signal to the run.
type Signal struct {
	none
	Name   string
	Result *Schema // of what the signal brings
}

// OnTimeout says what an approval that nobody has decided in time stands for.
type OnTimeout string

// What a timeout of an approval can stand for.
const (
	TimeoutReject  OnTimeout = "reject"
	TimeoutApprove OnTimeout = "approve"
	TimeoutFail    OnTimeout = "fail"
)

// Approve waits until somebody decides.
type Approve struct {
	none
	Text      *expr.Template
	Details   *Value
	To        []string // who may decide; none is role:approver
	OnTimeout OnTimeout
}

// OnCancel says what becomes of a child when its parent is cancelled.
type OnCancel string

// What can become of a child.
const (
	CancelChild OnCancel = "cancel"
	LeaveChild  OnCancel = "leave"
)

// Workflow runs another workflow.
type Workflow struct {
	none
	Name     string
	With     *Value
	Wait     bool // by default
	Key      *expr.Template
	OnCancel OnCancel
}

// Foreach runs steps for each element of a list.
type Foreach struct {
	List     *Value
	As       string // the variable of the element
	Parallel int    // how many rounds at a time
	Do       []*Step
	Output   *Value      // of a round; nil is the outputs of its steps
	Inner    *expr.Scope // of Output
}

func (f *Foreach) lists() []List            { return []List{{"do", f.Do}} }
func (f *Foreach) secret() []*expr.Template { return nil }

// Branch is one of the lists of a Parallel.
type Branch struct {
	Name  string
	Steps []*Step
}

// Parallel runs lists of steps at the same time.
type Parallel struct{ Branches []Branch }

func (p *Parallel) lists() (all []List) {
	for _, b := range p.Branches {
		all = append(all, List(b))
	}
	return all
}
func (p *Parallel) secret() []*expr.Template { return nil }

// Repeat runs steps again until a condition holds.
type Repeat struct {
	Max   int
	Every Duration // between the beginnings of two rounds
	Until *expr.Expr
	Do    []*Step
}

func (r *Repeat) lists() []List            { return []List{{"do", r.Do}} }
func (r *Repeat) secret() []*expr.Template { return nil }

// Group runs a list of steps, with others for when it fails.
type Group struct {
	Steps   []*Step
	Catch   []*Step // when the group has failed, and before it counts as failed
	Finally []*Step // in any case
}

func (g *Group) lists() []List {
	all := []List{{"group", g.Steps}}
	for _, l := range []List{{"catch", g.Catch}, {"finally", g.Finally}} {
		if len(l.Steps) > 0 {
			all = append(all, l)
		}
	}
	return all
}
func (g *Group) secret() []*expr.Template { return nil }

// Set gives names to values.
type Set struct {
	none
	Values map[string]*Value
}

// Level is how important a line of the log is.
type Level string

// Levels.
const (
	Info  Level = "info"
	Warn  Level = "warn"
	Error Level = "error"
)

// Log writes a line into the run's log.
type Log struct {
	none
	Text  *expr.Template
	Level Level
	Data  *Value
}

// Fail ends the list that it is in as failed.
type Fail struct {
	none
	Text   *expr.Template
	Reason string
}
