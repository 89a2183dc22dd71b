package wire

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

const (
	firstBuffer = 4 << 10  // what most events fit in
	keptBuffer  = 64 << 10 // what is kept for the next stream
	maxEvent    = 16 << 20 // of one event; a whole answer may come as one
	maxGarbage  = maxQuote // of what is no event, kept to be quoted
	maxSkipped  = 1 << 20  // of what is no event, before the stream is given up
)

// Event is one event of a stream. Its bytes are valid until the next one is read.
type Event struct {
	Name []byte // "" when the stream gives none
	Data []byte // empty when bytes came that hold no event: a comment, a heartbeat
}

// Reader reads a stream of events as servers write it, not only as the standard has it:
//
//   - lines end with LF, CR LF or CR; a byte order mark comes first; "data:" with or without a blank after it
//   - comments, "data:" without anything and other fields are signs of life, see Event
//   - a name may come in a block of its own before its data
//   - blank lines between events may be missing, as well as the one after the last if that is whole
//   - JSON that no field announces is an event as well: a whole answer, an error, one object a line
//
// A Reader is used by one goroutine. Release gives its buffers back. Its fields are the state of one parser.
type Reader struct {
	src  io.Reader
	err  error // of src, once its bytes are used up
	buf  []byte
	r, w int
	cr   bool // the last line ended with CR: an LF that follows belongs to it

	began   bool
	name    []byte
	data    []byte
	has     bool // data lines have come for the event
	extent  extent
	scanned int  // bytes of data that extent has seen
	whole   bool // data is a complete object
	raw     bool // data came without a field
	garbage []byte
	skipped int
	used    bool // the event that was returned last has data
}

var buffers = sync.Pool{New: func() any { b := make([]byte, firstBuffer); return &b }}

// NewReader reads from src.
func NewReader(src io.Reader) *Reader {
	b, ok := buffers.Get().(*[]byte)
	if !ok {
		b = new([]byte)
	}
	return &Reader{src: src, buf: *b}
}

// Release gives the buffers back; the Reader is of no use then.
func (r *Reader) Release() {
	if cap(r.buf) <= keptBuffer && len(r.buf) > 0 {
		b := r.buf
		buffers.Put(&b)
	}
	r.buf, r.data = nil, nil
}

// Garbage is the beginning of what came and was no event.
func (r *Reader) Garbage() []byte { return r.garbage }

// Next is the next event. At the end of the stream the error is io.EOF; it is a *ForeignError when an event is too long
// or too much came that is none, and otherwise the error of reading.
func (r *Reader) Next() (Event, error) {
	if r.used {
		r.used, r.data, r.name = false, r.data[:0], r.name[:0]
		r.has, r.whole, r.raw, r.extent, r.scanned = false, false, false, extent{}, 0
	}
	for {
		line, err := r.line()
		if err != nil {
			if r.has && len(r.data) > 0 && !r.cut() {
				return r.dispatch(), nil // the error comes again
			}
			return Event{}, err
		}
		if e, ok := r.take(line); ok {
			return e, r.tooMuch()
		}
		if err := r.tooMuch(); err != nil {
			return Event{}, err
		}
	}
}

func (r *Reader) tooMuch() error {
	switch {
	case len(r.data) > maxEvent:
		return &ForeignError{What: "an event of the stream is longer than 16 MiB", Came: r.data[:maxQuote]}
	case r.skipped > maxSkipped:
		return &ForeignError{What: "the answer is not a stream of events", Came: r.garbage}
	}
	return nil
}

// dispatch is the event that has come so far.
func (r *Reader) dispatch() Event {
	r.used = true
	return Event{Name: r.name, Data: r.data}
}

