package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/step"
)

const (
	three = `
description: Does three things.
input:
  type: object
  required: [path]
  properties: {path: {type: string}, deep: {type: boolean, default: true}}
timeout: 2h
on: {schedule: [{cron: "0 3 * * *", tz: Europe/Berlin, input: {path: p}}]}
steps:
  - {id: a, shell: a}
  - {id: b, group: [{id: c, if: "steps.a.exit_code == 0", shell: c, result: {type: object}}], catch: [{log: failed}]}
  - {id: d, shell: d}
`
	keyed = `
concurrency: {key: "${{ run.workflow }}-x", limit: 1, policy: reject}
steps: [{log: hi}]
`
)

func object(t *testing.T, text string) *structpb.Value {
	t.Helper()
	v := &structpb.Value{}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatal(err)
	}
	return v
}

// begun is a run of three.
func (f *fixture) begun(t *testing.T, c pawlv1.RunServiceClient) string {
	t.Helper()
	got, err := c.StartRun(t.Context(), &pawlv1.StartRunRequest{Workflow: "three", Input: object(t, `{"path": "p"}`)})
	if err != nil {
		t.Fatal(err)
	}
	return got.GetRun().GetRunId()
}

// failed is a run of three that has failed in its step d.
func (f *fixture) failed(t *testing.T, c pawlv1.RunServiceClient) string {
	t.Helper()
	id := f.begun(t, c)
	record := func(ord int, path string, s step.State) step.Record {
		r := step.Record{Ord: ord, Path: path, Kind: "shell", State: s, Try: 1, Took: time.Second, Wait: step.Never}
		if r.Output = json.RawMessage(`{"stdout":"x"}`); s != step.Completed {
			r.Output, r.Failed = nil, &step.Failure{Reason: "exit_code", Message: "it ended with 1"}
		}
		return r
	}
	f.own.Record(t, id, record(1, "a", step.Completed), record(2, "b", step.Completed), record(3, "d", step.Failed))
	f.own.End(t, id, lane.Settlement{Outcome: lane.Failed, Reason: "exit_code", Message: "it ended with 1"})
	return id
}

func TestRuns(t *testing.T) {
	f := start(t, nil)
	c := pawlv1.NewRunServiceClient(f.as(t, auth.Token{Kind: auth.Client, Role: auth.User}))
	id := f.begun(t, c)
	got, err := c.GetRun(t.Context(), &pawlv1.GetRunRequest{RunId: id})
	one := got.GetRun()
	if err != nil || one.GetStatus() != pawlv1.RunStatus_RUN_STATUS_ACTIVE || one.GetAttempt() != 1 ||
		!one.GetInput().GetStructValue().GetFields()["deep"].GetBoolValue() || one.GetEndedAt() != nil {
		t.Errorf("%v, %v", got, err)
	}
	now, err := c.WaitRun(t.Context(), &pawlv1.WaitRunRequest{RunId: id, Timeout: durationpb.New(time.Millisecond)})
	if err != nil || now.GetRun().GetStatus() != pawlv1.RunStatus_RUN_STATUS_ACTIVE {
		t.Errorf("%v, %v", now, err)
	}
	f.own.End(t, id, lane.Settlement{Outcome: lane.Completed, Data: json.RawMessage(`{"n":1}`)})
	done, err := c.WaitRun(t.Context(), &pawlv1.WaitRunRequest{RunId: id})
	if one = done.GetRun(); err != nil || one.GetStatus() != pawlv1.RunStatus_RUN_STATUS_COMPLETED ||
		one.GetOutput().GetStructValue().GetFields()["n"].GetNumberValue() != 1 || one.GetError() != nil {
		t.Errorf("%v, %v", done, err)
	}
}

func TestARunThatIsRefusedIsNotStarted(t *testing.T) {
	f := start(t, nil)
	c := pawlv1.NewRunServiceClient(f.operator(t))
	if _, err := c.StartRun(t.Context(), &pawlv1.StartRunRequest{Workflow: "keyed"}); err != nil {
		t.Fatal(err)
	}
	first, err := c.StartRun(t.Context(), &pawlv1.StartRunRequest{
		Workflow: "three", Input: object(t, `{"path":"p"}`), IdempotencyKey: "k",
	})
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.StartRun(t.Context(), &pawlv1.StartRunRequest{
		Workflow: "three", Input: object(t, `{"path":"p"}`), IdempotencyKey: "k",
	})
	if err != nil || !again.GetReplayed() || again.GetRun().GetRunId() != first.GetRun().GetRunId() {
		t.Errorf("%v, %v", again, err)
	}
	for want, req := range map[string]*pawlv1.StartRunRequest{
		"WORKFLOW_NOT_FOUND":     {Workflow: "nothing"},
		"WORKFLOW_INPUT_INVALID": {Workflow: "three", Input: object(t, `{"path":1}`)},
		"CONCURRENCY_KEY_BUSY":   {Workflow: "keyed"},
		"IDEMPOTENCY_CONFLICT":   {Workflow: "three", Input: object(t, `{"path":"q"}`), IdempotencyKey: "k"},
	} {
		if _, err := c.StartRun(t.Context(), req); rpc.Reason(err) != want {
			t.Errorf("%v, want %s", err, want)
		} else if want == "WORKFLOW_NOT_FOUND" && !strings.Contains(err.Error(), "workflows: keyed, three") {
			t.Errorf("%v", err)
		}
	}
	list, err := c.ListRuns(t.Context(), &pawlv1.ListRunsRequest{})
	if err != nil || len(list.GetRuns()) != 2 || list.GetRuns()[0].GetInput() != nil {
		t.Errorf("%v, %v", list, err)
	}
}

