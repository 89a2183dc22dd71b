package platformtest_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/offline"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// world is a replica "a" and a machine "m" that is connected to it.
type world struct {
	*testing.T
	c *platformtest.Cluster
	a *platformtest.Platform
	m *platformtest.Machine
	// asking is how many answers of test models are under way.
	asking atomic.Int32
	served served
}

// Commands of worktest.Box. one leaves its mark, takes a minute, and says what it is for.
const (
	one   = "add effects one;echo half of it;sleep 1m;echo the true result"
	quick = "add effects quick;echo quick result"
	truth = "half of it\nthe true result"
)

// models are offline/shell, test/paced, which takes a second for each part of what offline/shell would say, and
// test/hung, which never answers.
type models struct{ asking *atomic.Int32 }

func (m models) Model(ref model.Ref) (model.Model, error) {
	switch ref.ID {
	case "paced":
		return paced{offline.New(), time.Second, m.asking}, nil
	case "hung":
		return paced{offline.New(), 1000 * time.Hour, m.asking}, nil
	}
	return platformtest.Models{}.Model(ref)
}

type paced struct {
	model.Model
	pace   time.Duration
	asking *atomic.Int32
}

func (m paced) Stream(ctx context.Context, req model.Request) iter.Seq2[model.Part, error] {
	return func(yield func(model.Part, error) bool) {
		m.asking.Add(1)
		defer m.asking.Add(-1)
		for p, err := range m.Model.Stream(ctx, req) {
			select {
			case <-time.After(m.pace):
			case <-ctx.Done():
				yield(model.Part{}, ctx.Err())
				return
			}
			if !yield(p, err) {
				return
			}
		}
	}
}

// thrift is how many tokens the agent thrifty and its sub-agents may take.
const thrift = 3000

// agents are those of a world: lead and thrifty can ask all others.
func agents() []agent.Definition {
	var all []agent.Definition
	names := []string{"shell", "paced", "hung", "hasty", "brief"}
	for _, name := range append(names, "lead", "thrifty") {
		d := agent.Shell()
		d.Name, d.Tools = name, builtin.Names()
		switch name {
		case "paced", "hung":
			d.Limits.Timeout, d.Model = 5*time.Minute, model.Ref{Provider: "test", ID: name}
		case "hasty":
			d.Limits.Timeout = 5 * time.Minute
		case "brief":
			d.Limits.Turns = 1
		case "lead", "thrifty":
			d.Subagents = names
		}
		if name == "thrifty" {
			d.Limits.Tokens = thrift
		}
		all = append(all, d)
	}
	narrow := agent.Shell()
	narrow.Name, narrow.Tools = "narrow", []string{builtin.NameBash}
	narrow.Compaction = &agent.Compaction{Window: 4_500, Reserve: 1_500, Keep: 300}
	return slices.Concat(all, []agent.Definition{narrow, skilled(), calling("http"), calling("stdio")}, ruled())
}

// within runs a test in a world on fake time.
func within(t *testing.T, run func(w *world)) {
	synctest.Test(t, func(t *testing.T) { run(newWorld(t)) })
}

func newWorld(t *testing.T) *world { return newWorldOf(t, nil) }

func newWorldOf(t *testing.T, workflows *workflow.Catalogue) *world {
	w := &world{T: t}
	w.c = platformtest.New(t, platformtest.Options{
		Models: models{&w.asking}, Agents: agents(), Egress: w.wayOut(), Workflows: workflows,
	})
	w.a = w.c.Start("a", nil)
	w.m = w.c.Machine(w.a, "m")
	w.m.Box.Serve = w.serveBeside
	w.m.Start(w.a)
	synctest.Wait() // control has counted the executor's slots
	return w
}

// sleep lets fake time pass.
func (w *world) sleep(d time.Duration) { time.Sleep(d) }

func key(agent string) *pawlv1.SessionKey { return &pawlv1.SessionKey{Agent: agent, Instance: "i"} }

