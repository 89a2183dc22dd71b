package drive

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

func failing(reason string) *Outcome {
	return &Outcome{State: step.Failed, Failed: &step.Failure{Reason: reason, Message: "it broke"}}
}

// tries gives some tries outcomes: "path" of all, "path/try" of one.
func tries(all map[string]*Outcome) func(string, int) *Outcome {
	return func(path string, try int) *Outcome {
		if o := all[fmt.Sprintf("%s/%d", path, try)]; o != nil {
			return o
		}
		return all[path]
	}
}

func TestStepsInOrderAndTheirOutputs(t *testing.T) {
	w := newWorld(t, parse(t, `
steps:
  - id: one
    shell: echo one
  - id: skipped
    if: steps.one.exit_code == 3
    shell: echo never
  - id: names
    set: {said: "${{ steps.one.stdout }}", n: "${{ 1 + 1 }}"}
  - log: "said ${{ steps.names.said }}"
output: {said: "${{ steps.names.said }}", n: "${{ steps.names.n }}", skipped: "${{ steps.skipped.status }}"}
`))
	w.run(0)
	want := map[string]any{"said": "out of one", "n": int64(2), "skipped": "skipped"}
	if got := w.end.Output; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	if !slices.Equal(w.order, []string{"one"}) || !slices.Equal(w.said, []string{"said out of one"}) {
		t.Errorf("done %v, said %v", w.order, w.said)
	}
}

func TestAFailureIsCaughtAfterWhatWasCompletedIsUndone(t *testing.T) {
	w := newWorld(t, parse(t, `
steps:
  - id: outer
    shell: "true"
    undo: [{id: u, shell: undo outer}]
  - id: g
    group:
      - id: a
        shell: a
        undo: [{shell: undo a}]
      - id: p
        parallel:
          left: [{id: l, shell: l, undo: [{shell: undo l}]}]
          right: [{id: r, shell: r}]
      - id: b
        shell: b
    catch: [{id: c, log: "caught ${{ error.step }}: ${{ error.message }}"}]
    finally: [{shell: last of the group}]
  - shell: never
finally: [{shell: last}]
`))
	w.ends = tries(map[string]*Outcome{"g.b": failing("exit_code")})
	w.run(0)
	want := []string{
		"outer", "g.a", "g.p.left.l", "g.p.right.r", "g.b", "g.p.left.l.undo.shell-1", "g.a.undo.shell-1",
		"g.finally.shell-1", "outer.undo.u", "finally.shell-1",
	}
	slices.Sort(w.order[2:4])
	if !slices.Equal(w.order, want) {
		t.Errorf("done  %v\nwant  %v", w.order, want)
	}
	if w.end.State != step.Failed || w.end.Failed.Step != "g.b" || w.end.Failed.Reason != "exit_code" {
		t.Errorf("ended %+v %+v", w.end, w.end.Failed)
	}
	if !slices.Equal(w.said, []string{"caught g.b: it broke"}) {
		t.Errorf("said %v", w.said)
	}
}

func TestTriesAndTheirPauses(t *testing.T) {
	text := `
steps:
  - id: a
    shell: a
    retry: {attempts: 3, backoff: 10s, max: 15s}
output: "${{ steps.a.attempts }}"
`
	w := newWorld(t, parse(t, text))
	w.ends = tries(map[string]*Outcome{"a/1": failing("exit_code"), "a/2": failing("exit_code")})
	w.run(0)
	if w.end.State != step.Completed || w.end.Output != int64(3) {
		t.Errorf("ended %+v", w.end)
	}
	if took := w.clock.Sub(newWorld(t, nil).clock).Seconds(); took < 12.5 || took > 25 {
		t.Errorf("the pauses took %v s: 10 and 15, each less at most a half", took)
	}
	w = newWorld(t, parse(t, text))
	w.ends = tries(map[string]*Outcome{"a": failing(ReasonExpression)})
	w.run(0)
	if w.end.State != step.Failed || w.records["a"].Try != 1 {
		t.Errorf("what is as wrong the next time was tried %d times", w.records["a"].Try)
	}
}