func TestListsOfRuns(t *testing.T) {
	f := start(t, nil)
	c := pawlv1.NewRunServiceClient(f.operator(t))
	ids := []string{f.failed(t, c), f.begun(t, c), f.begun(t, c)}
	keyed, err := c.StartRun(t.Context(), &pawlv1.StartRunRequest{Workflow: "keyed"})
	if err != nil {
		t.Fatal(err)
	}
	ids = append(ids, keyed.GetRun().GetRunId())
	list := func(req *pawlv1.ListRunsRequest) (got []string, err error) {
		for {
			page, err := c.ListRuns(t.Context(), req)
			for _, r := range page.GetRuns() {
				got = append(got, fmt.Sprint(slices.Index(ids, r.GetRunId())))
			}
			if req.PageToken = page.GetNextPageToken(); err != nil || req.GetPageToken() == "" {
				return got, err
			}
		}
	}
	for want, req := range map[string]*pawlv1.ListRunsRequest{
		"3 2 1 0": {PageSize: 1},
		"2 1 0":   {Workflows: []string{"three", "other"}},
		"0":       {Statuses: []pawlv1.RunStatus{pawlv1.RunStatus_RUN_STATUS_FAILED}},
		"3":       {Workflows: []string{"keyed"}, ConcurrencyKey: "keyed-x"},
		"":        {ParentRunId: ids[0]},
	} {
		if got, err := list(req); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%v, %v, want %s", got, err, want)
		}
	}
	for want, req := range map[string]*pawlv1.ListRunsRequest{
		"RUN_FILTER": {ConcurrencyKey: "k"}, "RUN_STATUS": {Statuses: []pawlv1.RunStatus{8}},
		"PAGE_TOKEN": {PageToken: "x"}, "RUN_NOT_FOUND": {ParentRunId: "x"},
	} {
		if _, err := list(req); rpc.Reason(err) != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// A token that is limited to a workflow starts and sees runs of that only.
func TestLimitsOfRuns(t *testing.T) {
	f := start(t, nil)
	operator := pawlv1.NewRunServiceClient(f.operator(t))
	theirs := f.failed(t, operator)
	conn := f.as(t, auth.Token{Kind: auth.Client, Role: auth.Admin, Limits: auth.Limits{Workflows: []string{"keyed"}}})
	c := pawlv1.NewRunServiceClient(conn)
	own, err := c.StartRun(t.Context(), &pawlv1.StartRunRequest{Workflow: "keyed"})
	if err != nil {
		t.Fatal(err)
	}
	for _, req := range []*pawlv1.ListRunsRequest{{}, {Workflows: []string{"three", "keyed"}}} {
		list, err := c.ListRuns(t.Context(), req)
		if err != nil || len(list.GetRuns()) != 1 || list.GetRuns()[0].GetRunId() != own.GetRun().GetRunId() {
			t.Errorf("%v, %v", list, err)
		}
	}
	if list, err := c.ListRuns(t.Context(), &pawlv1.ListRunsRequest{Workflows: []string{"three"}}); err != nil ||
		len(list.GetRuns()) > 0 {
		t.Errorf("%v, %v", list, err)
	}
	_, refused := c.StartRun(t.Context(), &pawlv1.StartRunRequest{Workflow: "three"})
	_, absent := c.StartRun(t.Context(), &pawlv1.StartRunRequest{Workflow: "thief"})
	if rpc.Reason(refused) != "WORKFLOW_NOT_FOUND" ||
		strings.ReplaceAll(absent.Error(), "thief", "three") != refused.Error() {
		t.Errorf("%v, and of what is not there: %v", refused, absent)
	}
	for what, err := range map[string]error{
		"get":    second(c.GetRun(t.Context(), &pawlv1.GetRunRequest{RunId: theirs})),
		"wait":   second(c.WaitRun(t.Context(), &pawlv1.WaitRunRequest{RunId: theirs})),
		"steps":  second(c.ListRunSteps(t.Context(), &pawlv1.ListRunStepsRequest{RunId: theirs})),
		"cancel": second(c.CancelRun(t.Context(), &pawlv1.CancelRunRequest{RunId: theirs})),
		"signal": second(c.SignalRun(t.Context(), &pawlv1.SignalRunRequest{RunId: theirs, Signal: "go"})),
		"retry":  second(c.RetryRun(t.Context(), &pawlv1.RetryRunRequest{RunId: theirs})),
		"fork":   second(c.ForkRun(t.Context(), &pawlv1.ForkRunRequest{RunId: theirs})),
		"watch":  second(watched(t.Context(), c, &pawlv1.WatchRunRequest{RunId: theirs})),
	} {
		if rpc.Reason(err) != "RUN_NOT_FOUND" {
			t.Errorf("%s: %v", what, err)
		}
	}
	w := pawlv1.NewWorkflowServiceClient(conn)
	if _, err := w.ValidateWorkflow(t.Context(), &pawlv1.ValidateWorkflowRequest{Workflow: "x"}); rpc.Reason(err) !=
		"FORBIDDEN" {
		t.Errorf("%v", err)
	}
	list, err := w.ListWorkflows(t.Context(), &pawlv1.ListWorkflowsRequest{})
	if err != nil || len(list.GetWorkflows()) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := w.GetWorkflow(t.Context(), &pawlv1.GetWorkflowRequest{Workflow: "three"}); rpc.Reason(err) !=
		"WORKFLOW_NOT_FOUND" {
		t.Errorf("%v", err)
	}
}

// watched is the events of a watch until it ends, by seq and kind.
func watched(ctx context.Context, c pawlv1.RunServiceClient, req *pawlv1.WatchRunRequest) (all []string, err error) {
	stream, err := c.WatchRun(ctx, req)
	if err != nil {
		return nil, err
	}
	for {
		switch got, err := stream.Recv(); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return all, err
		default:
			for _, e := range got.GetEvents() {
				all = append(all, fmt.Sprintf("%d %T", e.GetSeq(), e.GetEvent()))
			}
		}
	}
}