// try submits, with an idempotency key that stands for the message.
func (w *world) try(
	ctx context.Context, p *platformtest.Platform, agent, message string,
) (*pawlv1.SubmitResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return pawlv1.NewSubmissionServiceClient(p.GRPC).Submit(ctx, &pawlv1.SubmitRequest{
		Key:     key(agent),
		Message: message, IdempotencyKey: fmt.Sprintf("%x", sha256.Sum256([]byte(message))),
	})
}

func (w *world) submitTo(p *platformtest.Platform, agent, message string) string {
	w.Helper()
	got, err := w.try(w.Context(), p, agent, message)
	if err != nil {
		w.Fatal(err)
	}
	return got.GetSubmission().GetSubmissionId()
}

// again submits what was admitted before, by a replica that may have died before it answered.
func (w *world) again(p *platformtest.Platform, agent, message string) string {
	w.Helper()
	got, err := w.try(w.Context(), p, agent, message)
	if err != nil || !got.GetReplayed() {
		w.Fatalf("the replay: %v, %v", got, err)
	}
	return got.GetSubmission().GetSubmissionId()
}

func (w *world) submit(message string) string { w.Helper(); return w.submitTo(w.a, "shell", message) }

func (w *world) tryWait(p *platformtest.Platform, id string) (*pawlv1.Submission, error) {
	ctx, cancel := context.WithTimeout(w.Context(), 10*time.Hour)
	defer cancel()
	got, err := pawlv1.NewSubmissionServiceClient(p.GRPC).WaitSubmission(ctx,
		&pawlv1.WaitSubmissionRequest{SubmissionId: id}, grpc.WaitForReady(true))
	return got.GetSubmission(), err
}

// wait waits for a submission to complete with an answer that has a part; it is returned.
func (w *world) wait(p *platformtest.Platform, id, answer string) *pawlv1.Submission {
	w.Helper()
	got, err := w.tryWait(p, id)
	if err != nil {
		w.Fatal(err)
	}
	if got.GetOutcome() != pawlv1.Outcome_OUTCOME_COMPLETED || !strings.Contains(got.GetResult().GetText(), answer) {
		w.Fatalf("settled %v with %q %v, want completed with %q", got.GetOutcome(), got.GetResult().GetText(),
			got.GetError(), answer)
	}
	return got
}

// killsAt kills a replica at a step of its database.
func killsAt(step string) func(*platformtest.Platform, platformtest.Step) error {
	return func(p *platformtest.Platform, s platformtest.Step) error {
		if s.String() == step && (s.Leases > 0 || s.Op != "Claim" && s.Op != "TakeOver") {
			return p.Strike()
		}
		return nil
	}
}

func killAt(p *platformtest.Platform, step string) {
	p.DB.Strike(func(s platformtest.Step) error { return killsAt(step)(p, s) })
}

// dead waits until nothing of a replica runs.
func (w *world) dead(p *platformtest.Platform) {
	w.Helper()
	select {
	case <-p.Dead():
	case <-time.After(10 * time.Hour):
		w.Fatal("nothing has killed the replica: the fault was not met")
	}
}

// next is the replica that takes the place of one that was killed, and the machine's new one.
func (w *world) next(dead *platformtest.Platform) *platformtest.Platform {
	w.Helper()
	w.dead(dead)
	p := w.c.Start(dead.Name, nil)
	w.m.Dial(p)
	return p
}

// effects is what commands left in the file effects.
func (w *world) effects() []string {
	text, _ := w.m.Box.Get("effects")
	return strings.Fields(text)
}

func (w *world) events(sessionID string) (all []event.Event) {
	w.Helper()
	for after := int64(0); ; after = all[len(all)-1].Seq {
		page, err := w.c.Store.Events(w.Context(), sessionID, after, 10_000)
		if err != nil {
			w.Fatal(err)
		}
		if all = append(all, page...); len(page) == 0 {
			return all
		}
	}
}