func TestAnUnknownOutcome(t *testing.T) {
	for policy, want := range map[string]step.State{
		"fail": step.Failed, "continue": step.Completed, "retry": step.Completed,
	} {
		w := newWorld(t, parse(t, "steps: [{id: a, shell: a, on_unknown: "+policy+"}, {id: b, shell: b}]"))
		w.ends = tries(map[string]*Outcome{"a/1": {State: step.Unknown}})
		w.run(0)
		if w.end.State != want {
			t.Errorf("%s: %s", policy, w.show())
		}
		if got := w.records["a"].State; policy != "retry" && got != step.Unknown {
			t.Errorf("%s: recorded as %s", policy, got)
		}
	}
}

func TestTimes(t *testing.T) {
	w := newWorld(t, parse(t, `
steps:
  - sleep: 3d
  - id: s
    signal: go
    timeout: 1h
  - id: slow
    group: [{signal: never}]
    timeout: 5m
    on_error: continue
  - id: poll
    repeat: 3
    every: 10m
    until: "index == 5"
    do: [{id: x, shell: x}]
output:
  received: "${{ steps.s.received }}"
  slow: "${{ has(steps.slow.error) ? steps.slow.error.reason : '' }}"
  rounds: "${{ steps.poll.rounds }}"
`))
	w.run(0)
	if got := fmt.Sprint(w.end.Output); got != "map[received:false rounds:3 slow:timeout]" {
		t.Errorf("%s\n%s", got, w.show())
	}
	want := 72*3600 + 3600 + 300 + 2*600
	if took := w.clock.Sub(newWorld(t, nil).clock).Seconds(); int(took) != want {
		t.Errorf("it took %v s, want %d", took, want)
	}
}

func TestForeachGoesOnOrStops(t *testing.T) {
	text := `
steps:
  - id: each
    foreach: "[1, 2, 3, 4, 5]"
    as: n
    parallel: 2
    %s
    do: [{id: x, shell: x, env: {N: "${{ string(n) }}"}}]
    output: "${{ n * 10 }}"
output: {items: "${{ steps.each.?items.orValue([]) }}", failed: "${{ steps.each.?failed.orValue(0) }}"}
`
	w := newWorld(t, parse(t, fmt.Sprintf(text, "on_error: continue")))
	w.ends = tries(map[string]*Outcome{"each[1].x": failing("X")})
	w.run(0)
	if got := fmt.Sprint(w.end.Output); got != "map[failed:1 items:[10 30 40 50]]" {
		t.Errorf("%s\n%s", got, w.show())
	}
	w = newWorld(t, parse(t, fmt.Sprintf(text, "name: all or nothing")))
	w.ends = tries(map[string]*Outcome{"each[1].x": failing("X")})
	w.run(0)
	if w.end.State != step.Failed || w.end.Failed.Step != "each[1].x" || w.records["each[4]"].Path != "" {
		t.Errorf("%s", w.show())
	}
}

func TestACancelledRunEndsWhatIsUnderWay(t *testing.T) {
	w := newWorld(t, parse(t, `
steps:
  - id: a
    shell: a
    undo: [{id: u, shell: undo a}]
  - id: p
    parallel:
      x: [{id: x1, signal: never}]
      y: [{id: y1, sleep: 1d}]
catch: [{id: c, log: never}]
finally: [{id: f, shell: last}]
`))
	w.run(2) // once the branches wait
	if w.end.State != step.Cancelled || w.end.Failed.Message != "somebody wants it to end" || len(w.said) > 0 {
		t.Errorf("%s said %v", w.show(), w.said)
	}
	if got := w.records["p.y.y1"].State; got != step.Cancelled {
		t.Errorf("the sleep: %s", got)
	}
	if want := []string{"a", "p.x.x1", "a.undo.u", "finally.f"}; !slices.Equal(w.order, want) {
		t.Errorf("done %v, want %v", w.order, want)
	}
}

