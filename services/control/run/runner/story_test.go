package runner_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
)

// longest is how long a run of a test may take.
const longest = 3 * time.Hour

// live goes on until a run has ended, with a new replica for each that has ended. others is what other people do about
// the run, every second; nil for nothing.
func (b *bench) live(id string, others func(b *bench, r run.Run)) run.Run {
	b.Helper()
	for range int(longest / time.Second) {
		select {
		case err := <-b.done:
			if b.done <- nil; err != nil {
				b.Fatal(err)
			}
			b.kill()
			b.start()
		default:
		}
		r, err := b.store.GetRun(b.Context(), session.DefaultTenant, id)
		if err != nil {
			b.Fatal(err)
		}
		if r.Status.Ended() && b.idle() {
			return r
		}
		if others != nil {
			others(b, r)
		}
		elapse(time.Second)
	}
	b.Fatalf("the run does not end: %s\n%s", b.steps(id), b.story(id))
	return run.Run{}
}

// idle reports whether no run goes on.
func (b *bench) idle() bool {
	b.Helper()
	all, err := b.store.ListRuns(b.Context(), run.Filter{
		Tenant: session.DefaultTenant, Statuses: []run.Status{run.Queued, run.Active}, Limit: 1,
	})
	if err != nil {
		b.Fatal(err)
	}
	return len(all) == 0
}

// changing is what differs from run to run.
var changing = regexp.MustCompile(
	`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[0-9:.]+Z|"duration":"[^"]*"`)

// story is what a run has come to, and all that it has done, apart from times and names that are made up.
func (b *bench) story(id string) string {
	b.Helper()
	ctx, tenant := b.Context(), session.DefaultTenant
	must := func(err error) {
		if err != nil {
			b.Helper()
			b.Fatal(err)
		}
	}
	r, err := b.store.GetRun(ctx, tenant, id)
	must(err)
	var lines []string
	line := func(format string, args ...any) {
		lines = append(lines, changing.ReplaceAllString(fmt.Sprintf(format, args...), "…"))
	}
	records, err := b.store.ListSteps(ctx, id, 0, 5000)
	must(err)
	for _, s := range records {
		line("record %s %s %s try %d %s%s", s.Path, s.Kind, s.State, s.Try, s.Output, why(s.Failed))
	}
	for _, command := range b.machine.executed() {
		line("call %s", command)
	}
	for _, request := range b.site.requests() {
		line("request %s", request)
	}
	children, err := b.store.ListRuns(ctx, run.Filter{Tenant: tenant, Limit: 1000})
	must(err)
	for _, c := range children {
		if c.ID != id {
			line("run of %s %s %s", c.Workflow, c.Status, c.Reason)
		}
	}
	for _, s := range b.sessions(id) {
		entries, err := b.store.Entries(ctx, s.ID, 0, 1000)
		must(err)
		line("session of %s with %d entries", s.Key.Agent, len(entries))
	}
	asked, _, err := b.store.ListApprovals(ctx, approval.Filter{Tenant: tenant, Limit: 1000})
	must(err)
	for i := range asked {
		line("approval %s", asked[i].State)
	}
	left, err := b.store.Untaken(ctx, id)
	must(err)
	line("signals left %d", len(left))
	slices.Sort(lines)
	line("end %s %s %s %s", r.Status, r.Output, r.Reason, r.Message)
	return strings.Join(lines, "\n")
}

// sessions are those of agents, of a run's steps too.
func (b *bench) sessions(id string) (all []session.Session) {
	b.Helper()
	for _, parent := range []string{"", id} {
		some, err := b.store.ListSessions(b.Context(), session.Filter{
			Tenant: session.DefaultTenant, ParentID: parent, Limit: 1000,
		})
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, some...)
	}
	return all
}

// consistent fails unless the run's stream and rows tell one story: each step ends once in both, the run is settled
// once and last, and nothing of it goes on.
func (b *bench) consistent(id string) {
	b.Helper()
	records, err := b.store.ListSteps(b.Context(), id, 0, 5000)
	if err != nil {
		b.Fatal(err)
	}
	var all []event.Event
	for {
		after := int64(0)
		if len(all) > 0 {
			after = all[len(all)-1].Seq
		}
		page, err := b.store.Events(b.Context(), id, after, 1000)
		if err != nil {
			b.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
	}
	ended, began, settled := map[string]int{}, 0, 0
	for i, e := range all {
		switch e.Type {
		case event.RunStarted:
			began++
		case event.StepEnded:
			ended[e.Step.Path]++
		case event.Settled:
			if settled++; i != len(all)-1 {
				b.Errorf("after the end there are %d events", len(all)-1-i)
			}
		}
	}
	if began != 1 || settled != 1 {
		b.Errorf("the run began %d times, and was settled %d times", began, settled)
	}
	for _, r := range records {
		if !r.State.Ended() || ended[r.Path] != 1 {
			b.Errorf("%s is %s, and %d events tell its end", r.Path, r.State, ended[r.Path])
		}
	}
	if left := b.machine.running(); len(left) > 0 {
		b.Errorf("still at work: %q", left)
	}
}
