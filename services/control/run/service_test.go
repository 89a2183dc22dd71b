package run_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

const (
	three = `
input:
  type: object
  required: [path]
  properties: {path: {type: string}, deep: {type: boolean, default: true}}
timeout: 2h
steps: [{id: a, shell: a}, {id: b, shell: b}, {id: c, shell: c}]
`
	keyed = `
input: {type: object, required: [path], properties: {path: {type: string}}}
concurrency: {key: "${{ input.path }}", limit: 1, policy: reject}
env: [HOME]
steps: [{log: hi}]
`
)

type fixture struct {
	*planetest.Runs
	*testing.T
	workflows *planetest.Workflows
	plane     *planetest.Plane
}

func start(t *testing.T) *fixture {
	t.Helper()
	p := planetest.New(t, nil)
	w := planetest.NewWorkflows(t, map[string]string{
		"three": three, "keyed": keyed, "any": "steps: [{log: hi}]",
		"broken": `{concurrency: {key: "${{ string(run.started) }}"}, steps: [{log: hi}]}`,
		"queued": `{concurrency: {key: "${{ run.cause + env.HOME }}", limit: 2}, env: [HOME], steps: [{log: hi}]}`,
	})
	return &fixture{p.Runs(t, w), t, w, p}
}

// run starts a run of three.
func (f *fixture) run() run.Run {
	f.Helper()
	got, err := f.Start(f.Context(), run.Input{Workflow: "three", Input: json.RawMessage(`{"path": "p"}`)})
	if err != nil {
		f.Fatal(err)
	}
	return got.Run
}

func ended(ord int, path string, s step.State) step.Record {
	r := step.Record{Ord: ord, Path: path, Kind: "shell", State: s, Try: 1, Wait: step.Never}
	if r.Output = json.RawMessage(`{"stdout":"x"}`); s != step.Completed {
		r.Output, r.Failed = nil, &step.Failure{Reason: "exit_code", Message: "it ended with 1"}
	}
	return r
}

// failed is a run of three whose second step has failed.
func (f *fixture) failed() run.Run {
	f.Helper()
	r := f.run()
	f.Record(f, r.ID, ended(1, "a", step.Completed), ended(2, "b", step.Failed))
	f.End(f, r.ID, lane.Settlement{Outcome: lane.Failed, Reason: "exit_code", Message: "it ended with 1"})
	r, err := f.Get(f.Context(), "default", r.ID)
	if err != nil || r.Status != run.Failed {
		f.Fatalf("%+v, %v", r, err)
	}
	return r
}

func (f *fixture) refused(err, want error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Errorf("%v, want %v", err, want)
	}
}

func TestARunIsAdmittedWithItsDefaults(t *testing.T) {
	f := start(t)
	r := f.run()
	if string(r.Input) != `{"deep":true,"path":"p"}` || r.Status != run.Active || r.Attempt != 1 || r.Key != "" {
		t.Errorf("%+v", r)
	}
	f.End(t, r.ID, lane.Settlement{Outcome: lane.Completed, Data: json.RawMessage(`{"n":1}`)}) // it is owned
	got, err := f.Wait(t.Context(), "default", r.ID, submission.Forever)
	if err != nil || got.Status != run.Completed || string(got.Output) != `{"n":1}` {
		t.Errorf("%+v, %v", got, err)
	}
	sub, err := f.plane.Store.GetSubmission(t.Context(), "default", r.SubmissionID)
	if err != nil || sub.Timeout != 2*time.Hour {
		t.Errorf("%+v, %v", sub, err)
	}
}