func TestARunIsWatchedToItsEnd(t *testing.T) {
	f := start(t, nil)
	c := pawlv1.NewRunServiceClient(f.operator(t))
	id := f.begun(t, c)
	f.own.Record(t, id)
	if got, err := watched(t.Context(), c, &pawlv1.WatchRunRequest{RunId: id, PastOnly: true}); err != nil ||
		len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	ended := make(chan []string, 1)
	go func() {
		got, err := watched(t.Context(), c, &pawlv1.WatchRunRequest{RunId: id})
		ended <- append(got, fmt.Sprint(err))
	}()
	f.own.Record(t, id)
	f.own.End(t, id, lane.Settlement{Outcome: lane.Completed})
	want := []string{
		"1 *pawlv1.Event_Restarted", "2 *pawlv1.Event_Restarted", "3 *pawlv1.Event_RunSettled", "<nil>",
	}
	if got := <-ended; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	for after, n := range map[int64]int{0: 3, 2: 1, 3: 0} {
		got, err := watched(t.Context(), c, &pawlv1.WatchRunRequest{RunId: id, After: after})
		if err != nil || len(got) != n {
			t.Errorf("after %d: %v, %v", after, got, err)
		}
	}
	if _, err := watched(t.Context(), c, &pawlv1.WatchRunRequest{RunId: id, After: 4}); rpc.Reason(err) !=
		"CURSOR_AHEAD" {
		t.Errorf("%v", err)
	}
	if _, err := watched(t.Context(), c, &pawlv1.WatchRunRequest{RunId: id, After: -1}); rpc.Reason(err) != "CURSOR" {
		t.Errorf("%v", err)
	}
}

