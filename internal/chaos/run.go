package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/chaos/check"
	"github.com/pawl-dev/pawl/services/control/call"
)

// settleWithin bounds how long after the last fault nothing may settle although something has to: a lease that runs
// out, an executor's grace, and what two busy cores add to that.
const settleWithin = 15*time.Second + grace + 30*time.Second

// report is what a run came to.
type report struct {
	options    *options
	evidence   *check.Evidence
	violations []check.Violation
	faults     int
	byKind     string
	settled    time.Duration // after the last fault
	took       time.Duration
}

// run starts the platform, breaks it, heals it and looks at what is left.
func (o *options) run(ctx context.Context, dir, programs string) (rep *report, err error) {
	began := time.Now()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	c, err := newCluster(ctx, dir, programs)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	rep = &report{options: o, evidence: &check.Evidence{}}
	if err := o.storm(ctx, c, rep); err != nil {
		return nil, err
	}
	e := rep.evidence
	if err := c.collect(ctx, e); err != nil {
		return nil, err
	}
	if err := c.stopPrograms(); err != nil {
		return nil, err
	}
	if err := c.leftovers(e); err != nil {
		return nil, err
	}
	rep.violations, rep.took = check.Check(e), time.Since(began)
	return rep, nil
}

// storm is the time of the faults, and the calm after it.
func (o *options) storm(ctx context.Context, c *cluster, rep *report) error {
	m := mixes[o.mix]
	patient, giveUp := context.WithCancel(ctx)
	defer giveUp()
	busy, stop := context.WithTimeout(ctx, o.length)
	defer stop()
	awake, sleep := context.WithCancel(ctx)
	defer sleep()

	cl := newClients(c, patient)
	var prompting, looking sync.WaitGroup
	var streams []*stream
	for i := range sessions {
		a := newAuthor(o.seed, i, c.effects, m)
		s := newStream(a.session)
		streams = append(streams, s)
		prompting.Go(func() { cl.run(busy, a) })
		for r := range readers {
			looking.Go(func() { s.read(awake, c, r, rand.New(rand.NewPCG(o.seed, uint64(1000+10*i+r)))) })
		}
	}
	w := &witness{cluster: c, found: map[string]check.Survivor{}, seen: map[string]time.Time{}}
	looking.Go(func() { w.watch(awake) })
	d := &deciders{cluster: c, clients: cl, patient: patient, begun: map[string]bool{}}
	looking.Go(func() { d.run(awake, rand.New(rand.NewPCG(o.seed, 999))) })
	in := &injector{cluster: c, began: time.Now(), say: o.say(time.Now()), done: map[kind]int{}}
	in.run(busy, schedule(o.seed, o.length, m))
	<-busy.Done()
	if err := c.heal(ctx); err != nil {
		return err
	}
	healed := time.Now()
	in.say("everything is healed")
	looking.Go(func() { c.giveUp(awake, o.patience, giveUp) })
	prompting.Wait()
	in.say("every client has its answer, or gave up")
	if err := c.settle(patient); err != nil {
		in.say("%v", err)
	}
	rep.settled = time.Since(healed)
	if err := c.mend(ctx); err != nil {
		return err
	}
	in.say("everything has settled, or never will")
	sleep()
	looking.Wait()
	w.look(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := c.readToTheEnd(ctx, streams); err != nil {
		return err
	}

	e := rep.evidence
	e.Prompts, e.Acks, e.Conflicts, e.Absences = cl.prompts, cl.acks, cl.conflicts, append(in.absences, w.absences...)
	for _, s := range streams {
		e.Readers = append(e.Readers, s.faults...)
	}
	for _, id := range sortedKeys(w.found) {
		e.Survivors = append(e.Survivors, w.found[id])
	}
	e.Unheard, e.Decisions, e.Compactions = sortedKeys(cl.unheard), d.said, cl.summaries
	rep.faults, rep.byKind = in.report()
	return nil
}

// settle waits until nothing is left to do.
func (c *cluster) settle(ctx context.Context) error {
	return poll(ctx, "every submission to settle", func(ctx context.Context) bool {
		open, _, err := c.progress(ctx)
		return err == nil && open == 0
	})
}

// mend takes back what was spoilt of submissions, now that they have settled.
func (c *cluster) mend(ctx context.Context) error {
	conn, err := c.query(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // of a connection that is done
	_, err = conn.Exec(ctx, "SELECT chaos.mend(true)")
	return err
}

// progress is how many submissions have not settled, and how many have.
func (c *cluster) progress(ctx context.Context) (open, settled int, err error) {
	conn, err := c.query(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close(ctx) //nolint:errcheck // of a connection that is done
	err = conn.QueryRow(ctx, `SELECT count(*) FILTER (WHERE status <> 2), count(*) FILTER (WHERE status = 2)
		FROM submissions`).Scan(&open, &settled)
	return open, settled, err
}

// giveUp calls off the wait once nothing has settled for as long as patience lasts, or not everything for twice as
// long: work may come up faster than it settles.
func (c *cluster) giveUp(ctx context.Context, patience time.Duration, off func()) {
	last, since, began := -1, time.Now(), time.Now()
	for ctx.Err() == nil {
		if _, settled, err := c.progress(ctx); err == nil && settled != last {
			last, since = settled, time.Now()
		}
		if time.Since(since) > patience || time.Since(began) > 2*patience {
			off()
			return
		}
		wait(ctx, time.Second)
	}
}

// readToTheEnd reads every stream at every replica up to its head.
func (c *cluster) readToTheEnd(ctx context.Context, streams []*stream) error {
	conn, err := c.query(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // of a connection that is done
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for _, s := range streams {
		var head int64
		err := conn.QueryRow(ctx, `SELECT COALESCE(max(event_head), 0) FROM lanes
			JOIN sessions ON session_id = lanes.lane_id WHERE name = $1`, s.session).Scan(&head)
		if err != nil {
			return err
		}
		s.complete(ctx, c, head)
	}
	return nil
}

// leftovers reads what the programs left outside of the database. They must have ended.
func (c *cluster) leftovers(e *check.Evidence) (err error) {
	if e.Effects, err = readEffects(c.effects); err != nil {
		return err
	}
	if e.Files, err = readFiles(filepath.Join(c.effects, filesDir)); err != nil {
		return err
	}
	if e.Began, err = readTimes(filepath.Join(c.effects, gatesDir)); err != nil {
		return err
	}
	for _, x := range c.executors {
		j, err := readJournal(x, e.Sessions)
		if err != nil {
			return fmt.Errorf("reading the journal of executor %s: %w", x.id, err)
		}
		e.Journals = append(e.Journals, j)
	}
	for _, r := range c.replicas {
		e.Crashes = append(e.Crashes, r.crashes()...)
	}
	for _, x := range c.executors {
		e.Crashes = append(e.Crashes, x.crashes()...)
	}
	return nil
}

// print tells what the run came to.
func (r *report) print(w io.Writer) {
	e := r.evidence
	outcomes, states := map[string]int{}, map[string]int{}
	roots := 0
	for _, s := range e.Submissions {
		if s.IsRoot() {
			how := s.Outcome
			if s.Reason != "" && s.Reason != strings.ToUpper(s.Outcome) {
				how += " (" + s.Reason + ")"
			}
			outcomes[how]++
			roots++
		}
	}
	unknown := 0
	for _, k := range e.Calls {
		states[k.State.String()]++
		if k.State == call.Lost {
			unknown++
		}
	}
	lines := 0
	for _, l := range e.Effects {
		lines += len(l)
	}
	broken := map[string]int{}
	for _, v := range r.violations {
		broken[v.Invariant]++
	}
	var b strings.Builder
	fmt.Fprintf(&b, "chaos: %d replicas, %d executors, %d sessions, one Postgres; seed %d, %s of faults (%s), %d "+
		"cores\n",
		replicas, executors, sessions, r.options.seed, r.options.length, r.options.mix, cores())
	fmt.Fprintf(&b, "  submissions  %d admitted, of %d prompts; %d sub-agents\n", roots, len(e.Prompts),
		len(e.Submissions)-roots)
	fmt.Fprintf(&b, "  settled      %s; the last %.1f s after the last fault\n", counts(outcomes), r.settled.Seconds())
	fmt.Fprintf(&b, "  tool calls   %d: %s; %d lines of effect\n", len(e.Calls), counts(states), lines)
	decided := map[string]int{}
	for _, a := range e.Approvals {
		decided[a.State]++
	}
	joined, summaries := 0, 0
	for _, s := range e.Submissions {
		if s.Host != "" {
			joined++
		}
		if s.Compacts {
			summaries++
		}
	}
	fmt.Fprintf(&b, "  approvals    %d: %s; %d decisions\n", len(e.Approvals), counts(decided), len(e.Decisions))
	fmt.Fprintf(&b, "  inputs       %d have joined what ran, %d summaries\n", joined, summaries)
	fmt.Fprintf(&b, "  unknown      %d outcomes, shown as unknown\n", unknown)
	fmt.Fprintf(&b, "  changes of owner %d\n", len(e.Owners))
	fmt.Fprintf(&b, "  faults       %d\n%s", r.faults, r.byKind)
	b.WriteString("  violations  ")
	for _, inv := range check.Invariants {
		fmt.Fprintf(&b, " %s %d", inv, broken[inv])
	}
	fmt.Fprintf(&b, "\n  duration     %.1f s\n", r.took.Seconds())
	for i, v := range r.violations {
		if i == 40 {
			fmt.Fprintf(&b, "… and %d more\n", len(r.violations)-i)
			break
		}
		fmt.Fprintf(&b, "VIOLATION %s  %s: %s\n", v.Invariant, v.Where, v.What)
	}
	_, _ = io.WriteString(w, b.String())
}

func counts(m map[string]int) string {
	keys := sortedKeys(m)
	slices.SortStableFunc(keys, func(a, b string) int { return m[b] - m[a] })
	var parts []string
	for _, k := range keys {
		name := k
		if name == "" {
			name = "open"
		}
		parts = append(parts, fmt.Sprintf("%s %d", name, m[k]))
	}
	return strings.Join(parts, ", ")
}