func TestWhatIsNoInputIsRefused(t *testing.T) {
	f := start(t)
	large := `{"path": "` + strings.Repeat("x", run.MaxInput) + `"}`
	for input, want := range map[string]error{
		`{"path": 1}`: workflow.ErrInput, `{}`: workflow.ErrInput, "": workflow.ErrInput,
		`{"path": "p"`: workflow.ErrInput, "\"\xff\"": workflow.ErrInput, large: run.ErrInputTooLarge,
	} {
		_, err := f.Start(t.Context(), run.Input{Workflow: "three", Input: json.RawMessage(input)})
		f.refused(err, want)
	}
	_, err := f.Start(t.Context(), run.Input{Workflow: "nothing"})
	f.refused(err, workflow.ErrNotFound)
	_, err = f.Start(t.Context(), run.Input{Workflow: "any", IdempotencyKey: "a\nb"})
	f.refused(err, ident.ErrInvalid)
	if all, err := f.List(t.Context(), run.Filter{Tenant: "default", Limit: 10}); err != nil || len(all) > 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestAConcurrencyKeyIsEvaluated(t *testing.T) {
	f := start(t)
	in := run.Input{Workflow: "keyed", Input: json.RawMessage(`{"path": "p"}`)}
	first, err := f.Start(t.Context(), in)
	if err != nil || first.Run.Key != "p" {
		t.Fatalf("%+v, %v", first, err)
	}
	_, err = f.Start(t.Context(), in)
	f.refused(err, run.ErrKeyBusy)
	in.Input = json.RawMessage(`{"path": "q"}`)
	if _, err = f.Start(t.Context(), in); err != nil {
		t.Error(err)
	}
	in.Input = json.RawMessage(`{"path": ""}`) // no key
	for range 2 {
		if got, err := f.Start(t.Context(), in); err != nil || got.Run.Key != "" {
			t.Errorf("%+v, %v", got, err)
		}
	}
	in.Input = json.RawMessage(`{"path": "a\u0000b"}`)
	_, err = f.Start(t.Context(), in)
	f.refused(err, run.ErrKey)
	_, err = f.Start(t.Context(), run.Input{Workflow: "broken"})
	f.refused(err, run.ErrKey)
	n, err := f.Prepare(t.Context(), run.Input{Workflow: "queued", Fired: &run.Fired{For: time.Now()}})
	if err != nil || *n.Gate != (run.Gate{Key: "schedulevalue of HOME", Limit: 2}) {
		t.Errorf("%+v, %v", n.Gate, err)
	}
	for workflow, want := range map[string]run.Gate{
		"any": {Key: "own", Limit: 1}, "queued": {Key: "own", Limit: 2},
		"keyed": {Key: "own", Limit: 1, Policy: run.Reject},
	} {
		n, err := f.Prepare(t.Context(), run.Input{
			Workflow: workflow, Key: "own", Input: json.RawMessage(`{"path": "p"}`),
		})
		if err != nil || *n.Gate != want {
			t.Errorf("%s: %+v, %v", workflow, n.Gate, err)
		}
	}
}

func TestARunIsStartedOnceForAKey(t *testing.T) {
	f := start(t)
	in := run.Input{Workflow: "three", Input: json.RawMessage(`{"path": "p"}`), IdempotencyKey: "k"}
	first, err := f.Start(t.Context(), in)
	if err != nil || first.Replayed {
		t.Fatalf("%+v, %v", first, err)
	}
	f.workflows.Force["three"] = planetest.ParseWorkflow(t, "three", "{input: {type: string}, steps: [{log: x}]}")
	in.Input = json.RawMessage(`{ "path" : "p" }`)
	same := func() {
		t.Helper()
		if got, err := f.Start(t.Context(), in); err != nil || !got.Replayed || got.Run.ID != first.Run.ID {
			t.Errorf("%+v, %v", got, err)
		}
	}
	same() // although it takes other input by now
	delete(f.workflows.Force, "three")
	same()
	in.Input = json.RawMessage(`{"path": "q"}`)
	_, err = f.Start(t.Context(), in)
	f.refused(err, submission.ErrIdempotencyConflict)
	in.IdempotencyKey = "other"
	_, err = f.Start(t.Context(), in)
	f.refused(err, workflow.ErrNotFound)

	id := ident.New()
	for range 2 { // a run whose answer was lost
		got, err := f.Start(t.Context(), run.Input{ID: id, Workflow: "any"})
		if err != nil || got.Run.ID != id {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if all, err := f.List(t.Context(), run.Filter{Tenant: "default", Limit: 10}); err != nil || len(all) != 2 {
		t.Errorf("%d runs, %v", len(all), err)
	}
}

// leaving is a database at which the client leaves before it is answered.
type leaving struct {
	run.Reader
	leave context.CancelFunc
}

func (l leaving) StartRun(ctx context.Context, _ run.Start) (run.Started, error) {
	l.leave()
	return run.Started{Lease: &lane.Lease{}}, ctx.Err()
}

// counting is a worker that counts.
type counting struct{ started, given, posted int }

func (*counting) Reserve() (string, bool)  { return "owner", true }
func (c *counting) Start(lane.Lease)       { c.started++ }
func (c *counting) Unreserve()             { c.given++ }
func (c *counting) Posted(context.Context) { c.posted++ }

// What was admitted begins, whether or not the client that asked for it is still there; and no slot is lost.
func TestAdmissionOutlivesItsClient(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	w := &counting{}
	f := start(t)
	s := run.NewService(run.Deps{Store: leaving{leave: leave}, Workflows: f.workflows, Worker: w})
	if _, err := s.Start(ctx, run.Input{Workflow: "any"}); err != nil || w.started != 1 || w.given != 0 {
		t.Errorf("%v; %+v", err, w)
	}
	s = run.NewService(run.Deps{Store: panicking{}, Workflows: f.workflows, Worker: w})
	if _, err := s.Start(t.Context(), run.Input{Workflow: "any"}); err == nil || w.given != 1 {
		t.Errorf("%v; %+v", err, w)
	}
}

// panicking is a database that panics.
type panicking struct{ run.Reader }

func TestTheEndIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t)
		r := f.run()
		begun := time.Now()
		got, err := f.Wait(t.Context(), "default", r.ID, time.Minute)
		if err != nil || got.Status != run.Active || time.Since(begun) != time.Minute {
			t.Errorf("%+v, %v after %v", got, err, time.Since(begun))
		}
		if _, err := f.Wait(t.Context(), "other", r.ID, time.Minute); !errors.Is(err, run.ErrNotFound) {
			t.Error(err)
		}
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		if _, err := f.Wait(ctx, "default", r.ID, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		done := make(chan run.Run, 1)
		go func() {
			got, err := f.Wait(t.Context(), "default", r.ID, submission.Forever)
			if err != nil {
				t.Error(err)
			}
			done <- got
		}()
		synctest.Wait()
		f.End(t, r.ID, lane.Settlement{Outcome: lane.Failed, Reason: "R", Message: "m"})
		if got := <-done; got.Status != run.Failed || got.Reason != "R" || got.Message != "m" {
			t.Errorf("%+v", got)
		}
	})
}