// A run that was cancelled before it began has no event, and whoever watches it is let go all the same.
func TestACancelledRunIsNotWatchedForEver(t *testing.T) {
	f := start(t, nil)
	f.own.Busy = true
	c := pawlv1.NewRunServiceClient(f.operator(t))
	id := f.begun(t, c)
	stream, err := c.WatchRun(t.Context(), &pawlv1.WatchRunRequest{RunId: id})
	if err == nil {
		_, err = stream.Recv() // it has begun
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.CancelRun(t.Context(), &pawlv1.CancelRunRequest{RunId: id})
	if err != nil || got.GetRun().GetStatus() != pawlv1.RunStatus_RUN_STATUS_CANCELLED ||
		!got.GetRun().GetCancellation().GetConfirmed() {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestSignalsAreGivenOnce(t *testing.T) {
	f := start(t, nil)
	c := pawlv1.NewRunServiceClient(f.operator(t))
	id := f.begun(t, c)
	give := func(message, body string) (*pawlv1.SignalRunResponse, error) {
		return c.SignalRun(t.Context(), &pawlv1.SignalRunRequest{
			RunId: id, Signal: "go", MessageId: message, Body: object(t, body),
		})
	}
	first, err := give("m", `{"a": 1}`)
	if err != nil || first.GetReplayed() || first.GetSeq() != 1 || first.GetReceivedAt() == nil {
		t.Fatalf("%v, %v", first, err)
	}
	if again, err := give("m", `{"a": 1}`); err != nil || !again.GetReplayed() || again.GetSeq() != 1 {
		t.Errorf("%v, %v", again, err)
	}
	if _, err := give("m", `{"a": 2}`); rpc.Reason(err) != "SIGNAL_CONFLICT" {
		t.Errorf("%v", err)
	}
	waiting, err := f.Store.Untaken(t.Context(), id)
	if err != nil || len(waiting) != 1 || string(waiting[0].Body) != `{"a":1}` || waiting[0].By != "operator" {
		t.Errorf("%+v, %v", waiting, err)
	}
	f.own.End(t, id, lane.Settlement{Outcome: lane.Completed})
	if _, err := give("", `1`); rpc.Reason(err) != "RUN_ENDED" {
		t.Errorf("%v", err)
	}
}

func TestRunsGoOnFromAStep(t *testing.T) {
	f := start(t, nil)
	c := pawlv1.NewRunServiceClient(f.operator(t))
	id := f.failed(t, c)
	steps, err := c.ListRunSteps(t.Context(), &pawlv1.ListRunStepsRequest{RunId: id, After: 1})
	if err != nil || len(steps.GetSteps()) != 2 || steps.GetSteps()[1].GetFailure().GetReason() != "exit_code" ||
		steps.GetSteps()[0].GetOutput().GetStructValue().GetFields()["stdout"].GetStringValue() != "x" {
		t.Errorf("%v, %v", steps, err)
	}
	fork, err := c.ForkRun(t.Context(), &pawlv1.ForkRunRequest{
		RunId: id, From: "d", Input: object(t, `{"path":"q"}`).GetStructValue(),
	})
	if err != nil || fork.GetRun().GetForkedFromRunId() != id || fork.GetRun().GetRunId() == id ||
		fork.GetRun().GetInput().GetStructValue().GetFields()["path"].GetStringValue() != "q" {
		t.Errorf("%v, %v", fork, err)
	}
	steps, err = c.ListRunSteps(t.Context(), &pawlv1.ListRunStepsRequest{RunId: fork.GetRun().GetRunId()})
	if err != nil || len(steps.GetSteps()) != 2 {
		t.Errorf("%v, %v", steps, err)
	}
	if _, err := c.RetryRun(t.Context(), &pawlv1.RetryRunRequest{RunId: id, From: "nothing"}); rpc.Reason(err) !=
		"STEP_NOT_RECORDED" {
		t.Errorf("%v", err)
	}
	for _, replayed := range []bool{false, true} {
		got, err := c.RetryRun(t.Context(), &pawlv1.RetryRunRequest{RunId: id, Attempt: 1})
		if err != nil || got.GetReplayed() != replayed || got.GetRun().GetAttempt() != 2 {
			t.Errorf("%v, %v", got, err)
		}
	}
	if _, err := c.RetryRun(t.Context(), &pawlv1.RetryRunRequest{RunId: id}); rpc.Reason(err) != "RUN_NOT_ENDED" {
		t.Errorf("%v", err)
	}
}

// What is done with runs is on record, once, with the run that it is about.
func TestChangesOfRunsAreOnRecord(t *testing.T) {
	f := start(t, nil)
	trail := audit.NewLog(f.Store, slog.New(slog.DiscardHandler))
	f.serve(t, trail)
	running, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- trail.Run(running) }()
	c := pawlv1.NewRunServiceClient(f.operator(t))
	id := f.failed(t, c)
	fork, err := c.ForkRun(t.Context(), &pawlv1.ForkRunRequest{RunId: id})
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"retry":  second(c.RetryRun(t.Context(), &pawlv1.RetryRunRequest{RunId: id})),
		"signal": second(c.SignalRun(t.Context(), &pawlv1.SignalRunRequest{RunId: id, Signal: "go"})),
		"cancel": second(c.CancelRun(t.Context(), &pawlv1.CancelRunRequest{RunId: id})),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	all, _, err := f.Store.ListAudit(t.Context(), audit.Filter{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range all {
		got = append(got, strings.TrimPrefix(e.Method, "pawl.v1.RunService/")+": "+e.Resource)
	}
	slices.Sort(got)
	want := []string{
		"CancelRun: run_id=" + id, "ForkRun: run_id=" + fork.GetRun().GetRunId() + " run_id=" + id,
		"RetryRun: run_id=" + id, "SignalRun: run_id=" + id + " signal=go",
		"StartRun: run_id=" + id + " workflow=three",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}
