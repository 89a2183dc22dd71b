package flue_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
)

// story is the events of a run: a command that is tried twice, a line, two agents at once, of which one has a
// sub-agent, another owner, another attempt.
func story() []event.Event {
	noted := func(r step.Record) event.Event { r.Kind, r.Wait = "shell", step.Never; return event.StepOf(r, nil) }
	of := func(task, parent string, e event.Event) event.Event {
		e.SubmissionID, e.Loop = "0198c0de-0000-7000-8000-0000000000"+task, &event.Loop{Task: task, Parent: parent}
		return e
	}
	begins := func(task, parent string) event.Event {
		said := []model.Block{{Type: model.TextBlock, Text: "do " + task}}
		return of(task, parent, event.Event{
			Type: event.TaskStarted, Task: &event.Task{Agent: "a"},
			Entry: &session.Entry{Kind: session.Input, Message: model.Message{Role: model.User, Content: said}},
		})
	}
	ends := func(task, parent string) event.Event {
		return of(task, parent, event.Event{
			Type: event.TaskFinished, Task: &event.Task{Agent: "a"},
			Settlement: &event.Settlement{Outcome: "completed", Text: "done " + task},
		})
	}
	all := []event.Event{
		event.RunBegins("w", "d", 1, nil),
		noted(step.Record{Ord: 1, Path: "a", State: step.Started, Try: 1}),
		{Type: event.ToolStarted, Call: &event.Call{ID: "c", Tool: "shell"}},
		{Type: event.ToolOutput, Call: &event.Call{ID: "c"}, Output: &event.Output{Data: []byte("x")}},
		noted(step.Record{
			Ord: 1, Path: "a", State: step.Started, Try: 1, Pausing: true, Took: time.Second,
			Failed: &step.Failure{Reason: "exit_code", Message: "it ended with 1"},
		}),
		noted(step.Record{Ord: 1, Path: "a", State: step.Started, Try: 2}),
		noted(step.Record{
			Ord: 1, Path: "a", State: step.Completed, Try: 2, Output: json.RawMessage(`{"stdout":"out","exit_code":0}`),
		}),
		event.LogOf(2, "say", "info", "hi", json.RawMessage(`7`)),
		begins("01", ""), begins("02", ""),
		of("01", "", event.Event{Type: event.Text, Text: "deltas are not told"}),
		begins("03", "01"), ends("03", "01"), ends("01", ""),
		event.RunResumes("w", "d", 1), ends("02", ""),
		{Type: event.Settled, Settlement: &event.Settlement{Outcome: "failed"}},
		event.RunBegins("w", "d", 2, nil),
		{Type: event.Settled, Settlement: &event.Settlement{Outcome: "completed"}},
	}
	for i := range all {
		all[i].Seq, all[i].Time = int64(i)+1, time.Unix(int64(i), 0)
	}
	return all
}

func ofRun() flue.Run {
	return flue.Run{ID: "0198c0de-0000-7000-8000-000000000000", Workflow: "w", Status: flue.Active}
}

// told is what a run's events come to when they arrive in batches of a size.
func told(size int) (all []flue.RunEvent) {
	t := flue.NewRunTranslator(ofRun(), func(model.Ref) model.API { return "" })
	all = append(all, t.Begin()...)
	for batch := range slices.Chunk(story(), size) {
		all = append(all, t.Translate(batch)...)
	}
	r := ofRun()
	r.Status = flue.Completed
	return append(all, t.End(r)...)
}

func TestEventsOfRuns(t *testing.T) {
	all := told(1)
	var types []string
	for i, e := range all {
		types = append(types, e.Type)
		if e.Index != i {
			t.Errorf("event %d has the index %d", i, e.Index)
		}
	}
	want := "run_start tool_start tool_call tool_start tool_call log " +
		"operation_start agent_start turn_start message_start message_end turn_request " + // of 01
		"operation_start agent_start turn_start message_start message_end turn_request " + // of 02
		"task_start operation_start agent_start turn_start message_start message_end turn_request " +
		"agent_end operation idle task agent_end operation idle " + // of 03 and 01
		"run_resume agent_end operation idle run_resume run_end"
	if got := strings.Join(types, " "); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	for i, want := range map[int]string{
		1: `{"type":"tool_start","toolName":"bash","toolCallId":"a#1","runId":"ID","eventIndex":1,"timestamp":"T"}`,
		2: `{"type":"tool_call","toolName":"bash","toolCallId":"a#1","isError":true,"result":{"content":[` +
			`{"type":"text","text":"it ended with 1"}]},"durationMs":1000,"runId":"ID","eventIndex":2,"timestamp":"T"}`,
		4: `{"type":"tool_call","toolName":"bash","toolCallId":"a#2","isError":false,"result":{"content":[` +
			`{"type":"text","text":"out"}],"details":{"exitCode":0}},"durationMs":0,"runId":"ID","eventIndex":4,` +
			`"timestamp":"T"}`,
		5: `{"type":"log","level":"info","message":"hi","attributes":{"data":7},"runId":"ID","eventIndex":5,` +
			`"timestamp":"T"}`,
		6: `{"type":"operation_start","session":"default","harness":"default","operationId":"op_` +
			`01K30DW000E008000000000001","operationKind":"prompt","runId":"ID","eventIndex":6,"timestamp":"T"}`,
		18: `{"type":"task_start","session":"default","parentSession":"default","taskId":"03","harness":"default"`,
		32: `{"type":"run_resume","runId":"ID","owner":{"kind":"workflow","workflowName":"w","instanceId":"ID"},` +
			`"instanceId":"ID","workflowName":"w","startedAt":"T","eventIndex":32,"timestamp":"T"}`,
	} {
		got := string(ofRun().Event(all[i]).JSON)
		got = strings.ReplaceAll(got, ofRun().WireID(), "ID")
		for _, at := range []time.Time{all[i].Time, {}} {
			got = strings.ReplaceAll(got, at.UTC().Format("2006-01-02T15:04:05.000Z"), "T")
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("event %d:\n%s\nwant\n%s", i, got, want)
		}
	}
}

// However events arrive, readers are told the same: they go on by its indexes.
func TestEventsOfRunsInBatches(t *testing.T) {
	want := told(1)
	for _, size := range []int{2, 3, 5, 100} {
		if got := told(size); !reflect.DeepEqual(got, want) {
			t.Errorf("in batches of %d:\n%+v\nwant\n%+v", size, got, want)
		}
	}
}

// What was deleted leaves a hole. Indexes go on behind it.
func TestEventsOfRunsWhoseBeginningIsGone(t *testing.T) {
	tr := flue.NewRunTranslator(ofRun(), func(model.Ref) model.API { return "" })
	if got := tr.Begin(); got[0].Index != 0 {
		t.Error(got)
	}
	tr.Skip(10)
	before := told(1)
	last := -1
	for _, e := range tr.Translate(story()[10:]) {
		if e.Index <= last || e.Index < len(before) {
			t.Errorf("%d %s comes after %d", e.Index, e.Type, last)
		}
		last = e.Index
	}
	if got := tr.End(ofRun()); got[len(got)-1].Type != flue.RunEndType || got[0].Index <= last {
		t.Errorf("%+v", got)
	}
}
