package event

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/step"
)

// What a step's record says decides what is told of it.
func TestStepOf(t *testing.T) {
	t.Parallel()
	args := json.RawMessage(`{"command":"make"}`)
	failed := &step.Failure{Reason: "EXIT_CODE", Message: "it ended with 1"}
	record := func(change func(*step.Record)) step.Record {
		r := step.Record{
			Ord: 7, Parent: 3, Path: "all[2].build", Kind: "shell", State: step.Started, Try: 2, Took: time.Second,
			Wait: step.Never,
		}
		change(&r)
		return r
	}
	same := Step{Path: "all[2].build", Kind: "shell", Parent: 3, State: "started", Try: 2, Took: time.Second}
	for name, c := range map[string]struct {
		r    step.Record
		want func(*Event)
	}{
		"starts": {record(func(*step.Record) {}), func(e *Event) { e.Step.Args = args }},
		"waits for a time": {record(func(r *step.Record) { r.Wait, r.Ref = time.Hour, "other" }), func(e *Event) {
			e.Step.Args, e.Step.Wait, e.Step.Ref = args, time.Hour, "other"
		}},
		"pauses": {
			record(func(r *step.Record) { r.Pausing, r.Failed, r.Wait = true, failed, time.Minute }),
			func(e *Event) { e.Type, e.Step.Failed, e.Step.Wait = StepPaused, failed, time.Minute },
		},
		"ends": {
			record(func(r *step.Record) { r.State, r.Output, r.Wait = step.Completed, json.RawMessage(`{"a":1}`), 0 }),
			func(e *Event) {
				e.Type, e.Step.State, e.Step.Output = StepEnded, "completed", json.RawMessage(`{"a":1}`)
			},
		},
		"fails": {record(func(r *step.Record) { r.State, r.Failed = step.Failed, failed }), func(e *Event) {
			e.Type, e.Step.State, e.Step.Failed = StepEnded, "failed", failed
		}},
	} {
		told := same
		want := Event{Type: StepStarted, Turn: 7, Step: &told}
		c.want(&want)
		if got := StepOf(c.r, args); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", name, got.Step, want.Step)
		}
	}
}

// Whatever a run says, its events are small, can be stored and are read as they were.
func TestWhatRunsTellIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 1<<20)
	quoted := encodedOf(t, long)
	many := map[string]string{}
	for i := range 5_000 {
		many[strings.Repeat("k", 40)+string(rune('a'+i%26))+time.Duration(i).String()] = "v"
	}
	for name, c := range map[string]struct {
		in, want string
		cut      bool
	}{
		"nothing":     {"", "", false},
		"no JSON":     {"{", "", false},
		"short":       {`{"a":[1,2]}`, `{"a":[1,2]}`, false},
		"a long text": {quoted, encodedOf(t, long[:maxJSON/2]), true},
		"a long list": {"[" + quoted + "]", "", true},
		"an output": {
			`{"exit_code":0,"stdout":` + quoted + `}`,
			`{"exit_code":0,"stdout":` + encodedOf(t, long[:shortText]) + `}`, true,
		},
		"a long member": {`{"items":[` + quoted + `],"count":3}`, `{"count":3}`, true},
		"many members":  {encodedOf(t, many), "", true},
		"controls": {
			`{"x":"` + strings.Repeat(`\u0001`, 9_000) + `"}`,
			`{"x":"` + strings.Repeat(`\u0001`, shortText) + `"}`, true,
		},
	} {
		in := json.RawMessage(c.in)
		out, cut := Bounded(in)
		if name == "many members" {
			if len(out) > maxJSON || !cut {
				t.Errorf("%s: %d bytes", name, len(out))
			}
		} else if string(out) != c.want || cut != c.cut {
			t.Errorf("%s: %.100s, cut %v", name, out, cut)
		}
		failure := &step.Failure{Reason: "FAILED", Message: long}
		events := []Event{
			RunBegins("w", "d", 1, in), RunResumes("w", "d", 2),
			StepOf(step.Record{Ord: 1, State: step.Started}, in),
			StepOf(step.Record{Ord: 1, State: step.Completed, Output: in}, nil),
			StepOf(step.Record{Ord: 2, State: step.Failed, Failed: failure}, nil),
			LogOf(3, "say", "info", long, in),
		}
		for i := range events {
			events[i].Seq = int64(i) + 1
		}
		s, err := Pack(0, events)
		if err != nil || len(s.Body) > 6*(maxText+maxJSON) {
			t.Fatalf("%s: %d bytes, %v", name, len(s.Body), err)
		}
		if back, err := s.Unpack(); err != nil || !reflect.DeepEqual(back, events) {
			t.Errorf("%s: %v, read as\n%.2000s", name, err, encodedOf(t, back))
		}
		weight := 0
		for i := range events {
			weight += events[i].Weight()
		}
		if min := 3*len(out) + 2*(maxText-1); weight < min {
			t.Errorf("%s: weighs %d, at least %d is told", name, weight, min)
		}
		if failure.Message != long {
			t.Fatal("the record was changed")
		}
	}
}

func encodedOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
