package platformtest_test

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// life is what happens to one submission. Its uses of the database, and when they come, depend on fake time alone.
type life struct {
	name string
	// begin brings the world to where the steps count, and play plays the rest. struck is the replica that is struck.
	begin func(w *world) (struck *platformtest.Platform, id string)
	play  func(w *world, struck *platformtest.Platform, id string)
	// counts reports whether the life depends on a use of the database. Whether it comes to the others is for chance.
	counts func(op string) bool
}

// reports are the uses of the database by a replica that takes a result for an owner which it cannot reach.
func reports(op string) bool {
	return slices.Contains([]string{"OwnerOf", "GetCall", "PinOf", "CompleteCall"}, op)
}

var lives = []life{
	{
		name:  "here",
		begin: func(w *world) (*platformtest.Platform, string) { return w.a, "" },
		play: func(w *world, a *platformtest.Platform, _ string) {
			id := w.persist(one)
			if _, err := w.tryWait(a, id); err != nil { // the panic may be in the way of this answer too
				w.Log(err)
			}
			w.wait(a, id, truth)
			w.m.Wire.Cut()
			w.m.Wire.Mend()
			w.sleep(3 * time.Minute) // for an executor that connects again, and for lanes that were left
			w.finish(a, "shell", "one")
		},
		counts: func(op string) bool { return !reports(op) },
	},
	{
		name:  "elsewhere",
		begin: (*world).elsewhere,
		play: func(w *world, b *platformtest.Platform, id string) {
			w.wait(w.a, id, truth)
			w.sleep(3 * time.Minute)
			w.finish(w.a, "shell", "one")
		},
		counts: reports,
	},
}

// strike calls f at the steps that count.
func (l life) strike(p *platformtest.Platform, f func(step string)) {
	p.DB.Strike(func(s platformtest.Step) error {
		if l.counts(s.Op) {
			f(s.String())
		}
		return nil
	})
}

// steps are all steps of the database that the life comes to.
func (l life) steps(t *testing.T) []string {
	var mu sync.Mutex
	seen := map[string]bool{}
	within(t, func(w *world) {
		p, id := l.begin(w)
		l.strike(p, func(step string) {
			mu.Lock()
			defer mu.Unlock()
			seen[step] = true
		})
		l.play(w, p, id)
		p.DB.Strike(nil)
	})
	return slices.Sorted(maps.Keys(seen))
}

// A panic in whatever uses the database ends that one use. The submission is retried and completes, the command runs
// once, and the next prompts of the session work, as all locks and slots are given back.
func TestPanicAtEveryStep(t *testing.T) {
	for _, l := range lives {
		all := l.steps(t)
		if want := map[string]int{"here": 40, "elsewhere": 8}[l.name]; len(all) < want {
			t.Errorf("%s: %d steps are known, want at least %d: %v", l.name, len(all), want, all)
		}
		for _, step := range all {
			t.Run(l.name+"/"+strings.ReplaceAll(step, " ", "_"), func(t *testing.T) {
				within(t, func(w *world) {
					p, id := l.begin(w)
					var met atomic.Bool
					l.strike(p, func(s string) {
						if s == step && !met.Swap(true) {
							panic("injected " + step)
						}
					})
					l.play(w, p, id)
					if !met.Load() {
						w.Error("the step was not met")
					}
				})
			})
		}
	}
}

// persist submits until that is answered: the panic may be in the way of the answer.
func (w *world) persist(message string) string {
	w.Helper()
	got, err := w.try(w.Context(), w.a, "shell", message)
	if err != nil {
		if got, err = w.try(w.Context(), w.a, "shell", message); err != nil {
			w.Fatal(err)
		}
	}
	return got.GetSubmission().GetSubmissionId()
}

