package wire

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// joiner decodes a text that comes as several JSON strings. A provider may split it anywhere: between the bytes of a
// character, or between the two escapes of one.
type joiner struct {
	held []byte // the beginning of a character, as UTF-8
	high rune   // the first of two surrogates, 0 for none
}

// append decodes one JSON string and appends the characters that are complete.
func (j *joiner) append(dst, quoted []byte) []byte {
	if !isString(quoted) {
		return dst
	}
	s, start := quoted[1:len(quoted)-1], len(dst)
	dst, j.held = append(dst, j.held...), j.held[:0]
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			dst = j.lone(dst)
			end := bytes.IndexByte(s[i:], '\\')
			if end < 0 {
				end = len(s) - i
			}
			dst = append(dst, s[i:i+end]...)
			i += end
			continue
		}
		if i+1 >= len(s) {
			break
		}
		if s[i+1] != 'u' {
			dst = append(j.lone(dst), unescape(s[i+1]))
			i += 2
			continue
		}
		dst = j.escaped(dst, hex4(s[i+2:]))
		i += 6
	}
	return j.hold(dst, start)
}

// escaped appends a character that was written as \uXXXX, or keeps the first half of one.
func (j *joiner) escaped(dst []byte, r rune) []byte {
	if j.high != 0 {
		if whole := utf16.DecodeRune(j.high, r); whole != utf8.RuneError {
			j.high = 0
			return utf8.AppendRune(dst, whole)
		}
		dst = j.lone(dst)
	}
	if 0xd800 <= r && r < 0xdc00 {
		j.high = r
		return dst
	}
	return utf8.AppendRune(dst, r) // a second half alone becomes U+FFFD
}

// lone gives up a first half that is followed by something else.
func (j *joiner) lone(dst []byte) []byte {
	if j.high == 0 {
		return dst
	}
	j.high = 0
	return append(dst, "\ufffd"...)
}

// hold keeps the beginning of a character at the end of dst, and replaces what is no UTF-8 from start on.
func (j *joiner) hold(dst []byte, start int) []byte {
	for n := 1; n < utf8.UTFMax && n <= len(dst)-start; n++ {
		tail := dst[len(dst)-n:]
		if !utf8.RuneStart(tail[0]) {
			continue
		}
		if !utf8.FullRune(tail) {
			j.held = append(j.held, tail...)
			dst = dst[:len(dst)-n]
		}
		break
	}
	if utf8.Valid(dst[start:]) {
		return dst
	}
	return append(dst[:start], bytes.ToValidUTF8(bytes.Clone(dst[start:]), []byte("\ufffd"))...)
}

// flush ends the text: what never became a character becomes U+FFFD.
func (j *joiner) flush(dst []byte) []byte {
	dst = j.lone(dst)
	if len(j.held) > 0 {
		dst, j.held = append(dst, "\ufffd"...), nil
	}
	return dst
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 't':
		return '\t'
	case 'r':
		return '\r'
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	}
	return c
}

// hex4 is the number that four hexadecimal digits write; U+FFFD when they do not.
func hex4(s []byte) rune {
	if len(s) < 4 {
		return utf8.RuneError
	}
	var r rune
	for _, c := range s[:4] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return utf8.RuneError
		}
	}
	return r
}