// take adds a line; ok when it completes an event or is a sign of life.
func (r *Reader) take(line []byte) (e Event, ok bool) {
	if !r.began {
		r.began, line = true, bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	if r.raw {
		return r.document(line)
	}
	if len(line) == 0 {
		if len(r.data) > 0 {
			return r.dispatch(), true
		}
		return Event{}, false // a name without data is kept for the data
	}
	field, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(field) {
	case "data":
		return r.dataLine(value)
	case "event":
		if len(r.data) > 0 { // the blank line before it is missing
			e = r.dispatch()
			r.pushBack(line)
			return e, true
		}
		r.name = append(r.name[:0], value...)
		return Event{}, false
	case "", "id", "retry":
		return Event{}, true
	}
	if c := line[0]; (c == '{' || c == '[') && !r.has {
		return r.document(line)
	}
	r.skipped += len(line)
	if room := maxGarbage - len(r.garbage); room > 0 {
		r.garbage = append(append(r.garbage, line[:min(room, len(line))]...), ' ')
	}
	return Event{}, true
}

// dataLine adds a line of data. One that follows a whole object is the next event, whose blank line is missing.
func (r *Reader) dataLine(value []byte) (Event, bool) {
	if len(bytes.TrimSpace(value)) == 0 {
		return Event{}, true
	}
	if r.has && (value[0] == '{' || value[0] == '[') && r.complete() {
		e := r.dispatch()
		r.pushBack(append([]byte("data:"), value...))
		return e, true
	}
	r.add(value)
	return Event{}, false
}

// document adds a line of JSON that no field announces.
func (r *Reader) document(line []byte) (Event, bool) {
	r.raw = true
	r.add(line)
	if r.complete() {
		return r.dispatch(), true
	}
	return Event{}, false
}

// add adds a line to the event's data.
func (r *Reader) add(line []byte) {
	if r.has {
		r.data = append(r.data, '\n')
	}
	r.has = true
	r.data = append(r.data, line...)
}

// complete reports whether the event's data is a whole object. Few streams have to be asked.
func (r *Reader) complete() bool {
	if !r.whole && (r.data[0] == '{' || r.data[0] == '[') {
		r.whole = r.extent.end(r.data[r.scanned:]) >= 0
		r.scanned = len(r.data)
	}
	return r.whole
}

// cut reports whether the event's data is an object whose end is missing. At the end of the stream such an event is
// dropped, as the standard asks for all that no blank line ends: it says nothing, and the answer may be whole without
// it.
func (r *Reader) cut() bool { return (r.data[0] == '{' || r.data[0] == '[') && !r.complete() }

// pushBack makes line the next one that is read, with the end that it had: an LF that follows a CR is no blank line.
func (r *Reader) pushBack(line []byte) {
	end := byte('\n')
	if r.cr {
		r.cr, end = false, '\r'
	}
	line = append(bytes.Clone(line), end)
	if r.r < len(line) {
		rest := append(line, r.buf[r.r:r.w]...)
		r.buf, r.r, r.w = append(rest, make([]byte, firstBuffer)...), 0, len(rest)
		return
	}
	r.r -= len(line)
	copy(r.buf[r.r:], line)
}

// line is the next line without its end. The last one may lack it.
func (r *Reader) line() ([]byte, error) {
	scanned := 0 // bytes of the line that are known to hold no end
	for {
		if r.cr && r.r < r.w {
			if r.cr = false; r.buf[r.r] == '\n' {
				r.r++
			}
		}
		if n := lineEnd(r.buf[r.r+scanned : r.w]); n >= 0 {
			end := r.r + scanned + n
			line := r.buf[r.r:end]
			r.r, r.cr = end+1, r.buf[end] == '\r'
			return line, nil
		}
		scanned = r.w - r.r
		switch {
		case r.err != nil && scanned > 0 && errors.Is(r.err, io.EOF):
			line := r.buf[r.r:r.w]
			r.r = r.w
			return line, nil
		case r.err != nil:
			return nil, r.err
		case scanned > maxEvent:
			return nil, &ForeignError{
				What: "a line of the stream is longer than 16 MiB", Came: r.buf[r.r : r.r+maxQuote],
			}
		}
		r.fill()
	}
}

// lineEnd is the position of the first LF or CR, -1 for none.
func lineEnd(b []byte) int {
	n := bytes.IndexByte(b, '\n')
	if n >= 0 {
		b = b[:n]
	}
	if cr := bytes.IndexByte(b, '\r'); cr >= 0 {
		return cr
	}
	return n
}

// fill reads more, after moving what is left to the front or making the buffer larger.
func (r *Reader) fill() {
	switch {
	case r.r == r.w:
		r.r, r.w = 0, 0
	case r.w == len(r.buf) && r.r > 0:
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	if r.w == len(r.buf) {
		r.buf = append(r.buf, make([]byte, max(len(r.buf), firstBuffer))...)
		r.buf = r.buf[:cap(r.buf)]
	}
	for range 100 {
		n, err := r.src.Read(r.buf[r.w:])
		r.w, r.err = r.w+n, err
		if n > 0 || err != nil {
			return
		}
	}
	r.err = io.ErrNoProgress
}