// Whenever owners die, a run does each try once, and ends with the records that it would have had.
func TestARunEndsTheSameWhoeverDies(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		text, ends := generate(r, false)
		def := parse(t, text)
		quiet := newWorld(t, def)
		quiet.ends, quiet.text = ends, text
		quiet.run(0)
		w := dying(t, r, def, text)
		w.ends = ends
		w.run(0)
		if got, want := w.sorted(), quiet.sorted(); got != want {
			r.Fatalf("with %d owners:\n%s\nundisturbed:\n%s\n%s", w.hands, got, want, text)
		}
		if fmt.Sprint(w.said) != fmt.Sprint(quiet.said) {
			r.Fatalf("said %v, undisturbed %v\n%s", w.said, quiet.said, text)
		}
	})
}

// The same where steps go on at the same time, so that what ends first decides, and where somebody ends the run: it
// ends, each try is done once, and each owner goes on where the last one was.
func TestARunEndsWhateverHappens(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		text, ends := generate(r, true)
		w := dying(t, r, parse(t, text), text)
		w.ends = ends
		w.run(rapid.SampledFrom([]int{0, 0, 1, 2, 3, 5, 9}).Draw(r, "stop"))
		for path, rec := range w.records {
			if rec.State == step.Started {
				r.Fatalf("%s has not ended\n%s\n%s", path, w.show(), text)
			}
		}
	})
}

// dying is a world whose owners die often, up to a point.
func dying(t *testing.T, r *rapid.T, def *workflow.Definition, text string) *world {
	w := newWorld(t, def)
	w.text = text
	deaths, n := rapid.Uint64().Draw(r, "deaths"), 0
	w.dies = func(string) bool {
		n++
		return n < 3000 && hash(fmt.Sprint(deaths, n))%4 == 0
	}
	return w
}

// generate makes a workflow, and says what its steps come to.
func generate(r *rapid.T, together bool) (text string, ends func(string, int) *Outcome) {
	g := &generator{r: r, together: together}
	text = "steps:\n" + g.list(2, 0) + "finally:\n" + g.list(2, 3)
	seed := rapid.Uint64().Draw(r, "seed")
	return text, func(path string, try int) *Outcome {
		switch hash(fmt.Sprint(seed, path, try)) % 10 {
		case 0, 1:
			return failing("exit_code")
		case 2:
			return &Outcome{State: step.Unknown}
		}
		return nil
	}
}

// generator makes workflows.
type generator struct {
	r        *rapid.T
	n        int
	together bool // steps may go on at the same time
}

func (g *generator) pick(what string, all ...string) string {
	return rapid.SampledFrom(all).Draw(g.r, what)
}

func (g *generator) list(indent, depth int) string {
	var b strings.Builder
	for range rapid.IntRange(1, 3).Draw(g.r, "steps") {
		b.WriteString(g.step(indent, depth))
	}
	return b.String()
}

