package drive

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

func parse(t testing.TB, text string) *workflow.Definition {
	t.Helper()
	d, err := workflow.Parse("test", "test.yaml", []byte(text), workflow.Surrounding{})
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return d
}

// world is a control plane that carries out steps, and may die at any time.
type world struct {
	t     testing.TB
	def   *workflow.Definition
	input any
	// ends says what the try of a step comes to; nil: it completes.
	ends func(path string, try int) *Outcome
	// dies says whether the owner dies now, and again at the next chance.
	dies func(what string) bool

	records map[string]step.Record
	folded  map[string]bool // by path: what is not read to go on
	clock   time.Time
	dues    map[string]time.Time // by path
	done    map[string]int       // how often a try was carried out
	order   []string             // what was carried out, in order
	said    []string
	pending map[string]Do   // asked for, not told the end of
	told    map[string]bool // of which times this owner was told
	end     *End
	stop    *step.Failure
	hands   int
	text    string
}

func newWorld(t testing.TB, def *workflow.Definition) *world {
	return &world{
		t: t, def: def, input: map[string]any{}, ends: func(string, int) *Outcome { return nil },
		dies:    func(string) bool { return false },
		records: map[string]step.Record{}, folded: map[string]bool{},
		clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		dues:  map[string]time.Time{}, done: map[string]int{},
	}
}

// machine is what the records make.
func (w *world) machine() (m *Machine, late []string) {
	var all []step.Record
	for _, r := range w.records {
		if w.folded[r.Path] {
			continue // not read to go on
		}
		r.Left = step.Never
		if at, ok := w.dues[r.Path]; ok {
			r.Left = at.Sub(w.clock)
		}
		if all = append(all, r); !r.State.Ended() && r.Left <= 0 {
			late = append(late, r.Path)
		}
	}
	slices.SortFunc(all, func(a, b step.Record) int { return a.Ord - b.Ord })
	slices.Sort(late)
	last := 0
	for _, r := range w.records {
		last = max(last, r.Ord)
	}
	f := Facts{Input: w.input, Run: map[string]any{"id": "r"}, Env: map[string]any{}, ID: "r", Last: last}
	return New(context.Background(), w.def, f, all, w.stop), late
}

// take is the next owner.
func (w *world) take() *Machine {
	w.hands++
	w.pending, w.told = map[string]Do{}, map[string]bool{}
	m, late := w.machine()
	for _, path := range late {
		if slices.ContainsFunc(m.effects, func(e Effect) bool { r, ok := e.(Record); return ok && r.Path == path }) {
			continue // it has another time now
		}
		w.told[path] = true
		m.Due(path, w.clock)
	}
	return m
}

// stands fails unless another owner would do what this one does: nothing but what it waits for.
func (w *world) stands() {
	m, late := w.machine()
	if len(late) > 0 {
		return
	}
	waits := map[string]bool{}
	for _, e := range m.Next() {
		if do, ok := e.(Do); ok && do.Again {
			waits[do.Path] = true
			continue
		}
		w.t.Fatalf("another owner wants %+v\n%s\n%s", e, w.show(), w.text)
	}
	for path := range w.pending {
		if !waits[path] {
			w.t.Fatalf("another owner does not wait for %s\n%s\n%s", path, w.show(), w.text)
		}
		delete(waits, path)
	}
	if len(waits) > 0 {
		w.t.Fatalf("another owner waits for %v\n%s\n%s", waits, w.show(), w.text)
	}
}

// run goes on to the end of the run. stop is when it is cancelled, in events; 0 is never.
func (w *world) run(stop int) {
	m := w.take()
	stopped := false
	for events := 1; w.end == nil; events++ {
		if events > 20_000 {
			w.t.Fatalf("the run does not end; pending %v, due %v\n%s", slices.Collect(maps.Keys(w.pending)), w.dues,
				w.show())
		}
		if !w.commit(m) {
			m = w.take()
			continue
		}
		if w.end != nil {
			return
		}
		if len(m.effects) == 0 && !stopped {
			w.stands()
		}
		if stop > 0 && (events >= stop || stopped) && m.stopped == nil {
			w.stop = &step.Failure{Reason: "cancelled", Message: "somebody wants it to end"}
			m.Stop(*w.stop)
			stopped = true
		}
		if len(m.effects) > 0 {
			continue
		}
		w.happen(m)
		if w.dies("before the commit") {
			m = w.take()
		}
	}
}

