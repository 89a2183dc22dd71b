package fleet

import (
	"cmp"
	"container/heap"
	"container/list"
	"slices"

	"github.com/pawl-dev/pawl/services/control/call"
)

// queue orders the calls that wait for slots by start-time fair queueing over lanes: a lane with many calls takes its
// turn with the others, and lanes that come later do not wait behind all of them.
//
// The head of each lane has a tag: max(v, tag of the lane's last call that was served) + 1, where v is the tag of the
// last call that was served of all. The lowest tag is served next; of equal ones the call that came first. Calls of one
// lane keep their order. A call that is removed has cost nothing: the next one of its lane inherits its tag.
//
// A lane without a waiting call needs no memory: the calls that it was served have tags up to v. For the same reason a
// call that is served while none waits need not be counted. push, pop and remove take O(log n) of the lanes. Not safe
// for concurrent use.
type queue struct {
	v     int64
	came  int64 // calls so far
	lanes lanes // heap by the tags of their heads
	calls map[string]*list.Element
	byID  map[string]*lane
}

// lane is one with waiting calls.
type lane struct {
	id    string
	tag   int64     // of the head
	calls list.List // of waiter, in order of arrival
	at    int       // in the heap
}

// waiter is a call that waits.
type waiter struct {
	id   string
	came int64
	lane *lane
}

func newQueue() *queue {
	return &queue{calls: map[string]*list.Element{}, byID: map[string]*lane{}}
}

func (q *queue) len() int { return len(q.calls) }

// push adds a call, unless it is there.
func (q *queue) push(laneID, id string) {
	if q.calls[id] != nil {
		return
	}
	l := q.byID[laneID]
	if l == nil {
		l = &lane{id: laneID, tag: q.v + 1}
		q.byID[laneID] = l
	}
	q.came++
	q.calls[id] = l.calls.PushBack(&waiter{id, q.came, l})
	if l.calls.Len() == 1 {
		heap.Push(&q.lanes, l)
	}
}

// pop takes the call whose turn it is; false when none waits.
func (q *queue) pop() (id string, ok bool) {
	if len(q.lanes) == 0 {
		return "", false
	}
	l := q.lanes[0]
	q.v = l.tag
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
	l.calls.Remove(e)
	if l.calls.Len() > 0 {
		heap.Fix(&q.lanes, l.at)
		return
	}
	heap.Remove(&q.lanes, l.at)
	delete(q.byID, l.id)
}

// reorder makes the calls of rows, in their order, and those that came later than before the only ones that wait.
// Lanes keep their turn.
func (q *queue) reorder(rows []call.Waiting, before int64) {
	var late []*waiter
	for _, e := range q.calls {
		if w := e.Value.(*waiter); w.came > before {
			late = append(late, w)
		}
	}
	slices.SortFunc(late, func(a, b *waiter) int { return cmp.Compare(a.came, b.came) })
	old := q.byID
	q.lanes, q.calls, q.byID = nil, map[string]*list.Element{}, map[string]*lane{}
	for _, r := range rows {
		q.push(r.LaneID, r.CallID)
	}
	for _, w := range late {
		q.push(w.lane.id, w.id)
	}
	for _, l := range q.lanes {
		if had := old[l.id]; had != nil {
			l.tag = had.tag
		}
	}
	heap.Init(&q.lanes)
}

func (l *lane) head() *waiter { return l.calls.Front().Value.(*waiter) }

// lanes implements heap.Interface.
type lanes []*lane

func (h lanes) Len() int { return len(h) }

func (h lanes) Less(i, j int) bool {
	if h[i].tag != h[j].tag {
		return h[i].tag < h[j].tag
	}
	return h[i].head().came < h[j].head().came
}

func (h lanes) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h *lanes) Push(x any) {
	l := x.(*lane)
	l.at = len(*h)
	*h = append(*h, l)
}

func (h *lanes) Pop() any {
	last := len(*h) - 1
	l := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return l
}
