// Package rawjson writes JSON as servers and clients exchange it: compact, and without the escapes that encoding/json
// adds for HTML.
package rawjson

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// Encode is v as JSON, without a line break at its end. Keys of maps are sorted.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

const hex = "0123456789abcdef"

// AppendString appends s as Encode writes it, and allocates nothing but what dst lacks. Bytes that are no UTF-8 become
// U+FFFD.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	begun := 0
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			i++
			if c < ' ' || c == '"' || c == '\\' {
				dst = appendEscaped(append(dst, s[begun:i-1]...), c)
				begun = i
			}
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(append(dst, s[begun:i]...), `\ufffd`...)
			begun = i + size
		case r == '\u2028' || r == '\u2029':
			dst = append(append(dst, s[begun:i]...), `\u202`...)
			dst = append(dst, hex[r&0xf])
			begun = i + size
		}
		i += size
	}
	return append(append(dst, s[begun:]...), '"')
}

func appendEscaped(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, `\b`...)
	case '\f':
		return append(dst, `\f`...)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
}
