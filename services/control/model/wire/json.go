package wire

import (
	"bytes"
	"math"
	"unicode/utf16"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. Bytes that are no UTF-8 become U+FFFD.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[start:i]...), "\ufffd"...)
				start = i + size
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

// extent follows the nesting of a JSON value that comes in pieces.
type extent struct {
	depth        int
	text, escape bool // within a string, and after a backslash in it
}

// end is the position after the end of an object or array that began at the start of b or in a piece before; -1 when it
// has not ended.
func (x *extent) end(b []byte) int {
	for i := 0; i < len(b); i++ {
		if x.text {
			if i = x.leave(b, i); i < 0 {
				return -1
			}
			continue
		}
		switch b[i] {
		case '"':
			x.text = true
		case '{', '[':
			x.depth++
		case '}', ']':
			if x.depth--; x.depth <= 0 {
				return i + 1
			}
		}
	}
	return -1
}

// leave is the position of the quote that ends the string within which i is; -1 when it does not end.
func (x *extent) leave(b []byte, i int) int {
	for i < len(b) {
		if x.escape {
			x.escape = false
			i++
			continue
		}
		n := bytes.IndexByte(b[i:], '"')
		plain := b[i:]
		if n >= 0 {
			plain = b[i : i+n]
		}
		if slash := bytes.IndexByte(plain, '\\'); slash >= 0 {
			x.escape = true
			i += slash + 1
			continue
		}
		if n < 0 {
			return -1
		}
		x.text = false
		return i + n
	}
	return -1
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

func skipSpace(b []byte, i int) int {
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	return i
}

// skipValue is the end of the JSON value that begins at i. Of what is no JSON it is some position behind i.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return i
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		var x extent
		if end := x.end(b[i:]); end >= 0 {
			return i + end
		}
		return len(b)
	}
	for i++; i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && !isSpace(b[i]); i++ {
	}
	return i
}

// skipString is the end of the string that begins at i.
func skipString(b []byte, i int) int {
	x := extent{text: true}
	if end := x.leave(b, i+1); end >= 0 {
		return end + 1
	}
	return len(b)
}

// members calls f for every member of an object, in order, with the name as it is written. ok is false for what is no
// object; what stands before the fault has been passed on then.
func members(object []byte, f func(name, value []byte)) (ok bool) { return walk(object, '{', f) }

// elements calls f for every element of an array. Of what is no array, none.
func elements(array []byte, f func(value []byte)) {
	walk(array, '[', func(_, value []byte) { f(value) })
}

// each calls f for every element of a list, and for an object that stands where a list belongs, as some servers write a
// list of one. ok is false for what is neither null, nor an object, nor a list.
func each(v []byte, f func(value []byte)) (ok bool) {
	switch {
	case isNull(v):
		return true
	case isObject(v):
		f(v)
		return true
	}
	return walk(v, '[', func(_, value []byte) { f(value) })
}

func walk(b []byte, opens byte, f func(name, value []byte)) (ok bool) {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != opens {
		return false
	}
	for i++; i < len(b); i++ {
		if i = skipSpace(b, i); i >= len(b) || b[i] == '}' || b[i] == ']' {
			return i < len(b)
		}
		var name []byte
		if opens == '{' {
			end := skipString(b, i)
			if b[i] != '"' || end-i < 2 {
				return false
			}
			name = b[i+1 : end-1]
			if i = skipSpace(b, end); i >= len(b) || b[i] != ':' {
				return false
			}
			i = skipSpace(b, i+1)
		}
		end := skipValue(b, i)
		if end <= i {
			return false
		}
		f(name, b[i:end])
		if i = skipSpace(b, end); i >= len(b) || b[i] != ',' {
			return i < len(b) && (b[i] == '}' || b[i] == ']')
		}
	}
	return false
}

// member is the value of an object's member, nil when there is none.
func member(object []byte, name string) []byte {
	var found []byte
	members(object, func(n, v []byte) {
		if string(n) == name {
			found = v
		}
	})
	return found
}

func isNull(v []byte) bool   { return len(v) == 0 || string(v) == "null" }
func isString(v []byte) bool { return len(v) >= 2 && v[0] == '"' }
func isObject(v []byte) bool { return len(v) >= 2 && v[0] == '{' }

// word is a JSON string without its quotes, as it is written; nil of anything else. It is for comparisons with words
// that nobody escapes.
func word(v []byte) []byte {
	if !isString(v) {
		return nil
	}
	return v[1 : len(v)-1]
}

// str is the text of a JSON string, "" of anything else.
func str(v []byte) string {
	if !isString(v) {
		return ""
	}
	if plain := v[1 : len(v)-1]; bytes.IndexByte(plain, '\\') < 0 && utf8.Valid(plain) {
		return string(plain)
	}
	var j joiner
	return string(j.flush(j.append(nil, v)))
}

// count is the value of a JSON number that counts something, which some servers write as a string: never negative, 0 of
// anything else.
func count(v []byte) int64 {
	if isString(v) {
		v = word(v)
	}
	var n int64
	for _, c := range v {
		if c < '0' || c > '9' {
			break // what follows a point is nothing that can be counted
		}
		if n = n*10 + int64(c-'0'); n > 1<<50 {
			return 0
		}
	}
	return n
}

// position is a number that counts from 0; -1 for none.
func position(v []byte) int {
	if isNull(v) || v[0] == '-' {
		return -1
	}
	return int(min(count(v), math.MaxInt32))
}

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
