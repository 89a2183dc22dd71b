package runner_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
)

// checks bounds how often a property is tried in the short form: each try is two control planes.
const checks = 20

// property tries f with random choices, and fails with what was chosen.
func property(t *testing.T, f func(t *testing.T, c choices, text string)) {
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		if n++; n > checks && !long {
			return
		}
		g := &generator{r: r}
		g.together = rapid.Bool().Draw(r, "together") && strings.HasSuffix(t.Name(), "Ends")
		text := "agent: shell\nsteps:\n" + g.list(2, 0) + "finally:\n" + g.list(2, 3)
		c := choices{cancel: rapid.IntRange(0, 60).Draw(r, "cancel")}
		for i := range rapid.IntRange(1, 4).Draw(r, "deaths") {
			s := [2]int{rapid.IntRange(1, 40).Draw(r, "at"), rapid.IntRange(0, len(blows)-1).Draw(r, "blow")}
			if i >= 2 {
				s[1] |= 2 // after three deaths in a moment a run is given up: it may be what they die of
			}
			c.strikes = append(c.strikes, s)
		}
		if !t.Run("try", func(t *testing.T) { f(t, c, text) }) {
			r.Fatalf("%+v\n%s", c, text)
		}
	})
}

// choices are what happens to a run.
type choices struct {
	strikes [][2]int // the commit, and the blow
	cancel  int      // seconds after its start
}

func (c choices) strike(b *bench) {
	for _, s := range c.strikes {
		blow := blows[s[1]]
		b.store.at(s[0], strike{blow.after, func() { blow.do(b) }})
	}
}

// children are workflows that others run.
const children = `
steps:
  - shell: "1: child"
output: "${{ 7 }}"
`

// Whatever the workflow, and whenever its owners end, a run comes to what it comes to if nobody disturbs it, and does
// everything once.
func TestRunsComeToTheSame(t *testing.T) {
	property(t, func(t *testing.T, c choices, text string) {
		files := map[string]string{"w": text, "child": children}
		var quiet string
		try(t, files, func(b *bench) {
			id := b.begin("w", `{}`)
			b.live(id, nil)
			b.consistent(id)
			quiet = b.story(id)
		})
		try(t, files, func(b *bench) {
			c.strike(b)
			id := b.begin("w", `{}`)
			b.live(id, nil)
			b.consistent(id)
			same(t, b.story(id), quiet, nil)
		})
	})
}

// Whatever the workflow, and whenever its owners end, a run that is cancelled ends: what it had completed is undone,
// the last first, the finally steps are carried out, and nothing happens after that.
func TestACancelledRunEnds(t *testing.T) {
	property(t, func(t *testing.T, c choices, text string) {
		try(t, map[string]string{"w": text, "child": children}, func(b *bench) {
			c.strike(b)
			id := b.begin("w", `{}`)
			at := time.Now().Add(time.Duration(c.cancel) * time.Second)
			asked := false
			r := b.live(id, func(b *bench, r run.Run) {
				if asked || r.Status.Ended() || time.Now().Before(at) {
					return
				}
				if _, err := b.runs.Cancel(b.Context(), session.DefaultTenant, id); err != nil {
					b.Fatal(err)
				}
				asked = true
			})
			b.consistent(id)
			b.undone(id, r.Status == run.Cancelled)
			did := len(b.machine.executed())
			elapse(time.Minute)
			if more := b.machine.executed()[did:]; len(more) > 0 {
				b.Errorf("after the end it has done %q", more)
			}
		})
	})
}

// undoes is the record of a step that undoes another one of the list that a prefix names.
var undoes = regexp.MustCompile(`^(.*?)(s\d+)\.undo\.s\d+$`)

