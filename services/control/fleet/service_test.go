package fleet

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/tool"
)

// store is a Store that lists what it is told.
type store struct {
	Store
	all []Executor
}

func (s store) ListExecutors(context.Context) ([]Executor, error) { return s.all, nil }

func (s store) GetExecutor(_ context.Context, id string) (Executor, error) {
	for _, e := range s.all {
		if e.ID == id {
			return e, nil
		}
	}
	return Executor{}, ErrNotFound
}

// nobody is the id of a process that is no replica.
func nobody() string { return "" }

// An executor that its row says is connected here, and is not, is away here: the end of its connection could not be
// written.
func TestExecutorThatIsNotHereIsAway(t *testing.T) {
	t.Parallel()
	s := NewService(store{all: []Executor{{ID: "a", Replica: "me", Slots: 1}, {ID: "b", Replica: "other", Slots: 1}}},
		func() string { return "me" })
	for id, want := range map[string]bool{"a": false, "b": true} {
		e, err := s.Find(t.Context(), id)
		_, placed, errPlace := s.Place(t.Context(), Wanted{Executor: id})
		if err != nil || errPlace != nil || e.Connected() != want || placed != want {
			t.Errorf("%s: %+v, %v, %v, %v", id, e, placed, err, errPlace)
		}
	}
	if e, ok, err := s.Place(t.Context(), Wanted{}); err != nil || !ok || e.ID != "b" {
		t.Errorf("%+v, %v, %v", e, ok, err)
	}
	s.Attached(Executor{ID: "a", Replica: "me", Slots: 1})
	if e, ok, err := s.Place(t.Context(), Wanted{}); err != nil || !ok || e.ID != "a" {
		t.Errorf("%+v, %v, %v", e, ok, err)
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	connected := func(id string, slots, running int, labels ...string) Executor {
		e := Executor{ID: id, Replica: "other", Slots: slots, Running: running, Labels: map[string]string{}}
		for i := 0; i < len(labels); i += 2 {
			e.Labels[labels[i]] = labels[i+1]
		}
		return e
	}
	away := connected("away", 8, 0)
	away.Replica = ""
	draining := connected("draining", 8, 0)
	draining.Draining = true
	for name, c := range map[string]struct {
		all   []Executor
		local []Executor
		want  Wanted
		id    string // "" is nowhere
	}{
		"nobody is there":            {},
		"one that is away or drains": {all: []Executor{away, draining}},
		"the least loaded": {all: []Executor{
			connected("a", 4, 3), connected("b", 8, 4),
			connected("c", 2, 2),
		}, id: "b"},
		"more slots at the same load":     {all: []Executor{connected("a", 4, 2), connected("b", 8, 4)}, id: "b"},
		"an executor without slots, full": {all: []Executor{connected("a", 0, 1), connected("b", 2, 1)}, id: "b"},
		"here before less loaded": {
			all:   []Executor{connected("a", 4, 0), connected("b", 4, 3)},
			local: []Executor{connected("b", 4, 3)}, id: "b",
		},
		"the built-in one before all": {
			all:   []Executor{connected("a", 4, 0)},
			local: []Executor{connected("mine", 4, 4)}, want: Wanted{Builtin: "mine"}, id: "mine",
		},
		"not the built-in one that drains": {
			all: []Executor{connected("a", 4, 0)}, local: []Executor{draining},
			want: Wanted{Builtin: "draining"}, id: "a",
		},
		"all labels": {
			all: []Executor{
				connected("a", 4, 0, "gpu", "a100"), connected("b", 4, 3, "gpu", "a100", "zone", "1"),
				connected("c", 4, 0, "gpu", "h100", "zone", "1"),
			},
			want: Wanted{Labels: map[string]string{"gpu": "a100", "zone": "1"}}, id: "b",
		},
		"labels before the built-in one": {
			all: []Executor{connected("a", 4, 3, "gpu", "a100")}, local: []Executor{connected("mine", 4, 0)},
			want: Wanted{Builtin: "mine", Labels: map[string]string{"gpu": "a100"}}, id: "a",
		},
		"labels that nobody has": {
			all:  []Executor{connected("a", 4, 0)},
			want: Wanted{Labels: map[string]string{"gpu": "a100"}},
		},
		"where it is bound, however loaded": {
			all: []Executor{connected("a", 4, 0), connected("b", 4, 9)}, want: Wanted{Executor: "b"}, id: "b",
		},
		"where it is bound, though it drains": {
			all:  []Executor{draining, connected("a", 4, 0)},
			want: Wanted{Executor: "draining"}, id: "draining",
		},
		"where it is bound, with the labels": {
			all: []Executor{connected("a", 4, 0, "gpu", "a100")}, want: Wanted{
				Executor: "a",
				Labels:   map[string]string{"gpu": "a100"},
			}, id: "a",
		},
		"where it is bound, without the labels any more": {
			all:  []Executor{connected("a", 4, 0, "gpu", "t4"), connected("b", 4, 0, "gpu", "a100")},
			want: Wanted{Executor: "a", Labels: map[string]string{"gpu": "a100"}},
		},
		"nowhere else while it is away": {all: []Executor{away, connected("a", 4, 0)}, want: Wanted{Executor: "away"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := NewService(store{all: c.all}, nobody)
			for _, e := range c.local {
				s.Attached(e)
			}
			e, ok, err := s.Place(t.Context(), c.want)
			if err != nil || ok != (c.id != "") || ok && e.ID != c.id {
				t.Errorf("placed on %q, %v, %v; want %q", e.ID, ok, err, c.id)
			}
		})
	}
}

// offering is an executor that offers tools.
func offering(id, replica string, tools ...string) Executor {
	e := Executor{ID: id, Replica: replica, Slots: 4}
	for _, name := range tools {
		e.Tools = append(e.Tools, tool.Offered{Name: name, Description: "of " + id})
	}
	return e
}

// Tools decide where a workspace comes to be, before all but labels. Where it is stays where it is.
func TestPlaceByTools(t *testing.T) {
	t.Parallel()
	all := []Executor{
		offering("none", "other"), offering("one", "other", "cad"), offering("two", "other", "cad", "mail"),
		offering("mine", "me"),
	}
	s := NewService(store{all: all}, func() string { return "me" })
	s.Attached(all[3])
	for id, w := range map[string]Wanted{
		"mine": {Builtin: "mine", Tools: []string{"nobody's"}},
		"one":  {Builtin: "mine", Tools: []string{"cad"}},
		"two":  {Builtin: "mine", Tools: []string{"mail", "cad"}},
		"none": {Executor: "none", Tools: []string{"cad"}},
	} {
		if e, ok, err := s.Place(t.Context(), w); err != nil || !ok || e.ID != id {
			t.Errorf("%v is placed on %q, %v", w.Tools, e.ID, err)
		}
	}
}

// Which executor's tool a model is told of.
func TestOffering(t *testing.T) {
	t.Parallel()
	labelled := offering("labelled", "", "gpu")
	labelled.Labels = map[string]string{"gpu": "a100"}
	theirs := offering("theirs", "other", "cad", "secret")
	theirs.Tenant = "theirs"
	away := offering("away", "", "cad", "mail")
	away.Labels = map[string]string{"only": "away"}
	s := NewService(store{all: []Executor{
		away, offering("here", "other", "cad"), theirs, labelled,
	}}, nobody)
	for _, c := range []struct {
		name string
		w    Wanted
		of   string // the executor whose tool it is, "" for none
	}{
		{"cad", Wanted{}, "here"},
		{"mail", Wanted{}, ""}, // calls would go to another one, and stay there
		{"mail", Wanted{Labels: map[string]string{"only": "away"}}, "away"}, // calls wait for it
		{"secret", Wanted{}, ""},
		{"secret", Wanted{Tenant: "theirs"}, "theirs"},
		{"gpu", Wanted{Labels: map[string]string{"gpu": "a100"}}, "labelled"},
		{"cad", Wanted{Labels: map[string]string{"gpu": "a100"}}, ""},
		{"mail", Wanted{Executor: "away"}, "away"},
		{"mail", Wanted{Executor: "here"}, ""},
		{"nobody's", Wanted{}, ""},
	} {
		c.w.Tools = []string{c.name}
		e, ok, err := s.Offering(t.Context(), c.w)
		o, offers := e.Offers(c.name)
		ok = ok && offers
		if err != nil || ok != (c.of != "") || ok && (e.ID != c.of || o.Name != c.name || o.Description != "of "+c.of) {
			t.Errorf("%s for %+v: %q of %s, %v", c.name, c.w, o.Name, e.ID, err)
		}
	}
	if _, _, err := s.Offering(t.Context(), Wanted{Executor: "gone"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("an executor that is gone: %v", err)
	}
}

// Of executors that offer equally many of an agent's tools one is chosen for all of them, and for calls one that has
// what is called.
func TestToolsOfSeveralExecutors(t *testing.T) {
	t.Parallel()
	busy := offering("busy", "other", "cad")
	busy.Running = busy.Slots
	s := NewService(store{all: []Executor{busy, offering("idle", "other", "mail")}}, nobody)
	w := Wanted{Tools: []string{"cad", "mail"}}
	e, ok, err := s.Offering(t.Context(), w)
	if err != nil || !ok || e.ID != "idle" {
		t.Errorf("the tools are those of %q, %v", e.ID, err)
	}
	for need, want := range map[string]string{"cad": "busy", "mail": "idle", "none": ""} {
		w.Needs = []string{need}
		if e, ok, err := s.Place(t.Context(), w); err != nil || ok != (want != "") || ok && e.ID != want {
			t.Errorf("for a call of %s: %q, %v", need, e.ID, err)
		}
	}
	w.Executor = "idle"
	if e, ok, err := s.Place(t.Context(), w); err != nil || !ok || e.ID != "idle" {
		t.Errorf("a workspace that is bound: %q, %v", e.ID, err)
	}
}

func TestDetachedKeepsANewerConnection(t *testing.T) {
	t.Parallel()
	s := NewService(store{}, nobody)
	s.Attached(Executor{ID: "a", ConnectionEpoch: 1})
	s.Attached(Executor{ID: "a", ConnectionEpoch: 2})
	s.Detached("a", 1)
	if e, ok := s.Local("a"); !ok || e.ConnectionEpoch != 2 {
		t.Fatalf("the end of connection 1 left %+v, %v", e, ok)
	}
	s.Detached("a", 2)
	if e, ok := s.Local("a"); ok {
		t.Fatalf("after its end there is still %+v", e)
	}
}

// Prompts that tell where they run do not make a query each: a list that is a second old does, unless an executor has
// connected here since.
func TestPromptsShareAListOfExecutors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rows := &counted{store: store{all: []Executor{{ID: "a", Replica: "other", Slots: 1}}}}
		s := NewService(rows, nobody)
		place := func(roughly bool, id string, queries int) {
			t.Helper()
			e, _, err := s.Place(t.Context(), Wanted{Roughly: roughly})
			if err != nil || e.ID != id || rows.queries != queries {
				t.Fatalf("executor %q after %d queries, want %q after %d: %v", e.ID, rows.queries, id, queries, err)
			}
		}
		place(true, "a", 1)
		place(true, "a", 1)
		place(false, "a", 2)
		time.Sleep(roughly + 1)
		place(true, "a", 3)
		here := Executor{ID: "b", Replica: "this", Slots: 1}
		rows.all = append(rows.all, here)
		place(true, "a", 3)
		s.Attached(here)
		place(true, "b", 4)
		rows.all = rows.all[:1]
		s.Detached("b", 0)
		place(true, "a", 5)
	})
}