func TestARunIsCancelled(t *testing.T) {
	f := start(t)
	owned := f.run()
	got, err := f.Cancel(t.Context(), "default", owned.ID)
	if err != nil || got.Status != run.Active || !got.Abort {
		t.Errorf("%+v, %v", got, err)
	}
	f.End(t, owned.ID, lane.Settlement{Outcome: lane.Aborted})
	f.Busy = true
	queued := f.run()
	for range 2 {
		if got, err = f.Cancel(t.Context(), "default", queued.ID); err != nil || got.Status != run.Cancelled {
			t.Errorf("%+v, %v", got, err)
		}
	}
	_, err = f.Cancel(t.Context(), "other", owned.ID)
	f.refused(err, run.ErrNotFound)
}

func TestASignalIsGivenOnce(t *testing.T) {
	f := start(t)
	r := f.run()
	g := run.Signalling{
		Tenant: "default", RunID: r.ID, Name: "go", MessageID: "m", Body: json.RawMessage(`{"a": 1}`), By: "anna",
	}
	first, replayed, err := f.Signal(t.Context(), g)
	if err != nil || replayed || first.Seq != 1 || first.By != "anna" {
		t.Fatalf("%+v, %v, %v", first, replayed, err)
	}
	g.Body = json.RawMessage(`{"a":1}`)
	if again, replayed, err := f.Signal(t.Context(), g); err != nil || !replayed || again.Seq != 1 {
		t.Errorf("%+v, %v, %v", again, replayed, err)
	}
	g.Body = json.RawMessage(`{"a":2}`)
	_, _, err = f.Signal(t.Context(), g)
	f.refused(err, run.ErrSignalConflict)
	for range 2 { // without a message id
		_, replayed, err := f.Signal(t.Context(), run.Signalling{Tenant: "default", RunID: r.ID, Name: "go"})
		if err != nil || replayed {
			t.Error(replayed, err)
		}
	}
	if all, err := f.plane.Store.Untaken(t.Context(), r.ID); err != nil || len(all) != 3 || all[1].Body != nil {
		t.Errorf("%+v, %v", all, err)
	}
	for _, bad := range []run.Signalling{
		{Name: "go", Body: json.RawMessage(`{`)},
		{Name: "go", Body: json.RawMessage(`"` + strings.Repeat("x", step.MaxSignalBytes) + `"`)},
		{Name: "", Body: nil},
		{Name: "a\nb"},
		{Name: strings.Repeat("x", 65)},
		{Name: "go", MessageID: "a\x00"},
	} {
		bad.Tenant, bad.RunID = "default", r.ID
		_, _, err := f.Signal(t.Context(), bad)
		if !errors.Is(err, run.ErrSignal) && !errors.Is(err, ident.ErrInvalid) {
			t.Errorf("%.20s %.20s: %v", bad.Name, bad.Body, err)
		}
	}
	g.Tenant = "other"
	_, _, err = f.Signal(t.Context(), g)
	f.refused(err, run.ErrNotFound)
	f.End(t, r.ID, lane.Settlement{Outcome: lane.Completed})
	_, _, err = f.Signal(t.Context(), run.Signalling{Tenant: "default", RunID: r.ID, Name: "go"})
	f.refused(err, run.ErrEnded)
}

