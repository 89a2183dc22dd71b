package tool

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// sanitize makes text that every store and provider takes: valid UTF-8 without NUL.
func sanitize(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// display is a path on one line: quoted when it is empty or holds control characters, line breaks among them.
func display(path string) string {
	path = shorten(sanitize(path), maxPath)
	if path == "" || strings.ContainsFunc(path, unicode.IsControl) {
		return strconv.Quote(path)
	}
	return path
}

// maxPath bounds the bytes of one path, as PATH_MAX does.
const maxPath = 4096

// shorten cuts text to n bytes, at a character, and says so.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:floor(s, n)] + "..."
}

// floor is the last start of a character at or before i.
func floor(s string, i int) int {
	for i > 0 && i < len(s) && !utf8.RuneStart(s[i]) {
		i--
	}
	return min(i, len(s))
}

// ceil is the first start of a character at or after i.
func ceil(s string, i int) int {
	for i < len(s) && !utf8.RuneStart(s[i]) {
		i++
	}
	return i
}

// headLines is the end of the first whole lines of text within both bounds, and how many they are. The line break after
// the last of them does not count as one of its bytes.
func headLines(text string, maxLines, maxBytes int) (end, lines int) {
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

// tailLines is the start of the last whole lines of text within both bounds, and how many they are.
func tailLines(text string, maxLines, maxBytes int) (start, lines int) {
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

// countLines counts lines; an unfinished last one is a line.
func countLines(text string) int {
	n := strings.Count(text, "\n")
	if text != "" && !strings.HasSuffix(text, "\n") {
		n++
	}
	return n
}

// fit joins as many of the lines as the bounds of a Result allow.
func fit(lines []string) (text string, shown int) {
	var b strings.Builder
	for i, line := range lines {
		if i == MaxLines || b.Len()+len(line)+1 > MaxText {
			return b.String(), i
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(line)
	}
	return b.String(), len(lines)
}
