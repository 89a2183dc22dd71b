package api

import (
	"encoding/json"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
)

// What happens in a run is told in full, and the end of a run is no submission's.
func TestEventsOfRuns(t *testing.T) {
	t.Parallel()
	failed := &step.Failure{Reason: "EXIT_CODE", Message: "it ended with 1\xff", Step: "a.b"}
	value := json.RawMessage(`{"a":[1,null]}`)
	record := step.Record{
		Ord: 4, Parent: 2, Path: "all[1].build", Kind: "shell", State: step.Started, Try: 2, Took: time.Second,
		Wait: time.Minute, Ref: "other",
	}
	paused, ended := record, record
	paused.Pausing, paused.Failed = true, failed
	ended.State, ended.Output, ended.Failed = step.Completed, value, failed
	settled := event.Event{Type: event.Settled, Settlement: &event.Settlement{
		Outcome: string(lane.Failed), Reason: "EXIT_CODE", Message: "no", Data: value, Cut: true,
		Usage: model.Usage{Input: 3},
	}}
	const step4 = `"path":"all[1].build","kind":"shell","parent":2,"try":2`
	const failure = `{"reason":"EXIT_CODE","message":"it ended with 1�","step":"a.b"}`
	for want, e := range map[string]event.Event{
		`{"runStarted":{"workflow":"w","digest":"d","attempt":2,"input":{"a":[1,null]}}}`: event.RunBegins(
			"w", "d", 2, value),
		`{"runResumed":{"workflow":"w","digest":"d","attempt":2}}`: event.RunResumes("w", "d", 2),
		`{"turn":4,"stepStarted":{` + step4 + `,"wait":"60s","ref":"other","args":{"a":[1,null]}}}`: event.StepOf(
			record, value),
		`{"turn":4,"stepPaused":{` + step4 + `,"wait":"60s","duration":"1s","failure":` + failure + `}}`: event.StepOf(
			paused, nil),
		`{"turn":4,"stepEnded":{` + step4 + `,"state":"completed","duration":"1s","ref":"other","failure":` + failure +
			`,"output":{"a":[1,null]}}}`: event.StepOf(ended, nil),
		`{"turn":4,"log":{"level":"warn","text":"hm","path":"say","data":{"a":[1,null]}}}`: event.LogOf(
			4, "say", "warn", "hm", value),
		`{"runSettled":{"outcome":"OUTCOME_FAILED","error":{"reason":"EXIT_CODE","message":"no"},` +
			`"output":{"a":[1,null]},"cut":true,"usage":{"input":"3"}}}`: settled,
	} {
		got := encodeEvent(&e, session.Session{Key: run.Key("t", "w", "id")})
		got.Time = nil
		var wanted pawlv1.Event
		if err := protojson.Unmarshal([]byte(want), &wanted); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, &wanted) {
			t.Errorf("%v, want %s", protojson.Format(got), want)
		}
	}
	if got := encodeEvent(&settled, session.Session{Key: session.Key{Agent: "w"}}); got.GetSettled() == nil {
		t.Errorf("the end of an agent's submission is %v", got)
	}
}
