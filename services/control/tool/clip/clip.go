// Package clip cleans and bounds text for models and stores: valid UTF-8, whole characters, whole lines.
package clip

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Sanitize makes text that every store and provider takes: valid UTF-8 without NUL.
func Sanitize(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Display is a path on one line: quoted when it is empty or holds control characters, line breaks among them.
func Display(path string) string {
	path = Shorten(Sanitize(path), MaxPath)
	if path == "" || strings.ContainsFunc(path, unicode.IsControl) {
		return strconv.Quote(path)
	}
	return path
}

// MaxPath bounds the bytes of one path, as PATH_MAX does.
const MaxPath = 4096

// Shorten cuts text to n bytes, at a character, and says so.
func Shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:Floor(s, n)] + "..."
}

// Floor is the last start of a character at or before i.
func Floor(s string, i int) int {
	for i > 0 && i < len(s) && !utf8.RuneStart(s[i]) {
		i--
	}
	return min(i, len(s))
}

// Ceil is the first start of a character at or after i.
func Ceil(s string, i int) int {
	for i < len(s) && !utf8.RuneStart(s[i]) {
		i++
	}
	return i
}

// HeadLines is the end of the first whole lines of text within both bounds, and how many they are. The line break after
// the last of them does not count as one of its bytes.
func HeadLines(text string, maxLines, maxBytes int) (end, lines int) {
	for lines < maxLines && end < len(text) {
		size := len(text) - end
		next := len(text)
		if i := strings.IndexByte(text[end:], '\n'); i >= 0 {
			size, next = i, end+i+1
		}
		if end+size > maxBytes {
			break
		}
		end = next
		lines++
	}
	return end, lines
}

// TailLines is the start of the last whole lines of text within both bounds, and how many they are.
func TailLines(text string, maxLines, maxBytes int) (start, lines int) {
	start = len(text)
	for lines < maxLines && start > 0 {
		line := strings.LastIndexByte(text[:start-1], '\n') + 1
		if len(text)-line > maxBytes {
			break
		}
		start = line
		lines++
	}
	return start, lines
}

// CountLines counts lines; an unfinished last one is a line.
func CountLines(text string) int {
	n := strings.Count(text, "\n")
	if text != "" && !strings.HasSuffix(text, "\n") {
		n++
	}
	return n
}

// Fit joins as many of the lines, from the first on, as both bounds allow.
func Fit(lines []string, maxLines, maxBytes int) (joined string, shown int) {
	var b strings.Builder
	for i, line := range lines {
		if i == maxLines || b.Len()+len(line)+1 > maxBytes {
			return b.String(), i
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(line)
	}
	return b.String(), len(lines)
}

// Head is the beginning of text within both bounds, whole lines if there are any, and how many bytes were cut.
func Head(text string, maxLines, maxBytes int) (head string, cut int) {
	if len(text) <= maxBytes && CountLines(text) <= maxLines {
		return text, 0
	}
	end, lines := HeadLines(text, maxLines, maxBytes)
	if lines == 0 {
		end = Floor(text, maxBytes)
	}
	return text[:end], len(text) - end
}
