package platformtest_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
)

// nested is a line that depth-1 sub-agents hand on, one to the next.
func nested(depth int, line string) string {
	for range depth - 1 {
		line = asked("", line)
	}
	return line
}

// abortedAt aborts a submission after a time, when so many sub-agents have begun in its session.
func (w *world) abortedAt(agent, message string, after time.Duration, children int) {
	w.Helper()
	id := w.submitTo(w.a, agent, message)
	w.sleep(after)
	if n := len(w.children(w.sessionID(agent))); n != children {
		w.Errorf("%d sub-agents have begun, want %d", n, children)
	}
	w.abort(w.a, id)
	began := time.Now()
	got, err := w.tryWait(w.a, id)
	if err != nil || got.GetOutcome() != pawlv1.Outcome_OUTCOME_ABORTED || !got.GetCancellation().GetConfirmed() {
		w.Errorf("settled %v, %v", got, err)
	}
	if took := time.Since(began); took > 3*time.Second {
		w.Errorf("it took %s", took)
	}
	if w.asking.Load() != 0 {
		w.Error("a model is still asked")
	}
}

// Row 30: sub-agents, see TestTreeKilledAtEveryCommit and its neighbours too.
var treeRows = []row{
	{"30", "aborted while the model answers a sub-agent at any depth", "aborted", func(w *world) {
		for depth := 1; depth <= 3; depth++ {
			began := time.Duration(depth-1) * 2 * time.Second // the models before it have two parts of a second each
			w.abortedAt("paced", nested(depth, fmt.Sprintf("say: one two three four five at %d", depth)),
				began+2500*time.Millisecond, depth*(depth-1)/2)
		}
		w.finishTree(w.a, "paced")
	}},
	{"30", "aborted while the command of a sub-agent at any depth runs", "aborted", func(w *world) {
		var effects []string
		for depth := 1; depth <= 3; depth++ {
			name := fmt.Sprint("at", depth)
			w.abortedAt("shell", nested(depth, "add effects "+name+";sleep 1000h;add effects never"), 10*time.Second,
				depth*(depth-1)/2)
			effects = append(effects, name)
		}
		w.finishTree(w.a, "shell", effects...)
	}},
	{"30", "the deadline of a sub-agent passes", "R", func(w *world) {
		began := time.Now()
		w.wait(w.a, w.submitTo(w.a, "lead", asked("hasty", "add effects one;sleep 100h;add effects never")),
			"got no answer: its time ran out")
		if took := time.Since(began); took < 5*time.Minute || took > 6*time.Minute {
			w.Errorf("it took %s, with a limit of 5 minutes", took)
		}
		w.finishTree(w.a, "lead", "one")
	}},
	{"30", "the deadline of a sub-agent passes, whose replica was killed meanwhile", "R", func(w *world) {
		began := time.Now()
		id := w.submitTo(w.a, "lead", asked("hasty", "add effects one;sleep 100h;add effects never"))
		p := w.a
		for range 3 {
			w.sleep(80 * time.Second)
			p.Kill()
			p = w.next(p)
		}
		w.wait(p, id, "got no answer: its time ran out")
		if took := time.Since(began); took < 5*time.Minute || took > 6*time.Minute {
			w.Errorf("it took %s, with a limit of 5 minutes", took)
		}
		w.finishTree(p, "lead", "one")
	}},
	{"30", "the deadline of a submission passes while sub-agents work", "expired", func(w *world) {
		w.expires(w.a, w.submitTo(w.a, "hasty", strings.Join([]string{
			asked("", nested(2, "add effects one;sleep 100h;add effects never")), asked("",
				"add effects two;sleep 90h"),
		}, "\n& ")))
		w.finishTree(w.a, "hasty", "one", "two")
	}},
	{"30", "a sub-agent has no turns left", "R", func(w *world) {
		w.wait(w.a, w.submitTo(w.a, "lead", asked("brief", "add effects one\nadd effects never")),
			"limit of 1 turn is reached")
		w.finishTree(w.a, "lead", "one")
	}},
	{"30", "a tree of sub-agents has no tokens left", "failed", func(w *world) {
		var lines []string
		for i := range 100 {
			lines = append(lines, fmt.Sprint("echo ", i))
		}
		endless := strings.Join(lines, "\n")
		got, err := w.tryWait(w.a, w.submitTo(w.a, "thrifty", asked("", endless)+"\n& "+asked("shell", endless)))
		if err != nil || got.GetOutcome() != pawlv1.Outcome_OUTCOME_FAILED ||
			got.GetError().GetReason() != "LIMIT_TOKENS" {
			w.Errorf("settled %v, %v", got, err)
		}
		// what each of two sub-agents may have asked for when the last token was spent
		sub, err := w.c.Store.GetSubmission(w.Context(), session.DefaultTenant, got.GetSubmissionId())
		if err != nil {
			w.Fatal(err)
		}
		if used := sub.Usage.Total(); used < thrift || used > 2*thrift {
			w.Errorf("%d tokens were used of %d", used, thrift)
		}
		if n := len(w.calls(w.sessionID("thrifty"))); n < 6 || n > 40 {
			w.Errorf("%d calls ran", n)
		}
	}},
	{"30", "a sub-agent kills its replicas, beside others that go on", "R", func(w *world) {
		kills := func(p *platformtest.Platform, s platformtest.Step) error {
			if s.Commit != nil && !s.After && asks(s.Commit, "poison") {
				return p.Strike()
			}
			return nil
		}
		w.a.DB.Strike(func(s platformtest.Step) error { return kills(w.a, s) })
		id := w.submitTo(w.a, "lead", strings.Join([]string{
			asked("paced", "say: one two three\nadd effects poison"),
			asked("", "sleep 30s;add effects one;echo first\nsleep 1m;add effects two;echo last"),
		}, "\n& "))
		p := w.a
		for range 3 {
			w.dead(p)
			p = w.c.Start("a", kills)
			w.m.Dial(p)
		}
		if got := w.wait(p, id, "died or failed at this point"); got.GetAttempts() != 3 ||
			!strings.Contains(got.GetResult().GetText(), "first\nlast") {
			w.Errorf("settled %v", got)
		}
		p.DB.Strike(nil)
		w.finishTree(p, "lead", "one", "two")
	}},
	{"30", "the executor's host is lost for good while commands of sub-agents run", "U", func(w *world) {
		id := w.submit(asked("", one) + "\n& " + asked("", quick))
		w.sleep(10 * time.Second)
		w.m.Crash()
		if got := w.wait(w.a, id, "unknown"); !strings.Contains(got.GetResult().GetText(), "quick result") {
			w.Errorf("the answer is %q", got.GetResult().GetText())
		}
		w.unknown("shell")
		w.finishTree(w.a, "shell", "one", "quick")
	}},
	{"30", "a frozen replica wakes: its Execute for a sub-agent is refused", "harmless", func(w *world) {
		b := w.c.Start("b", nil)
		w.move(b)
		thaw := w.hold("Execute")
		id := w.submit(asked("", one)) // a runs it, and its Execute is on its way to b
		synctest.Wait()
		w.a.Freeze()
		w.wait(b, id, truth)
		before := w.count("Execute", "")
		thaw()
		w.a.Thaw()
		w.sleep(time.Minute)
		if w.count("Execute", "") != before+1 || w.count("Rejected", "STALE_EPOCH") != 1 {
			w.Errorf("%d of %d orders are the late one, %d were refused", w.count("Execute", "")-before,
				w.count("Execute", ""), w.count("Rejected", "STALE_EPOCH"))
		}
		w.finishTree(w.a, "shell", "one")
	}},
	{"30", "the database has written what several sub-agents wanted, and did not answer", "R", func(w *world) {
		var lost atomic.Int32
		seen := map[string]bool{}
		w.a.DB.Strike(func(s platformtest.Step) error { // one commit at a time
			switch {
			case s.Commit == nil:
			case !s.After:
				w.sleep(100 * time.Millisecond) // what others want meanwhile is merged
			case len(s.Commit.Steps) > 1 && !seen[s.Commit.ID]:
				seen[s.Commit.ID] = true
				lost.Add(1)
				return platformtest.ErrAway
			}
			return nil
		})
		var lines []string
		var effects []string
		for i := range 8 {
			name := fmt.Sprint("e", i)
			lines, effects = append(lines, asked("", leaf(name, 3))), append(effects, name)
		}
		w.wait(w.a, w.submit(strings.Join(lines, "\n& ")), strings.Join(effects, "\n"))
		if lost.Load() < 3 {
			w.Errorf("%d answers were lost", lost.Load())
		}
		w.a.DB.Strike(nil)
		w.finishTree(w.a, "shell", effects...)
	}},
	{"30", "a replica is killed while others' sub-agents wait for slots of an executor", "R", func(w *world) {
		w.m.Stop()
		w.m.Slots = 1
		w.m.Start(w.a)
		synctest.Wait()
		b := w.c.Start("b", nil)
		id := w.submit(tree)
		w.sleep(3 * time.Second)
		w.a.Kill()
		w.m.Dial(b)
		w.wait(b, id, answers)
		for _, c := range w.calls(w.sessionID("shell")) {
			if c.State != call.Done {
				w.Errorf("call %s is %s", c.ID, c.State)
			}
		}
		w.finishTree(b, "shell", leaves...)
	}},
}

// asks reports whether a commit has an answer of a model that asks for a call with a text in its arguments.
func asks(c *lane.Commit, text string) bool {
	for _, s := range c.Steps {
		for _, e := range s.Entries {
			for _, b := range e.Message.Content {
				if e.Message.Role == "assistant" && strings.Contains(string(b.Args), `"command":"add effects `+text) {
					return true
				}
			}
		}
	}
	return false
}