// A submission that makes the process panic each time is given up after a few times, wherever that is, and its session
// goes on.
func TestPoisonousSubmission(t *testing.T) {
	for _, step := range []string{"before T2", "before T3", "before Entries", "after Entries", "after Unended"} {
		t.Run(strings.ReplaceAll(step, " ", "_"), func(t *testing.T) {
			within(t, func(w *world) {
				w.wait(w.a, w.submit("say: before"), "before")
				w.a.Kill()
				w.a = w.next(w.a) // it has to read what was said before
				w.m.Welcomed()
				synctest.Wait()
				var panics atomic.Int32
				w.a.DB.Strike(func(s platformtest.Step) error {
					if s.String() == step {
						panics.Add(1)
						panic("poison")
					}
					// such that it has to be stopped, which fails too, or that the next owner reads the conversation
					if s.String() == "before T2" && (step == "after Unended" ||
						strings.HasSuffix(step, "Entries") && panics.Load() == 0) {
						panics.Add(1)
						panic("poison")
					}
					return nil
				})
				id := w.persist(quick)
				begun := time.Now()
				w.settledRow(id)
				n, took := panics.Load(), time.Since(begun)
				w.a.DB.Strike(nil) // what settles is told with the entries
				got, err := w.tryWait(w.a, id)
				if err != nil || got.GetOutcome() != pawlv1.Outcome_OUTCOME_INTERRUPTED ||
					got.GetError().GetReason() != "STALLED" {
					w.Errorf("settled %v %v, %v", got.GetOutcome(), got.GetError(), err)
				}
				if n == 0 || n > 20 || took > 10*time.Minute {
					w.Errorf("%d panics, settled after %s", n, took)
				}
				if got, err := w.tryWait(w.a, w.submit("say: next")); err != nil ||
					got.GetResult().GetText() != "next" {
					w.Errorf("the next submission: %v, %v", got, err)
				}
			})
		})
	}
}

// settledRow returns when the row of a submission says that it has settled.
func (w *world) settledRow(id string) {
	w.Helper()
	for end := time.Now().Add(10 * time.Hour); time.Now().Before(end); w.sleep(time.Second) {
		sub, err := w.c.Store.GetSubmission(w.Context(), session.DefaultTenant, id)
		if err != nil {
			w.Fatal(err)
		}
		if sub.Status == submission.SettledStatus {
			return
		}
	}
	w.Fatal("it does not settle")
}

// broken is a model that panics after a few parts.
type broken struct{ model.Model }

func (m broken) Stream(ctx context.Context, req model.Request) iter.Seq2[model.Part, error] {
	return func(yield func(model.Part, error) bool) {
		yield(model.Part{Type: model.PartText, Text: "so far"}, nil)
		panic("a provider's code, with password=hunter2")
	}
}

type brokenModels struct{}

func (brokenModels) Model(ref model.Ref) (model.Model, error) {
	switch ref.ID {
	case "broken":
		m, err := platformtest.Models{}.Model(model.Ref{Provider: ref.Provider, ID: "shell"})
		return broken{m}, err
	case "worse":
		panic("not even this")
	}
	return platformtest.Models{}.Model(ref)
}

// A panic in a model's code fails the prompt, and what it said is for the log.
func TestPanicInAModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var defs []agent.Definition
		for _, name := range []string{"broken", "worse", "shell"} {
			d := agent.Shell()
			d.Name, d.Model = name, model.Ref{Provider: "test", ID: name}
			defs = append(defs, d)
		}
		w := &world{T: t}
		w.c = platformtest.New(t, platformtest.Options{Models: brokenModels{}, Agents: defs})
		w.a = w.c.Start("a", nil)
		for name, want := range map[string]string{"broken": "MODEL_PANIC", "worse": "STALLED"} {
			got, err := w.tryWait(w.a, w.submitTo(w.a, name, "hi"))
			if err != nil || got.GetError().GetReason() != want || strings.Contains(got.String(), "hunter2") {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		}
		got, err := w.tryWait(w.a, w.submitTo(w.a, "shell", "say: fine"))
		if err != nil || got.GetResult().GetText() != "fine" {
			t.Errorf("%v, %v", got, err)
		}
	})
}
