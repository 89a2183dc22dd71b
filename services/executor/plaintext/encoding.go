// Package plaintext converts between text files and the text that a model reads and edits.
//
//	file: UTF-8 or UTF-16, with or without a byte order mark, lines with LF or CRLF  ──▶  text: UTF-8, no mark, LF
//	text' = text with old replaced by new  ──▶  file': the same bytes, except where old and new differ
//
// NewReader converts a stream. Parse converts a whole file in memory, and can put an edit of the text back into the
// file. Both give the same text. All functions are pure.
package plaintext

import (
	"bytes"
	"io"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/transform"
)

// Encoding is how a file holds its text.
type Encoding uint8

// Encodings. UTF-16 is known by its byte order mark only.
const (
	UTF8     Encoding = iota // or anything else that has ASCII's line ends: other bytes stay as they are
	UTF8Mark                 // with a byte order mark
	UTF16LE
	UTF16BE
)

var marks = map[Encoding]string{UTF8Mark: "\xef\xbb\xbf", UTF16LE: "\xff\xfe", UTF16BE: "\xfe\xff"}

// Detect tells the encoding by the first bytes of a file, of which a few hundred are enough; false for what is
// not text.
func Detect(head []byte) (Encoding, bool) {
	if bytes.HasPrefix(head, []byte("\xff\xfe\x00\x00")) { // UTF-32
		return UTF8, false
	}
	for e, mark := range marks {
		if bytes.HasPrefix(head, []byte(mark)) {
			return e, e != UTF8Mark || bytes.IndexByte(head, 0) < 0
		}
	}
	return UTF8, bytes.IndexByte(head, 0) < 0
}

func (e Encoding) wide() bool { return e == UTF16LE || e == UTF16BE }

// unit is the code unit at the start of b, which has two bytes.
func (e Encoding) unit(b []byte) rune {
	if e == UTF16LE {
		return rune(b[1])<<8 | rune(b[0])
	}
	return rune(b[0])<<8 | rune(b[1])
}

// decode is the character at the start of b, and how many bytes it takes there. A line end is one character.
// more says that the answer depends on bytes that follow b. Half of a surrogate pair is U+FFFD.
func (e Encoding) decode(b []byte, last bool) (r rune, size int, more bool) {
	if len(b) < 2 {
		return utf8.RuneError, len(b), !last
	}
	r = e.unit(b)
	if r != '\r' && !utf16.IsSurrogate(r) {
		return r, 2, false
	}
	if len(b) < 4 {
		more = !last
	} else if next := e.unit(b[2:]); r == '\r' && next == '\n' {
		return '\n', 4, false
	} else if pair := utf16.DecodeRune(r, next); pair != utf8.RuneError {
		return pair, 4, false
	}
	if r != '\r' {
		r = utf8.RuneError
	}
	return r, 2, more
}

// encode appends text as a file with CRLF or LF holds it.
func (e Encoding) encode(b []byte, text string, crlf bool) []byte {
	put := func(unit rune) {
		if e == UTF16LE {
			b = append(b, byte(unit), byte(unit>>8))
		} else {
			b = append(b, byte(unit>>8), byte(unit))
		}
	}
	if !e.wide() {
		if crlf {
			return append(b, bytes.ReplaceAll([]byte(text), []byte("\n"), []byte("\r\n"))...)
		}
		return append(b, text...)
	}
	for _, r := range text {
		if r == '\n' && crlf {
			put('\r')
		}
		if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
			put(high)
			put(low)
		} else {
			put(r)
		}
	}
	return b
}

// size is how many bytes the text has in a file with LF.
func (e Encoding) size(text string) int {
	if !e.wide() {
		return len(text)
	}
	n := 0
	for _, r := range text {
		n += 2 * utf16.RuneLen(r)
	}
	return n
}

// NewReader is the text of a file that has the encoding.
func NewReader(file io.Reader, e Encoding) io.Reader {
	return transform.NewReader(file, &decoder{encoding: e, mark: []byte(marks[e])})
}

// decoder implements transform.Transformer.
type decoder struct {
	encoding Encoding
	mark     []byte // to be left out
	begun    bool
}

// Reset implements transform.Transformer.
func (d *decoder) Reset() { d.begun = false }

// Transform implements transform.Transformer.
func (d *decoder) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	if !d.begun {
		if len(src) < len(d.mark) && !atEOF {
			return 0, 0, transform.ErrShortSrc
		}
		d.begun = true
		if bytes.HasPrefix(src, d.mark) {
			nSrc = len(d.mark)
		}
	}
	if d.encoding.wide() {
		return d.units(dst, src, nSrc, atEOF)
	}
	for nSrc < len(src) {
		rest := src[nSrc:]
		run := bytes.IndexByte(rest, '\r')
		switch {
		case run < 0:
			run = len(rest)
		case run == 0 && len(rest) == 1 && !atEOF:
			return nDst, nSrc, transform.ErrShortSrc
		case run == 0 && len(rest) > 1 && rest[1] == '\n':
			nSrc++ // the LF alone is the line end
			continue
		case run == 0:
			run = 1
		}
		n := copy(dst[nDst:], rest[:run])
		nDst, nSrc = nDst+n, nSrc+n
		if n < run {
			return nDst, nSrc, transform.ErrShortDst
		}
	}
	return nDst, nSrc, nil
}

func (d *decoder) units(dst, src []byte, from int, atEOF bool) (nDst, nSrc int, err error) {
	for nSrc = from; nSrc < len(src); {
		r, size, more := d.encoding.decode(src[nSrc:], atEOF)
		if more {
			return nDst, nSrc, transform.ErrShortSrc
		}
		if len(dst)-nDst < utf8.RuneLen(r) {
			return nDst, nSrc, transform.ErrShortDst
		}
		nDst += utf8.EncodeRune(dst[nDst:], r)
		nSrc += size
	}
	return nDst, nSrc, nil
}
