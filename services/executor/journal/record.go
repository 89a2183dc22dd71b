package journal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"
)

// kind tells what a record holds.
type kind uint8

const (
	recIdentity kind = 1 + iota
	recEpoch
	recBegin
	recEnd
	recRevoke
	recAck
	recForgot
	recCall // a whole call, written by compaction
	recIncarnation
	recAge  // of the journal, when nothing else has told it for long
	recLast = recAge
)

const (
	magic      = "PAWLJ\x00\x00\x02" // the last byte is the version of the format
	frameHead  = 8
	maxPayload = 64 << 20
	maxRecord  = 24 << 20 // that append takes: compaction makes one record of a call's two
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errRecord  = errors.New("malformed record")
)

// frame appends length, checksum and payload to b. The checksum covers the length, so that a length is never believed
// alone.
func frame(b, payload []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	sum := crc32.Update(crc32.Checksum(b[len(b)-4:], castagnoli), castagnoli, payload)
	b = binary.LittleEndian.AppendUint32(b, sum)
	return append(b, payload...)
}

// unframe returns the payload at the start of b and the length of its frame; ok is false when there is no whole frame.
func unframe(b []byte) (payload []byte, n int, ok bool) {
	if len(b) < frameHead {
		return nil, 0, false
	}
	size := binary.LittleEndian.Uint32(b)
	if size == 0 || size > maxPayload || int(size) > len(b)-frameHead {
		return nil, 0, false
	}
	payload = b[frameHead : frameHead+int(size)]
	sum := crc32.Update(crc32.Checksum(b[:4], castagnoli), castagnoli, payload)
	if sum != binary.LittleEndian.Uint32(b[4:]) {
		return nil, 0, false
	}
	return payload, frameHead + int(size), true
}

// encoder and decoder write and read the fields of a record in a fixed order. New fields go to the end of a record; a
// reader takes missing ones as zero, so an old journal stays readable.
type encoder struct{ b []byte }

func encode(k kind) *encoder                    { return &encoder{b: append(make([]byte, 0, 192), byte(k))} }
func (e *encoder) str(s string) *encoder        { e.b = appendBytes(e.b, s); return e }
func (e *encoder) bytes(p []byte) *encoder      { e.b = appendBytes(e.b, p); return e }
func (e *encoder) int(v int64) *encoder         { e.b = binary.AppendVarint(e.b, v); return e }
func (e *encoder) age(t time.Duration) *encoder { return e.int(int64(t)) }
func (e *encoder) flag(v bool) *encoder         { return e.int(map[bool]int64{true: 1}[v]) }
func appendBytes[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

type decoder struct {
	b      []byte
	off    int           // of b in the payload
	newest time.Duration // of the ages that were read
	err    error
}

func (d *decoder) int() int64 {
	if len(d.b) == 0 {
		return 0
	}
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.skip(n)
	return v
}

func (d *decoder) bytes() []byte {
	if len(d.b) == 0 {
		return nil
	}
	size, n := binary.Uvarint(d.b)
	if n <= 0 || size > uint64(len(d.b)-n) {
		d.fail()
		return nil
	}
	d.skip(n)
	p := d.b[:size:size]
	d.skip(int(size))
	return p
}

func (d *decoder) str() string { return string(d.bytes()) }
func (d *decoder) flag() bool  { return d.int() != 0 }

func (d *decoder) age() time.Duration {
	t := time.Duration(d.int())
	d.newest = max(d.newest, t)
	return t
}

func (d *decoder) skip(n int) { d.b, d.off = d.b[n:], d.off+n }
func (d *decoder) fail()      { d.b, d.err = nil, errRecord }
