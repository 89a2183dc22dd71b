package fleet

import (
	"cmp"
	"container/heap"
	"container/list"
	"slices"

	"github.com/pawl-dev/pawl/services/control/call"
)

// queue orders the calls that wait for slots by start-time fair queueing, twice: over tenants, and within a tenant over
// lanes. A lane with many calls takes its turn with the others of its tenant, and a tenant with many lanes its turn
// with the other tenants; those that come later do not wait behind all of them.
//
// The head of each lane has a tag: max(v, tag of the lane's last call that was served) + 1, where v is the tag of the
// last call that was served of its tenant. The lowest tag is served next; of equal ones the call that came first. Calls
// of one lane keep their order. A call that is removed has cost nothing: the next one of its lane inherits its tag.
// Tenants have tags by the same rule, with v of the whole queue.
//
// A lane or a tenant without a waiting call needs no memory: the calls that it was served have tags up to v. For the
// same reason a call that is served while none waits need not be counted. push, pop and remove take O(log n) of the
// tenants and the lanes. Not safe for concurrent use.
type queue struct {
	v       int64
	came    int64 // calls so far
	tenants turns[*tenant]
	calls   map[string]*list.Element
	byName  map[string]*tenant
}

// tenant is one with waiting calls.
type tenant struct {
	name string
	turn
	v     int64
	lanes turns[*lane]
	byID  map[string]*lane
}

// lane is one with waiting calls.
type lane struct {
	id string
	turn
	calls list.List // of waiter, in order of arrival
	of    *tenant
}

// waiter is a call that waits.
type waiter struct {
	id   string
	came int64
	lane *lane
}

func newQueue() *queue {
	return &queue{calls: map[string]*list.Element{}, byName: map[string]*tenant{}}
}

func (q *queue) len() int { return len(q.calls) }

// push adds a call, unless it is there.
func (q *queue) push(tenantName, laneID, id string) {
	if q.calls[id] != nil {
		return
	}
	t := q.byName[tenantName]
	if t == nil {
		t = &tenant{name: tenantName, turn: turn{tag: q.v + 1}, byID: map[string]*lane{}}
		q.byName[tenantName] = t
	}
	l := t.byID[laneID]
	if l == nil {
		l = &lane{id: laneID, turn: turn{tag: t.v + 1}, of: t}
		t.byID[laneID] = l
	}
	q.came++
	q.calls[id] = l.calls.PushBack(&waiter{id, q.came, l})
	if l.calls.Len() == 1 {
		heap.Push(&t.lanes, l)
		if len(t.lanes) == 1 {
			heap.Push(&q.tenants, t)
		} else {
			heap.Fix(&q.tenants, t.at)
		}
	}
}

// pop takes the call whose turn it is; false when none waits.
func (q *queue) pop() (id string, ok bool) {
	if len(q.tenants) == 0 {
		return "", false
	}
	t := q.tenants[0]
	q.v = t.tag
	t.tag++
	l := t.lanes[0]
	t.v = l.tag
	l.tag++
	id = l.head().id
	q.remove(id)
	return id, true
}

// remove takes a call out, if it is there.
func (q *queue) remove(id string) {
	e := q.calls[id]
	if e == nil {
		return
	}
	delete(q.calls, id)
	l := e.Value.(*waiter).lane
	t := l.of
	l.calls.Remove(e)
	if l.calls.Len() > 0 {
		heap.Fix(&t.lanes, l.at)
	} else {
		heap.Remove(&t.lanes, l.at)
		delete(t.byID, l.id)
	}
	if len(t.lanes) > 0 {
		heap.Fix(&q.tenants, t.at)
	} else {
		heap.Remove(&q.tenants, t.at)
		delete(q.byName, t.name)
	}
}

// reorder makes the calls of rows, in their order, and those that came later than before the only ones that wait.
// Tenants and lanes keep their turn.
func (q *queue) reorder(rows []call.Waiting, before int64) {
	var late []*waiter
	for _, e := range q.calls {
		if w := e.Value.(*waiter); w.came > before {
			late = append(late, w)
		}
	}
	slices.SortFunc(late, func(a, b *waiter) int { return cmp.Compare(a.came, b.came) })
	old := q.byName
	q.tenants, q.calls, q.byName = nil, map[string]*list.Element{}, map[string]*tenant{}
	for _, r := range rows {
		q.push(r.Tenant, r.LaneID, r.CallID)
	}
	for _, w := range late {
		q.push(w.lane.of.name, w.lane.id, w.id)
	}
	for _, t := range q.tenants {
		if had := old[t.name]; had != nil {
			t.resume(had)
		}
	}
	heap.Init(&q.tenants)
}

// resume gives a tenant and its lanes the turns that they had.
func (t *tenant) resume(had *tenant) {
	t.tag, t.v = had.tag, had.v
	for _, l := range t.lanes {
		l.tag = t.v + 1
		if had := had.byID[l.id]; had != nil {
			l.tag = had.tag
		}
	}
	heap.Init(&t.lanes)
}

func (l *lane) head() *waiter { return l.calls.Front().Value.(*waiter) }

func (l *lane) since() int64 { return l.head().came }

func (t *tenant) since() int64 { return t.lanes[0].since() }

// turn is when something is served.
type turn struct {
	tag int64
	at  int // in the heap
}

func (t *turn) place() *turn { return t }

// turns implements heap.Interface, by tag. Of equal ones that is first whose call came first.
type turns[T interface {
	place() *turn
	since() int64
}] []T

func (h turns[T]) Len() int { return len(h) }

func (h turns[T]) Less(i, j int) bool {
	if a, b := h[i].place().tag, h[j].place().tag; a != b {
		return a < b
	}
	return h[i].since() < h[j].since()
}

func (h turns[T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place().at, h[j].place().at = i, j
}

func (h *turns[T]) Push(x any) {
	one := x.(T)
	one.place().at = len(*h)
	*h = append(*h, one)
}

func (h *turns[T]) Pop() any {
	last := len(*h) - 1
	one := (*h)[last]
	clear((*h)[last:])
	*h = (*h)[:last]
	return one
}