// undone fails unless what was undone was completed, once, and in reverse order. all says that everything was.
func (b *bench) undone(id string, all bool) {
	b.Helper()
	records, err := b.store.ListSteps(b.Context(), id, 0, 5000)
	if err != nil {
		b.Fatal(err)
	}
	byPath, last := map[string]step.Record{}, map[string]int{}
	finally := false
	for _, r := range records {
		if _, again := byPath[r.Path]; again {
			b.Errorf("two records of %s", r.Path)
		}
		byPath[r.Path] = r
		finally = finally || strings.HasPrefix(r.Path, "finally.")
	}
	if !finally {
		b.Error("no finally step")
	}
	begun := map[string]bool{}
	for _, r := range records {
		m := undoes.FindStringSubmatch(r.Path)
		if m == nil || begun[m[1]+m[2]] {
			continue
		}
		of := byPath[m[1]+m[2]]
		begun[of.Path] = true
		if of.State != step.Completed {
			b.Errorf("%s is %s, and was undone", of.Path, of.State)
		}
		if before, ok := last[m[1]]; ok && of.Ord > before {
			b.Errorf("%s was undone after what came before it", of.Path)
		}
		last[m[1]] = of.Ord
	}
	if !all {
		return
	}
	for _, s := range b.workflows["w"].Steps {
		if r := byPath[s.Key]; len(s.Undo) > 0 && r.State == step.Completed && !begun[s.Key] {
			b.Errorf("%s was completed, and not undone", s.Key)
		}
	}
}

// generator makes workflows whose steps come to the same whenever they are carried out.
type generator struct {
	r        *rapid.T
	n        int
	together bool // steps may be cancelled by others
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

// kinds are those of steps without others in them; the argument is the step's number.
var kinds = map[string]string{
	"work":     "shell: work %d",
	"long":     "shell: '4: long %d'",
	"breaks":   "shell: exit %d",
	"write":    "write: file %d\n  content: text",
	"sleep":    "sleep: 7s # %d",
	"signal":   "signal: never\n  timeout: 90s # %d",
	"log":      "log: said %d",
	"set":      "set: {a: \"${{ %d }}\"}",
	"fail":     "fail: failed %d",
	"prompt":   "prompt: '2: prompted %d'",
	"put":      "http: http://example.com/%d\n  method: PUT\n  safety: idempotent",
	"child":    "workflow: child # %d",
	"dispatch": "dispatch: shell\n  instance: i%d\n  message: '1: told'\n  wait: true",
}

func (g *generator) step(indent, depth int) string {
	g.n++
	id, pad := g.n, strings.Repeat(" ", indent)
	s := fmt.Sprintf("%s- id: s%d\n", pad, id)
	line := func(format string, args ...any) {
		s += pad + "  " + strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\n"+pad) + "\n"
	}
	all := []string{"work", "long"}
	for kind := range kinds {
		all = append(all, kind)
	}
	slices.Sort(all)
	if depth < 2 {
		all = append(all, "group", "group", "foreach", "foreach", "repeat", "parallel", "parallel")
	}
	kind := g.pick("kind", all...)
	switch kind {
	case "group":
		line("group:")
		s += g.list(indent+4, depth+1)
		for _, more := range []string{"catch", "finally"} {
			if g.pick(more, "", "y") != "" {
				line("%s:", more)
				s += g.list(indent+4, depth+2)
			}
		}
	case "parallel":
		line("parallel:")
		for _, branch := range []string{"l", "r"} {
			line("  %s:", branch)
			s += g.branch(indent+6, depth+1)
		}
	case "foreach":
		line("foreach: \"[1, 2, 3]\"")
		line("as: e%d", id)
		if g.pick("parallel", "", "y") != "" {
			line("parallel: 2")
			line("do:")
			s += g.branch(indent+4, depth+1)
			break
		}
		line("do:")
		s += g.list(indent+4, depth+1)
	case "repeat":
		line("repeat: 2")
		line("every: 9s")
		line("until: \"%s\"", g.pick("until", "true", "false"))
		line("do:")
		s += g.list(indent+4, depth+1)
	default:
		line(kinds[kind], id)
	}
	if kind == "breaks" && g.pick("retry", "", "y") != "" {
		line("retry: {attempts: 2, backoff: 3s}")
	}
	if g.pick("continue", "", "y") != "" {
		line("on_error: continue")
	}
	if depth < 3 && kind != "fail" && g.pick("undo", "", "y") != "" {
		line("undo:")
		s += g.list(indent+4, 3)
	}
	return s
}

// branch is a list that goes on beside others: unless what ends first may decide, nothing in it fails.
func (g *generator) branch(indent, depth int) string {
	if g.together {
		return g.list(indent, depth)
	}
	g.n++
	return strings.Repeat(" ", indent) + fmt.Sprintf("- id: s%d\n", g.n) +
		strings.Repeat(" ", indent+2) + fmt.Sprintf(g.pick("beside", "shell: '3: beside %d'", "prompt: '1: asked %d'",
		"workflow: child # %d", "sleep: 11s # %d"), g.n) + "\n"
}