// counted counts the queries for all executors.
type counted struct {
	store
	queries int
}

func (c *counted) ListExecutors(ctx context.Context) ([]Executor, error) {
	c.queries++
	return c.store.ListExecutors(ctx)
}

// An executor serves its own tenant. A shared one serves others too, but not without isolation.
func TestExecutorsServeTheirTenant(t *testing.T) {
	both, own := map[string]bool{"a": true, "b": true}, map[string]bool{"a": true, "b": false}
	for name, c := range map[string]struct {
		e       Executor
		allowed bool
		want    map[string]bool // by tenant
	}{
		"its own":             {Executor{Tenant: "a", Isolation: "strict"}, true, own},
		"shared":              {Executor{Tenant: "a", Shared: true, Isolation: "strict"}, false, both},
		"shared, none":        {Executor{Tenant: "a", Shared: true, Isolation: "none"}, false, own},
		"shared, unknown":     {Executor{Tenant: "a", Shared: true}, false, own},
		"shared none allowed": {Executor{Tenant: "a", Shared: true, Isolation: "none"}, true, both},
	} {
		for tenant, want := range c.want {
			e := c.e
			e.ID, e.Replica, e.Slots = "e", "r", 1
			s := NewService(store{all: []Executor{e}}, nobody)
			s.SharedNone = c.allowed
			for how, w := range map[string]Wanted{
				"placed": {Tenant: tenant}, "bound": {Tenant: tenant, Executor: "e"},
			} {
				if _, ok, err := s.Place(t.Context(), w); err != nil || ok != want {
					t.Errorf("%s, %s for tenant %s: %v, %v", name, how, tenant, ok, err)
				}
			}
		}
	}
}