func TestARunIsRetriedFromAStep(t *testing.T) {
	f := start(t)
	r := f.failed()
	delete(f.workflows.Force, "three") // a run keeps its definition
	again, err := f.Retry(t.Context(), run.Retrying{Tenant: "default", RunID: r.ID, Attempt: 1})
	if err != nil || again.Replayed || again.Run.Attempt != 2 || again.Run.Status != run.Active {
		t.Fatalf("%+v, %v", again, err)
	}
	if got, err := f.Steps(t.Context(), "default", r.ID, 0, 10); err != nil || len(got) != 1 || got[0].Path != "a" {
		t.Errorf("%+v, %v", got, err)
	}
	same, err := f.Retry(t.Context(), run.Retrying{Tenant: "default", RunID: r.ID, Attempt: 1})
	if err != nil || !same.Replayed || same.Run.Attempt != 2 {
		t.Errorf("%+v, %v", same, err)
	}
	_, err = f.Retry(t.Context(), run.Retrying{Tenant: "default", RunID: r.ID})
	f.refused(err, run.ErrNotEnded)
	f.Record(t, r.ID, ended(2, "b", step.Completed), ended(3, "c", step.Completed))
	f.End(t, r.ID, lane.Settlement{Outcome: lane.Completed})
	_, err = f.Retry(t.Context(), run.Retrying{Tenant: "default", RunID: r.ID})
	f.refused(err, drive.ErrFrom) // none has failed
	_, err = f.Retry(t.Context(), run.Retrying{Tenant: "default", RunID: r.ID, From: "nothing"})
	f.refused(err, drive.ErrFrom)
	_, err = f.Retry(t.Context(), run.Retrying{Tenant: "other", RunID: r.ID, From: "c"})
	f.refused(err, run.ErrNotFound)
	third, err := f.Retry(t.Context(), run.Retrying{Tenant: "default", RunID: r.ID, From: "c"})
	if err != nil || third.Run.Attempt != 3 || third.Run.LastOrd != 2 {
		t.Errorf("%+v, %v", third, err)
	}
	_, err = f.Retry(t.Context(), run.Retrying{Tenant: "default", RunID: r.ID, Attempt: 1})
	f.refused(err, run.ErrAttempt)
}