func (w *world) entries(sessionID string) []session.Entry {
	w.Helper()
	all, err := w.c.Store.Entries(w.Context(), sessionID, 0, 10_000)
	if err != nil {
		w.Fatal(err)
	}
	return all
}

func (w *world) sessionID(agent string) string {
	w.Helper()
	s, err := w.c.Store.FindSession(w.Context(), session.Key{
		Tenant: session.DefaultTenant, Agent: agent,
		Instance: "i", Name: session.DefaultName,
	})
	if err != nil {
		w.Fatal(err)
	}
	return s.ID
}

// calls is every call of a session.
func (w *world) calls(sessionID string) (all []call.Call) {
	w.Helper()
	seen := map[string]bool{}
	for _, e := range w.events(sessionID) {
		if e.Type != event.ToolStarted || seen[e.Call.ID] {
			continue
		}
		seen[e.Call.ID] = true
		c, err := w.c.Store.GetCall(w.Context(), e.Call.ID)
		if err != nil {
			w.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// finish checks what holds after every row: the next submission of the session runs, and what must always hold holds. p
// is a replica that lives.
func (w *world) finish(p *platformtest.Platform, agent string, effects ...string) {
	w.Helper()
	id := w.submitTo(p, agent, "say: next")
	if got, err := w.tryWait(p, id); err != nil || agent != "hung" && got.GetResult().GetText() != "next" {
		w.Errorf("the next submission: %v, %v", got, err)
	}
	w.sleep(time.Minute) // whatever comes late
	if got, want := strings.Join(slices.Sorted(slices.Values(w.effects())),
		" "), strings.Join(slices.Sorted(slices.Values(effects)), " "); got != want {
		w.Errorf("effects %q, want %q", got, want)
	}
	w.checkStream(agent)
	w.checkTranscript(agent)
	w.checkCalls(agent)
}

// checkStream: seqs are dense, and every submission starts and settles once. Of one that never began the stream has
// nothing.
func (w *world) checkStream(agent string) {
	w.Helper()
	id := w.sessionID(agent)
	started, settled, joined := map[string]int{}, map[string]int{}, map[string]int{}
	for i, e := range w.events(id) {
		if e.Seq != int64(i)+1 {
			w.Errorf("event %d has seq %d", i+1, e.Seq)
		}
		switch e.Type {
		case event.Started:
			started[e.SubmissionID]++
		case event.Settled:
			settled[e.SubmissionID]++
		case event.Steered:
			joined[e.Joined]++
		}
	}
	subs, err := w.c.Store.ListSubmissions(w.Context(), id, 0, 1000)
	if err != nil {
		w.Fatal(err)
	}
	for _, s := range subs {
		want := 1
		if s.Message == submission.NeverBegan().Message {
			want = 0
		}
		if s.WhenBusy == submission.Steer && s.InputEntry > 0 {
			want = 0
			if joined[s.ID] != 1 {
				w.Errorf("submission %d: %d events that it has joined another", s.Seq, joined[s.ID])
			}
		}
		if s.Status != submission.SettledStatus || settled[s.ID] != want || started[s.ID] != want {
			w.Errorf("submission %d: status %d, %d started and %d settled events", s.Seq, s.Status, started[s.ID],
				settled[s.ID])
		}
	}
}

// checkTranscript: submissions follow each other in order of admission, each begins with its input, and every call has
// one result.
func (w *world) checkTranscript(agent string) {
	w.Helper()
	id := w.sessionID(agent)
	subs, err := w.c.Store.ListSubmissions(w.Context(), id, 0, 1000)
	if err != nil {
		w.Fatal(err)
	}
	order := map[string]int64{}
	forced, joined := map[string]bool{}, map[string]bool{}
	for _, s := range slices.Backward(subs) {
		order[s.ID] = s.Seq
		forced[s.ID] = fromRows(s)
		if s.WhenBusy == submission.Steer && s.InputEntry > 0 { // a part of its host
			order[s.ID], joined[s.ID] = order[s.Host], true
		}
	}
	var last int64
	open := map[string]bool{}
	for i, e := range w.entries(id) {
		seq := order[e.SubmissionID]
		if e.Seq != int64(i)+1 || seq < last || (seq > last) != (e.Kind == session.Input && !joined[e.SubmissionID]) {
			w.Errorf("entry %d, a %s with seq %d of submission %d, comes after submission %d", i+1, e.Kind, e.Seq, seq,
				last)
		}
		last = seq
		for _, b := range e.Message.Content {
			switch b.Type {
			case model.ToolCallBlock:
				if _, asked := open[b.CallID]; asked {
					w.Errorf("call %s was asked for twice", b.CallID)
				}
				open[b.CallID] = !forced[e.SubmissionID]
			case model.ToolResultBlock:
				if _, asked := open[b.CallID]; !asked {
					w.Errorf("call %s has a result that nobody waits for", b.CallID)
				}
				delete(open, b.CallID)
			}
		}
	}
	for id, wants := range open {
		if wants {
			w.Errorf("call %s has no result", id)
		}
	}
}

// fromRows reports whether a submission was settled without its owner, who would have appended the results of its
// calls.
func fromRows(s submission.Submission) bool {
	return s.Reason == lane.ReasonNotEnded || s.Reason == lane.ReasonUnreadable
}

// checkCalls: every call has ended, and the executor was told that every result that it sent is durable.
func (w *world) checkCalls(agent string) {
	w.Helper()
	for _, c := range w.calls(w.sessionID(agent)) {
		if !c.State.Terminal() {
			w.Errorf("call %s is %s", c.ID, c.State)
		}
	}
	w.sleep(10 * time.Second) // when its owner does not reach an executor, the replica that it is connected to looks
	unacknowledged := map[string]bool{}
	for _, f := range w.m.Frames() {
		switch {
		case f.Kind == "Result":
			unacknowledged[f.CallID] = true
		case f.Kind == "ResultAck":
			delete(unacknowledged, f.CallID)
		}
	}
	if len(unacknowledged) > 0 {
		w.Errorf("results that were not acknowledged: %v", unacknowledged)
	}
}

// unknown checks that a call is shown as one of which nobody knows the outcome: to the model, in the record, in the
// stream.
func (w *world) unknown(agent string) {
	w.Helper()
	id := w.sessionID(agent)
	for _, c := range w.calls(id) {
		if c.State != call.Lost {
			continue
		}
		for _, e := range w.entries(id) {
			for _, b := range e.Message.Content {
				if b.Type == model.ToolResultBlock && b.CallID == c.ProviderID &&
					(!b.IsError || !strings.Contains(b.Text, "unknown") && !strings.Contains(b.Text, "was lost")) {
					w.Errorf("the model is told %q of a call whose outcome nobody knows", b.Text)
				}
			}
		}
		shown := false
		for _, e := range w.events(id) {
			shown = shown || e.Type == event.ToolFinished && e.Call.ID == c.ID && e.Call.State == "lost" &&
				e.Call.IsError
		}
		if !shown {
			w.Error("the stream does not show that the outcome is unknown")
		}
		return
	}
	w.Error("no call is lost")
}

// restarts is how often the stream says that an answer of the model begins anew.
func (w *world) restarts(agent string) (n int) {
	w.Helper()
	for _, e := range w.events(w.sessionID(agent)) {
		if e.Type == event.Restarted {
			n++
		}
	}
	return n
}

// count is how many frames of a kind passed, with a reason if it is not "".
func (w *world) count(kind, reason string) (n int) {
	for _, f := range w.m.Frames() {
		if f.Kind == kind && (reason == "" || f.Reason == reason) {
			n++
		}
	}
	return n
}
