package wire

import (
	"bytes"
	"math"
	"unicode/utf8"
)

// listed appends what f appends for each of the elements, with commas between them. One that f appends nothing for is
// left out.
func listed[T any](dst []byte, all []T, f func(dst []byte, one T) []byte) []byte {
	begin := len(dst)
	for _, one := range all {
		before := len(dst)
		if before > begin {
			dst = append(dst, ',')
		}
		at := len(dst)
		if dst = f(dst, one); len(dst) == at {
			dst = dst[:before]
		}
	}
	return dst
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

// field is a member of an object that somebody wants.
type field struct {
	name string
	to   *[]byte
}

// pick reads those members of an object that are wanted; of one that comes several times the last counts. ok is false
// for what is no object.
func pick(object []byte, wanted ...field) (ok bool) {
	return members(object, func(name, v []byte) {
		for _, w := range wanted {
			if string(name) == w.name {
				*w.to = v
			}
		}
	})
}

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
func member(object []byte, name string) (found []byte) {
	pick(object, field{name, &found})
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
