package flue

import (
	"bytes"
	"strconv"
	"time"

	"github.com/pawl-dev/pawl/internal/rawjson"
)

// deltaHeads is what the deltas of one kind in one turn have in common: most events of a stream are deltas, and each is
// a few bytes.
type deltaHeads struct {
	kind string
	turn int
	// An event is head, its index, middle, its timestamp, tail and its text.
	head, middle, tail []byte

	at    int64 // Unix milliseconds of stamp
	stamp []byte
}

// emitDelta is emit for an event whose own field is a text, without a value to encode.
func (l *loop) emitDelta(at time.Time, kind, field, text string) {
	t, h := l.t, &l.heads
	if h.kind != kind || h.turn != l.turn {
		h.set(l, kind, field)
	}
	if ms := at.UnixMilli(); ms != h.at {
		h.at, h.stamp = ms, append(h.stamp[:0], stamp(at)...)
	}
	begun := len(t.encoded)
	b := append(t.encoded, h.head...)
	b = strconv.AppendInt(b, int64(t.next), 10)
	b = append(b, h.middle...)
	b = append(b, h.stamp...)
	b = append(b, h.tail...)
	b = rawjson.AppendString(b, text)
	b = append(b, '}')
	t.encoded = b
	t.out = append(t.out, Event{Type: kind, Index: t.next, JSON: b[begun:len(b):len(b)]})
	t.next++
}

// set encodes an event without its text, and cuts it where index and timestamp go.
func (h *deltaHeads) set(l *loop, kind, field string) {
	c := l.common(time.Time{}, kind)
	index := strconv.Itoa(c.Index)
	body, err := rawjson.Encode(&c)
	if err != nil {
		return // strings always encode
	}
	head, rest, _ := bytes.Cut(body, []byte(`"eventIndex":`+index+`,"timestamp":"`))
	_, rest, _ = bytes.Cut(rest, []byte(`"`))
	*h = deltaHeads{
		kind: kind, turn: l.turn, at: h.at, stamp: h.stamp,
		head: append(head[:len(head):len(head)], `"eventIndex":`...), middle: []byte(`,"timestamp":"`),
		tail: append(append([]byte(`"`), rest[:len(rest)-1]...), `,"`+field+`":`...),
	}
}
