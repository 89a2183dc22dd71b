package loop

import "github.com/pawl-dev/pawl/services/control/event"

// maxPieces bounds the pieces of one event.
const maxPieces = 4096

// growingDelta is an event of text that grows until it is committed, or something else comes.
type growingDelta struct {
	event  event.Event // but for its text and pieces
	text   []byte
	pieces []int
}

// clear forgets what there is; buffers are used again.
func (d *growingDelta) clear() { d.text, d.pieces = d.text[:0], d.pieces[:0] }

// add appends a piece. One that nobody watches is merged with the piece before it.
func (d *growingDelta) add(text string, watched bool) {
	d.text = append(d.text, text...)
	if n := len(d.pieces); n > 0 && (!watched || n == maxPieces) {
		d.pieces[n-1] += len(text)
		return
	}
	d.pieces = append(d.pieces, len(text))
}

// delta adds a piece of text to what waits. Those of a sub-agent exist only while somebody wants them: its entries hold
// what they came to.
func (l *loop) delta(t event.Type, text string) {
	if text == "" || !l.root() && !l.watched() {
		return
	}
	if len(l.out.growing.text) > 0 && (l.out.growing.event.Type != t || len(l.out.growing.text) >= flushBytes) {
		l.closeDelta()
	}
	if len(l.out.growing.text) == 0 {
		l.out.growing.event = l.event(event.Event{Type: t})
		if len(l.out.pending) == 0 {
			l.out.since = l.out.growing.event.Time
		}
	}
	l.out.growing.add(text, l.watched())
	l.out.bytes += len(text)
}

// closeDelta ends the growth of the last delta.
func (l *loop) closeDelta() {
	if len(l.out.growing.text) == 0 {
		return
	}
	e := l.out.growing.event
	e.Text = string(l.out.growing.text)
	if len(l.out.growing.pieces) > 1 {
		e.Pieces = append([]int(nil), l.out.growing.pieces...)
	}
	l.out.growing.clear()
	l.out.pending = append(l.out.pending, e)
}