// commit stores what the machine wants, and begins what it asks for; false if the owner dies with the rest undone.
func (w *world) commit(m *Machine) bool {
	effects := m.Next()
	for _, e := range effects {
		switch e := e.(type) {
		case Record:
			if old := w.records[e.Path]; old.State.Ended() {
				w.t.Fatalf("the record of %s has ended as %s and is to be %s\n%s\n%s", e.Path, old.State, e.State,
					w.show(), w.text)
			}
			w.records[e.Path] = e.Record
			for path, r := range w.records {
				if r.Ord == e.Ord && path != e.Path {
					w.t.Fatalf("%s and %s have the same place %d\n%s\n%s", e.Path, path, e.Ord, w.show(), w.text)
				}
				if e.Folds && r.Parent == e.Ord {
					w.folded[path] = true
				}
			}
			delete(w.dues, e.Path)
			delete(w.told, e.Path)
			if !e.At.IsZero() {
				w.dues[e.Path] = e.At
			} else if e.Wait != step.Never {
				w.dues[e.Path] = w.clock.Add(e.Wait)
			}
		case Say:
			w.said = append(w.said, e.Text)
		case End:
			w.end = &e
		}
	}
	if len(effects) > 0 && w.dies("after the commit") {
		return w.end != nil
	}
	for _, e := range effects {
		switch e := e.(type) {
		case Do:
			if r, ok := w.records[e.Path]; !ok || r.Ord != e.Ord || r.Try != e.Try {
				w.t.Fatalf("%s is to be done without a record of try %d", e.Path, e.Try)
			}
			if _, err := m.Request(e.Path, nil); err != nil {
				w.t.Fatalf("what %s asks for: %v", e.Path, err)
			}
			w.pending[e.Path] = e
			w.carryOut(e)
		case Cancel:
			d := w.pending[e.Path]
			delete(w.pending, e.Path)
			o := Outcome{State: step.Cancelled}
			if out := w.ends(d.Path, d.Try); out != nil && out.State == step.Unknown {
				o = *out
			}
			m.Ended(e.Path, o)
			if w.dies("before the commit") {
				return false
			}
		}
	}
	return true
}

// carryOut has the effect of a try, unless it had it before.
func (w *world) carryOut(d Do) {
	key := fmt.Sprintf("%s/%d", d.Path, d.Try)
	if w.done[key] > 0 {
		if !d.Again {
			w.t.Fatalf("%s is done twice\n%s\n%s", key, w.show(), w.text)
		}
		return
	}
	w.done[key]++
	w.order = append(w.order, d.Path)
}

// happen is the next thing that happens: the end of a step, or a time. What it is depends on nothing but what is
// waited for.
func (w *world) happen(m *Machine) {
	var all []string
	for path := range w.pending {
		if _, signal := w.pending[path].Step.Do.(*workflow.Signal); !signal {
			all = append(all, path)
		}
	}
	if len(all) > 0 {
		slices.SortFunc(all, func(a, b string) int { return int(int64(hash(a)%1000) - int64(hash(b)%1000)) })
		d := w.pending[all[0]]
		delete(w.pending, d.Path)
		o := w.ends(d.Path, d.Try)
		if o == nil {
			o = &Outcome{State: step.Completed, Output: outputs(d.Step)}
		}
		c := *o
		c.Took = time.Second
		m.Ended(d.Path, c)
		return
	}
	first := ""
	for path, at := range w.dues {
		if r := w.records[path]; r.State.Ended() || w.told[path] {
			continue
		} else if first == "" || at.Before(w.dues[first]) || at.Equal(w.dues[first]) && path < first {
			first = path
		}
	}
	if first != "" {
		w.clock = later(w.clock, w.dues[first])
		w.told[first] = true
		m.Due(first, w.clock)
		return
	}
	w.t.Fatalf("nothing can happen any more\n%s", w.show())
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// outputs are those of a step that was carried out.
func outputs(s *workflow.Step) map[string]any {
	switch s.Do.(type) {
	case *workflow.Shell:
		return map[string]any{"stdout": "out of " + s.Key, "stderr": "", "exit_code": 0}
	case *workflow.HTTP:
		return map[string]any{"status_code": 200, "headers": map[string]any{}, "body": "body"}
	}
	return map[string]any{}
}

func hash(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}

// show is what is recorded.
func (w *world) show() string {
	all := slices.SortedFunc(maps.Values(w.records), func(a, b step.Record) int { return a.Ord - b.Ord })
	var b strings.Builder
	for _, r := range all {
		failed, _ := json.Marshal(r.Failed)
		fmt.Fprintf(&b, "%s %s %s try %d %s %s\n", r.Path, r.Kind, r.State, r.Try, r.Output, failed)
	}
	if w.end != nil {
		out, _ := json.Marshal(w.end)
		fmt.Fprintf(&b, "end %s\n", out)
	}
	return b.String()
}

// sorted is show without the order in which steps began.
func (w *world) sorted() string {
	lines := strings.Split(w.show(), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// retry begins another attempt, as a store does.
func (w *world) retry(from string) {
	kept, err := Keep(w.def, slices.Collect(maps.Values(w.records)), from)
	if err != nil {
		w.t.Fatal(err)
	}
	opened := map[int]bool{}
	for path, r := range w.records {
		switch {
		case !slices.Contains(kept.Records, r.Ord):
			delete(w.records, path)
			delete(w.folded, path)
		case slices.Contains(kept.Reopen, r.Ord):
			r.State, r.Output, r.Failed, r.Folds, r.Pausing = step.Started, nil, nil, false, false
			w.records[path], opened[r.Ord] = r, true
		}
	}
	for path, r := range w.records {
		if opened[r.Parent] {
			delete(w.folded, path)
		}
	}
	w.end, w.stop, w.order, w.done = nil, nil, nil, map[string]int{}
	clear(w.dues)
}
