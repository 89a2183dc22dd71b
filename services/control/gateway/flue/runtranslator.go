package flue

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// RunTranslator turns the events of a run into those of the original, in order:
//
//	run_start (run_resume | log | tool_start … tool_call | operation_start … operation idle)* run_end
//
// A command is a tool_start and a tool_call, and so is a step that reads or writes a file, or calls a tool. What an
// agent does for a step is an operation, as of a submission. run_resume is another owner that goes on with a run, or
// another attempt of it. Indexes are those of a whole stream: a reader is told the same however often it reads. What a
// model is about to say is not told, but what it has said.
type RunTranslator struct {
	run    Run
	api    APIOf
	next   int // index of the next event
	out    []RunEvent
	agents []*agentOfRun // at work
}

// agentOfRun is an agent that works for a step.
type agentOfRun struct {
	task string // see event.Loop
	t    *Translator
}

// NewRunTranslator makes a RunTranslator. Its first events are to be had from Begin.
func NewRunTranslator(r Run, api APIOf) *RunTranslator { return &RunTranslator{run: r, api: api} }

// Begin is run_start. A run that waits for its turn has begun, too.
func (t *RunTranslator) Begin() []RunEvent {
	t.out = t.out[:0]
	t.emit(t.run.StartedAt, RunStartType, t.run.Started())
	return t.out
}

// perEvent is how many events of the original one event comes to at most, roughly.
const perEvent = 16

// Skip says that the events up to a place in the stream are gone. Indexes go on behind any that they had.
func (t *RunTranslator) Skip(seq int64) { t.next = max(t.next, perEvent*int(seq)) }

// End is run_end, of the run as it is now that it has ended.
func (t *RunTranslator) End(r Run) []RunEvent {
	t.out = t.out[:0]
	for _, a := range t.agents {
		t.ended(a, event.Event{Time: r.EndedAt, Settlement: &event.Settlement{
			Outcome: "aborted", Reason: "RUN_ENDED", Message: "the run has ended",
		}})
	}
	t.agents = nil
	t.emit(r.EndedAt, RunEndType, r.Ended())
	return t.out
}

// Translate returns what a batch of events comes to, valid until the next call.
func (t *RunTranslator) Translate(batch []event.Event) []RunEvent {
	t.out = t.out[:0]
	for i := range batch {
		e := &batch[i]
		switch {
		case e.Type.IsDelta():
		case e.Loop != nil:
			t.ofAgent(*e)
		default:
			t.ofRun(e)
		}
	}
	return t.out
}

func (t *RunTranslator) emit(at time.Time, kind string, fields json.RawMessage) {
	t.out = append(t.out, RunEvent{Index: t.next, Type: kind, Time: at, Fields: fields})
	t.next++
}

// ofRun tells of what the run itself does.
func (t *RunTranslator) ofRun(e *event.Event) {
	switch e.Type {
	case event.RunStarted:
		if t.agents = nil; e.Run.Attempt > 1 {
			t.emit(e.Time, RunResumeType, t.run.resumed())
		}
	case event.RunResumed:
		t.emit(e.Time, RunResumeType, t.run.resumed())
	case event.Logged:
		t.emit(e.Time, LogType, LogLine(e.Log.Level, e.Text, attributes(e.Log.Data)))
	case event.StepStarted:
		t.stepStarts(e)
	case event.StepPaused, event.StepEnded:
		t.stepEnds(e)
	}
}

// attributes are data of a line: an object, which anything else becomes part of.
func attributes(data json.RawMessage) json.RawMessage {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || data[0] == '{' {
		return data
	}
	return raw(map[string]json.RawMessage{"data": data})
}

// toolsOf are the tools of the original that kinds of steps are.
var toolsOf = map[string]string{"shell": "bash", "read": "read", "write": "write", "call": "call"}

func callOf(e *event.Event) string { return e.Step.Path + "#" + strconv.Itoa(max(e.Step.Try, 1)) }

func (t *RunTranslator) stepStarts(e *event.Event) {
	if tool := toolsOf[e.Step.Kind]; tool != "" {
		t.emit(e.Time, "tool_start", raw(struct {
			Tool string          `json:"toolName"`
			Call string          `json:"toolCallId"`
			Args json.RawMessage `json:"args,omitempty"`
		}{tool, callOf(e), e.Step.Args}))
	}
}

func (t *RunTranslator) stepEnds(e *event.Event) {
	tool := toolsOf[e.Step.Kind]
	if tool == "" || e.Step.State == "skipped" {
		return
	}
	text, details := outputOf(e.Step)
	result := toolResult{[]block{textBlock(text)}, details}
	t.emit(e.Time, "tool_call", raw(struct {
		Tool    string     `json:"toolName"`
		Call    string     `json:"toolCallId"`
		IsError bool       `json:"isError"`
		Result  toolResult `json:"result"`
		Took    int64      `json:"durationMs"`
	}{tool, callOf(e), e.Step.Failed != nil, result, e.Step.Took.Milliseconds()}))
}

// outputOf is what a step came to, as text, and what else there is of a command.
func outputOf(s *event.Step) (text string, details json.RawMessage) {
	var out struct {
		Stdout  *string `json:"stdout"`
		Content *string `json:"content"`
		Text    *string `json:"text"`
		Code    *int    `json:"exit_code"`
	}
	known := json.Unmarshal(s.Output, &out) == nil
	switch {
	case s.Failed != nil:
		text = s.Failed.Message
	case known && out.Stdout != nil:
		text = *out.Stdout
	case known && out.Content != nil:
		text = *out.Content
	case known && out.Text != nil:
		text = *out.Text
	default:
		text = string(s.Output)
	}
	if known && out.Code != nil {
		details = raw(struct {
			Code int `json:"exitCode"`
		}{*out.Code})
	}
	return text, details
}

// ofAgent tells of what an agent does for a step, or a sub-agent of it. To its Translator it is the root.
func (t *RunTranslator) ofAgent(e event.Event) {
	of := *e.Loop
	for i, a := range t.agents {
		switch {
		case of.Task == a.task && e.Type == event.TaskFinished:
			t.agents = append(t.agents[:i:i], t.agents[i+1:]...)
			t.ended(a, e)
			return
		case of.Task == a.task:
			e.Loop = nil
		case of.Parent == a.task:
			of.Parent, e.Loop = "", &of
		case a.t.find(of.Parent) == nil:
			continue
		}
		t.say(a, e)
		return
	}
	if of.Parent != "" || e.Type == event.TaskFinished {
		return // who it works for is not known: its beginning was deleted
	}
	a := &agentOfRun{task: of.Task, t: NewTranslator(submission.Submission{}, model.Ref{}, t.api)}
	a.t.root.submission, a.t.root.session = e.SubmissionID, "default"
	t.agents = append(t.agents, a)
	e.Loop = nil
	t.say(a, e)
}

// ended tells that an agent has finished.
func (t *RunTranslator) ended(a *agentOfRun, e event.Event) {
	e.Type, e.Loop, e.Task = event.Settled, nil, nil
	t.say(a, e)
}

// say tells what the Translator of an agent says, in the form of events of a run.
func (t *RunTranslator) say(a *agentOfRun, e event.Event) {
	for _, said := range a.t.Translate([]event.Event{e}) {
		if i := bytes.Index(said.JSON, []byte(`,"session":`)); i > 0 { // what comes before each event of a run has, too
			t.emit(e.Time, said.Type, append([]byte{'{'}, said.JSON[i+1:]...))
		}
	}
}
