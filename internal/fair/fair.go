// Package fair orders what waits so that no class of it waits behind another.
//
//	Push(class, item) ──▶ one line for each class ──▶ Pop: the first of the class whose turn it is
//
// Classes that have something waiting take turns, in the order in which they began to wait. A class that begins to wait
// has its first turn after each of the others has had one at most. One class alone has all turns.
package fair

import "container/list"

// Queue is first in, first out within a class, and round robin between classes. All methods take constant time. The
// zero value is empty. Not safe for concurrent use.
type Queue[T any] struct {
	turns  list.List // of *line, the next one first
	byName map[string]*line
	len    int
}

// line is what waits of a class: never nothing.
type line struct {
	name  string
	items list.List // of *Item
	turn  *list.Element
}

// Item is what waits.
type Item[T any] struct {
	value T
	line  *line
	at    *list.Element // nil when it waits no more
}

// Len is how many items wait.
func (q *Queue[T]) Len() int { return q.len }

// Push adds an item at the end of its class.
func (q *Queue[T]) Push(class string, value T) *Item[T] {
	l := q.byName[class]
	if l == nil {
		if q.byName == nil {
			q.byName = map[string]*line{}
		}
		l = &line{name: class}
		q.byName[class] = l
		l.turn = q.turns.PushBack(l)
	}
	item := &Item[T]{value: value, line: l}
	item.at = l.items.PushBack(item)
	q.len++
	return item
}

// Pop takes the item whose turn it is; false when none waits.
func (q *Queue[T]) Pop() (value T, ok bool) {
	turn := q.turns.Front()
	if turn == nil {
		return value, false
	}
	q.turns.MoveToBack(turn)
	item := turn.Value.(*line).items.Front().Value.(*Item[T])
	q.Remove(item)
	return item.value, true
}

// Remove takes an item out, if it waits yet. That costs its class no turn.
func (q *Queue[T]) Remove(item *Item[T]) {
	if item.at == nil {
		return
	}
	l := item.line
	l.items.Remove(item.at)
	item.at = nil
	q.len--
	if l.items.Len() == 0 {
		q.turns.Remove(l.turn)
		delete(q.byName, l.name)
	}
}
