package fleet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/call"
)

// model is the rule of queue, said in the plainest way: every call that waits, in order of arrival.
type model struct {
	v     int64
	last  map[string]int64 // tag of the lane's last call that was served
	calls []pair
}

type pair struct{ lane, id string }

func (m *model) tag(lane string) int64 { return max(m.v, m.last[lane]) + 1 }

func (m *model) push(lane, id string) {
	if !slices.ContainsFunc(m.calls, func(p pair) bool { return p.id == id }) {
		m.calls = append(m.calls, pair{lane, id})
	}
}

func (m *model) remove(id string) {
	m.calls = slices.DeleteFunc(m.calls, func(p pair) bool { return p.id == id })
}

// pop serves the head with the lowest tag, of equal ones the one that came first. Tags of heads are fixed when the lane
// began to wait, which is what since has.
func (m *model) pop(since map[string]int64) (string, bool) {
	best, found := pair{}, false
	seen := map[string]bool{}
	for _, p := range m.calls {
		if seen[p.lane] {
			continue
		}
		seen[p.lane] = true
		if !found || since[p.lane] < since[best.lane] {
			best, found = p, true
		}
	}
	if !found {
		return "", false
	}
	m.v, m.last[best.lane] = since[best.lane], since[best.lane]
	m.remove(best.id)
	return best.id, true
}

// Random pushes, pops and removals come to what the plain rule says, and an empty queue keeps nothing.
func TestQueueKeepsItsRule(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		q, m, since := newQueue(), &model{last: map[string]int64{}}, map[string]int64{}
		for n := range 400 {
			lane := strconv.Itoa(r.IntN(1 + r.IntN(12)))
			switch k := r.IntN(10); {
			case k < 5:
				id := fmt.Sprint(n)
				if !slices.ContainsFunc(m.calls, func(p pair) bool { return p.lane == lane }) {
					since[lane] = m.tag(lane)
				}
				q.push("t", lane, id)
				m.push(lane, id)
			case k < 8:
				want, some := m.pop(since)
				got, ok := q.pop()
				if got != want || ok != some {
					t.Fatalf("seed %d, step %d: served %q, %v, want %q", seed, n, got, ok, want)
				}
				for l := range since {
					if m.last[l] == since[l] && m.v == since[l] {
						since[l] = m.tag(l)
					}
				}
			case k == 8 && len(m.calls) > 0:
				id := m.calls[r.IntN(len(m.calls))].id
				q.remove(id)
				m.remove(id)
			case k == 9:
				var rows []call.Waiting
				for _, p := range m.calls {
					rows = append(rows, call.Waiting{Tenant: "t", LaneID: p.lane, CallID: p.id})
				}
				before := q.came
				if r.IntN(2) == 0 && len(rows) > 0 { // the last one came while the rows were read
					rows, before = rows[:len(rows)-1], q.calls[rows[len(rows)-1].CallID].Value.(*waiter).came-1
				}
				q.reorder(rows, before)
			}
			if q.len() != len(m.calls) {
				t.Fatalf("seed %d, step %d: %d wait, want %d", seed, n, q.len(), len(m.calls))
			}
		}
		for q.len() > 0 {
			q.pop()
		}
		if len(q.byName) != 0 || len(q.tenants) != 0 || len(q.calls) != 0 {
			t.Fatalf("seed %d: an empty queue keeps %d tenants", seed, len(q.byName))
		}
	}
}

// Of two lanes that both wait all the time none is served more than once beyond the other, whatever else comes and is
// removed.
func TestLanesThatWaitAreServedAlike(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		q, served, of := newQueue(), map[string]int{}, map[string]string{}
		n := 0
		push := func(lane string) {
			n++
			id := strconv.Itoa(n)
			of[id] = lane
			q.push("t", lane, id)
		}
		for range 3 + r.IntN(10) {
			push("a")
			push("b")
		}
		for range 500 {
			push("a")
			push("b")
			for range r.IntN(3) {
				push(fmt.Sprint("other", r.IntN(5)))
			}
			if r.IntN(4) == 0 {
				q.remove(strconv.Itoa(1 + r.IntN(n)))
			}
			for range r.IntN(4) {
				id, _ := q.pop()
				served[of[id]]++
			}
			if of := q.byName["t"]; of == nil || of.byID["a"] == nil || of.byID["b"] == nil {
				break // one does not wait any more
			}
			if d := served["a"] - served["b"]; d < -1 || d > 1 {
				t.Fatalf("seed %d: a was served %d times, b %d", seed, served["a"], served["b"])
			}
		}
	}
}

// Calls of one lane keep their order, and one that is queued twice is served once.
func TestQueueKeepsTheOrderOfALane(t *testing.T) {
	t.Parallel()
	q := newQueue()
	for n := range 20_000 {
		q.push("t", "a", strconv.Itoa(n))
		q.push("t", "a", strconv.Itoa(n/2))
	}
	for n := range 20_000 {
		if id, _ := q.pop(); id != strconv.Itoa(n) {
			t.Fatalf("%q is served, want %d", id, n)
		}
	}
	if id, ok := q.pop(); ok {
		t.Errorf("%q is served too", id)
	}
}

// Of tenants that wait all the time none is served more than once beyond another, however many lanes and calls they
// have, and within each its lanes are served alike.
func TestTenantsThatWaitAreServedAlike(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		q, came, n := newQueue(), map[string][]pair{}, 0
		push := func(tenant string, lanes int) {
			n++
			p := pair{tenant + strconv.Itoa(r.IntN(lanes)), tenant + "/" + strconv.Itoa(n)}
			came[tenant] = append(came[tenant], p)
			q.push(tenant, p.lane, p.id)
		}
		lanes := map[string]int{"busy": 40, "a": 1, "b": 3}
		for range 300 {
			push("busy", lanes["busy"])
		}
		served := map[string]int{}
		for range 400 {
			for tenant, n := range lanes {
				for q.byName[tenant] == nil || r.IntN(3) == 0 {
					push(tenant, n)
				}
			}
			if r.IntN(5) == 0 {
				var rows []call.Waiting
				for tenant, all := range came {
					for _, p := range all {
						if q.calls[p.id] != nil {
							rows = append(rows, call.Waiting{Tenant: tenant, LaneID: p.lane, CallID: p.id})
						}
					}
				}
				q.reorder(rows, q.came)
			}
			id, _ := q.pop()
			tenant, _, _ := strings.Cut(id, "/")
			served[tenant]++
			for _, other := range served {
				if d := served[tenant] - other; d > 1 {
					t.Fatalf("seed %d: served %v", seed, served)
				}
			}
		}
	}
}

// One call of another tenant does not wait behind what a busy one has, and a tenant alone is served at once.
func TestACallWaitsForItsTenantsTurnOnly(t *testing.T) {
	t.Parallel()
	q := newQueue()
	for n := range 200 {
		q.push("busy", strconv.Itoa(n%7), strconv.Itoa(n))
	}
	for range 20 {
		q.pop()
	}
	q.push("b", "l", "mine")
	for n := 1; ; n++ {
		id, ok := q.pop()
		if id == "mine" {
			break
		}
		if !ok || n > 1 {
			t.Fatalf("%d calls of another tenant came first", n)
		}
	}
	for n := range 179 {
		if _, ok := q.pop(); !ok {
			t.Fatalf("nothing is served after %d", n)
		}
	}
}
