package turn

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

// delta adds a piece of text to what waits.
func (r *run) delta(t event.Type, text string) {
	if text == "" {
		return
	}
	if len(r.growing.text) > 0 && (r.growing.event.Type != t || len(r.growing.text) >= flushBytes) {
		r.closeDelta()
	}
	if len(r.growing.text) == 0 {
		r.growing.event = r.event(event.Event{Type: t})
		if len(r.pending) == 0 {
			r.since = r.growing.event.Time
		}
	}
	r.growing.add(text, r.deps.Events.Watched(r.key))
	r.bytes += len(text)
}

// closeDelta ends the growth of the last delta.
func (r *run) closeDelta() {
	if len(r.growing.text) == 0 {
		return
	}
	e := r.growing.event
	e.Text = string(r.growing.text)
	if len(r.growing.pieces) > 1 {
		e.Pieces = append([]int(nil), r.growing.pieces...)
	}
	r.growing.clear()
	r.pending = append(r.pending, e)
}
