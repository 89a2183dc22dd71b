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

// Delta adds a piece of text to what waits. Those of a sub-agent exist only while somebody wants them: its entries hold
// what they came to.
func (t *Strand) Delta(kind event.Type, text string) {
	if text == "" || !t.stored() {
		return
	}
	if len(t.out.growing.text) > 0 && (t.out.growing.event.Type != kind || len(t.out.growing.text) >= flushBytes) {
		t.closeDelta()
	}
	if len(t.out.growing.text) == 0 {
		t.out.growing.event = t.Event(event.Event{Type: kind})
		if len(t.out.pending) == 0 {
			t.out.since = t.out.growing.event.Time
		}
	}
	t.out.growing.add(text, t.Watched())
	t.out.bytes += len(text)
}

// closeDelta ends the growth of the last delta.
func (t *Strand) closeDelta() {
	if len(t.out.growing.text) == 0 {
		return
	}
	e := t.out.growing.event
	e.Text = string(t.out.growing.text)
	if len(t.out.growing.pieces) > 1 {
		e.Pieces = append([]int(nil), t.out.growing.pieces...)
	}
	t.out.growing.clear()
	t.out.pending = append(t.out.pending, e)
}

// DropText forgets deltas that need not be stored, because they are void, or because the coming entry holds them in
// full and nobody watches.
func (t *Strand) DropText() {
	t.out.growing.clear()
	keep := t.out.pending[:0]
	for _, e := range t.out.pending {
		if e.Type != event.Text && e.Type != event.Thinking {
			keep = append(keep, e)
		}
	}
	t.out.pending = keep
	t.out.bytes = 0
}