func (g *generator) step(indent, depth int) string {
	g.n++
	pad := strings.Repeat(" ", indent)
	s := fmt.Sprintf("%s- id: s%d\n", pad, g.n)
	id := g.n
	line := func(format string, args ...any) { s += pad + "  " + fmt.Sprintf(format, args...) + "\n" }
	kinds := []string{"shell", "shell", "shell", "sleep", "signal", "log", "set", "fail"}
	if depth < 3 {
		kinds = append(kinds, "group", "group", "foreach", "foreach", "repeat")
		if g.together {
			kinds = append(kinds, "parallel")
		}
	}
	kind := g.pick("kind", kinds...)
	switch kind {
	case "shell":
		line("shell: work")
		if p := g.pick("unknown", "", "", "retry", "continue"); p != "" {
			line("on_unknown: %s", p)
		}
	case "sleep":
		line("sleep: %s", g.pick("long", "1s", "5m"))
	case "signal":
		line("signal: never")
		line("timeout: 90s")
	case "log":
		line("log: said %d", id)
	case "set":
		line("set: {a: \"${{ %d }}\"}", id)
	case "fail":
		line("if: \"%s\"", g.pick("if", "true", "false"))
		line("fail: failed %d", id)
	case "group":
		line("group:")
		s += g.list(indent+4, depth+1)
		for _, more := range []string{"catch", "finally"} {
			if g.pick(more, "", "", "y") != "" {
				line("%s:", more)
				s += g.list(indent+4, depth+2)
			}
		}
	case "parallel":
		line("parallel:")
		for _, branch := range []string{"l", "r"} {
			line("  %s:", branch)
			s += g.list(indent+6, depth+1)
		}
	case "foreach":
		line("foreach: \"[1, 2, 3]\"")
		line("as: e%d", id)
		if g.together {
			line("parallel: %s", g.pick("at once", "1", "2", "3"))
		}
		line("do:")
		s += g.list(indent+4, depth+1)
	case "repeat":
		line("repeat: 3")
		if g.pick("every", "", "y") != "" {
			line("every: 1m")
		}
		line("until: \"%s\"", g.pick("until", "true", "false", "1 == 2"))
		line("do:")
		s += g.list(indent+4, depth+1)
	}
	if kind != "signal" && kind != "log" && kind != "set" && kind != "sleep" && g.pick("retry", "", "", "", "y") != "" {
		line("retry: {attempts: 2, backoff: %s}", g.pick("backoff", "1s", "20s"))
	}
	if (kind == "group" || kind == "foreach") && g.pick("timeout", "", "", "", "y") != "" {
		line("timeout: %dms", 120_000+id) // no two at the same time
	}
	if g.pick("continue", "", "", "y") != "" {
		line("on_error: continue")
	}
	if depth < 3 && kind != "fail" && g.pick("undo", "", "", "y") != "" {
		line("undo:")
		s += g.list(indent+4, 3)
	}
	return s
}

// An attempt that goes on does again what has failed, what was undone and what came after it, and nothing else.
func TestAnotherAttemptKeepsWhatWasCompleted(t *testing.T) {
	def := parse(t, `
steps:
  - id: a
    shell: a
  - id: b
    shell: b
    undo: [{shell: undo b}]
  - id: c
    shell: c
  - id: each
    foreach: "[1, 2]"
    do:
      - id: x
        shell: x
      - id: y
        shell: y
  - id: d
    shell: d
finally: [{shell: last}]
`)
	afterB := []string{"c", "each[0].x", "each[0].y", "each[1].x", "each[1].y", "d", "finally.shell-1"}
	for _, c := range []struct {
		from string
		fail string
		want []string
	}{
		{"", "each[1].y", append([]string{"b"}, afterB...)},
		{"c", "each[1].y", append([]string{"b"}, afterB...)},
		{"", "a", append([]string{"a", "b"}, afterB...)},
		{"d", "", []string{"d", "finally.shell-1"}},
		{"each[1].y", "", []string{"each[1].y", "d", "finally.shell-1"}},
	} {
		w := newWorld(t, def)
		w.ends = tries(map[string]*Outcome{c.fail: failing("X")})
		w.run(0)
		w.retry(c.from)
		w.ends = tries(nil)
		w.run(0)
		if !slices.Equal(w.order, c.want) || w.end.State != step.Completed {
			t.Errorf("from %q after %q failed: done %v, want %v\n%s", c.from, c.fail, w.order, c.want, w.show())
		}
	}
	w := newWorld(t, def)
	w.run(0)
	for _, from := range []string{"", "nothing", "finally.shell-1"} {
		if _, err := Keep(def, slices.Collect(maps.Values(w.records)), from); err == nil {
			t.Errorf("a run that was completed goes on from %q", from)
		}
	}
}
