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
	"encoding/binary"
	"io"
	"strings"
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

// order is that of the two bytes of a code unit.
func (e Encoding) order() interface {
	binary.ByteOrder
	binary.AppendByteOrder
} {
	if e == UTF16LE {
		return binary.LittleEndian
	}
	return binary.BigEndian
}

// encode appends text as a file with CRLF or LF holds it.
func (e Encoding) encode(b []byte, text string, crlf bool) []byte {
	if crlf {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	if !e.wide() {
		return append(b, text...)
	}
	for _, unit := range utf16.Encode([]rune(text)) {
		b = e.order().AppendUint16(b, unit)
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
func NewReader(file io.Reader, e Encoding) io.Reader { return transform.NewReader(file, e.decoder()) }

// decoder makes text of a file.
func (e Encoding) decoder() transform.Transformer {
	ends := &lineEnds{}
	if e != UTF8 {
		ends.mark = marks[UTF8Mark]
	}
	if e.wide() {
		return transform.Chain(units{encoding: e}, ends)
	}
	return ends
}

// units makes UTF-8 of UTF-16. Half of a surrogate pair is U+FFFD, and so is half a unit at the end: every character
// takes as many bytes in the file as size says, which the decoder of x/text does not keep to.
type units struct {
	transform.NopResetter
	encoding Encoding
}

// Transform implements transform.Transformer.
func (u units) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	for nSrc < len(src) {
		rest := src[nSrc:]
		if len(rest) < 4 && !atEOF { // it may be the first half of a pair
			return nDst, nSrc, transform.ErrShortSrc
		}
		r, size := utf8.RuneError, min(2, len(rest))
		if size == 2 {
			r = rune(u.encoding.order().Uint16(rest))
		}
		if utf16.IsSurrogate(r) {
			low := rune(0)
			if len(rest) >= 4 {
				low = rune(u.encoding.order().Uint16(rest[2:]))
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				size = 4
			}
		}
		if len(dst)-nDst < utf8.RuneLen(r) {
			return nDst, nSrc, transform.ErrShortDst
		}
		nDst += utf8.EncodeRune(dst[nDst:], r)
		nSrc += size
	}
	return nDst, nSrc, nil
}

// lineEnds makes LF of CRLF, and leaves out a byte order mark.
type lineEnds struct {
	mark  string
	begun bool
}

// Reset implements transform.Transformer.
func (l *lineEnds) Reset() { l.begun = false }

// Transform implements transform.Transformer.
func (l *lineEnds) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	if !l.begun {
		if len(src) < len(l.mark) && !atEOF {
			return 0, 0, transform.ErrShortSrc
		}
		l.begun = true
		if bytes.HasPrefix(src, []byte(l.mark)) {
			nSrc = len(l.mark)
		}
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