func TestARetryWaitsForItsKey(t *testing.T) {
	f := start(t)
	in := run.Input{Workflow: "keyed", Input: json.RawMessage(`{"path": "p"}`)}
	first, err := f.Start(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	failed := step.Record{Ord: 1, Path: "log-1", Kind: "log", State: step.Failed, Try: 1, Wait: step.Never}
	failed.Failed = &step.Failure{Reason: "R"}
	f.Record(t, first.Run.ID, failed)
	f.End(t, first.Run.ID, lane.Settlement{Outcome: lane.Failed})
	second, err := f.Start(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Retry(t.Context(), run.Retrying{Tenant: "default", RunID: first.Run.ID})
	f.refused(err, run.ErrKeyBusy)
	f.End(t, second.Run.ID, lane.Settlement{Outcome: lane.Completed})
	if got, err := f.Retry(t.Context(), run.Retrying{Tenant: "default", RunID: first.Run.ID}); err != nil ||
		got.Run.Key != "p" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestARunIsForked(t *testing.T) {
	f := start(t)
	r := f.failed()
	delete(f.workflows.Force, "three")
	q := run.Forking{Tenant: "default", RunID: r.ID, Input: json.RawMessage(`{"deep": false}`), IdempotencyKey: "k"}
	got, err := f.Fork(t.Context(), q)
	if err != nil || got.Run.ForkedFrom != r.ID || got.Run.Digest != r.Digest || got.Run.ID == r.ID ||
		string(got.Run.Input) != `{"deep":false,"path":"p"}` {
		t.Fatalf("%+v, %v", got, err)
	}
	all, err := f.Steps(t.Context(), "default", got.Run.ID, 0, 10)
	if err != nil || len(all) != 1 || all[0].Path != "a" {
		t.Errorf("%+v, %v", all, err)
	}
	if all, err := f.Steps(t.Context(), "default", r.ID, 0, 10); err != nil || len(all) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	if same, err := f.Fork(t.Context(), q); err != nil || !same.Replayed || same.Run.ID != got.Run.ID {
		t.Errorf("%+v, %v", same, err)
	}
	q.From = "a"
	_, err = f.Fork(t.Context(), q)
	f.refused(err, submission.ErrIdempotencyConflict)
	for _, bad := range []string{`{"path": 1}`, `[]`, `{`} {
		_, err = f.Fork(t.Context(), run.Forking{Tenant: "default", RunID: r.ID, Input: json.RawMessage(bad)})
		f.refused(err, workflow.ErrInput)
	}
	_, err = f.Fork(t.Context(), run.Forking{Tenant: "other", RunID: r.ID})
	f.refused(err, run.ErrNotFound)
	f.workflows.Force["three"] = planetest.ParseWorkflow(t, "three", three)
	going := f.run() // which is left as it is
	f.Record(t, going.ID, ended(1, "a", step.Completed))
	if got, err = f.Fork(t.Context(), run.Forking{Tenant: "default", RunID: going.ID, From: "a"}); err != nil ||
		got.Run.LastOrd != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	f.Record(t, going.ID, ended(2, "b", step.Completed))
}

// Nobody knows what was done in a step whose record cannot be read: it is not taken for one that never was.
func TestRecordsThatCannotBeReadAreNotGoneOnFrom(t *testing.T) {
	f := start(t)
	r := f.run()
	part := ended(2, "a.b", step.Failed)
	part.Parent = 7
	f.Record(t, r.ID, part)
	f.End(t, r.ID, lane.Settlement{Outcome: lane.Failed})
	_, err := f.Retry(t.Context(), run.Retrying{Tenant: "default", RunID: r.ID})
	f.refused(err, drive.ErrFrom)
}

func TestListsAreFiltered(t *testing.T) {
	f := start(t)
	r := f.failed()
	f.run()
	for _, bad := range []run.Filter{
		{},
		{Limit: run.MaxListed + 1},
		{Limit: 1, Key: "k"},
		{Limit: 1, Parent: "p", Statuses: []run.Status{run.Failed}},
		{Limit: 1, Key: "k", Workflows: []string{"a"}, Statuses: []run.Status{run.Failed}},
	} {
		_, err := f.List(t.Context(), bad)
		f.refused(err, run.ErrFilter)
	}
	all, err := f.List(t.Context(), run.Filter{
		Tenant: "default", Limit: 10, Statuses: []run.Status{run.Failed, run.Failed},
		Workflows: []string{"three", "three"},
	})
	if err != nil || len(all) != 1 || all[0].ID != r.ID {
		t.Errorf("%+v, %v", all, err)
	}
}

// What is on record of a change is stored with it, once.
func TestChangesAreOnRecord(t *testing.T) {
	f := start(t)
	log := audit.NewLog(f.plane.Store, nil)
	records := 0
	on := func() *audit.Record {
		r, err := log.Reserve()
		if err != nil {
			t.Fatal(err)
		}
		records++
		r.Fill(audit.Event{Tenant: session.DefaultTenant, Verb: "v", Method: "m", Resource: "r", Allowed: true})
		return r
	}
	started, err := f.Start(t.Context(), run.Input{Workflow: "any", IdempotencyKey: "k", Record: on()})
	if err != nil {
		t.Fatal(err)
	}
	id := started.Run.ID
	if _, err := f.Start(t.Context(), run.Input{Workflow: "any", IdempotencyKey: "k", Record: on()}); err != nil {
		t.Fatal(err)
	}
	records--
	if _, _, err := f.Signal(t.Context(), run.Signalling{
		Tenant: "default", RunID: id, Name: "s", Record: on(),
	}); err != nil {
		t.Fatal(err)
	}
	f.Record(t, id, ended(1, "log-1", step.Failed))
	f.End(t, id, lane.Settlement{Outcome: lane.Failed})
	if _, err := f.Retry(t.Context(), run.Retrying{Tenant: "default", RunID: id, Record: on()}); err != nil {
		t.Fatal(err)
	}
	page, _, err := f.plane.Store.ListAudit(t.Context(), audit.Filter{Tenant: "default", Limit: 10})
	if err != nil || len(page) != records {
		t.Fatalf("%d records, want %d, %v", len(page), records, err)
	}
	for _, e := range page {
		if e.Resource != "run_id="+id+" r" {
			t.Errorf("%+v", e)
		}
	}
}
