package document

import (
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Lines are the lines of a source without their ends.
func Lines(src string) []string {
	lines := strings.Split(strings.TrimPrefix(src, "\ufeff"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSuffix(line, "\r")
	}
	return lines
}

// Places finds in a source where each byte of a scalar's value stands: it has one place more than the value has bytes,
// that of the end. Escapes, indentation and folded lines are taken into account.
func Places(lines []string, n *yaml.Node) []Position {
	w := &walker{lines: lines, value: n.Value, places: make([]Position, 0, len(n.Value)+1), line: n.Line - 1}
	w.at = w.offset(n.Column)
	w.properties()
	switch n.Style &^ yaml.TaggedStyle {
	case yaml.LiteralStyle:
		w.literal()
	case yaml.FoldedStyle:
		w.folded()
	case yaml.DoubleQuotedStyle:
		w.at++
		w.flow('"')
	case yaml.SingleQuotedStyle:
		w.at++
		w.flow('\'')
	default:
		w.flow(0)
	}
	for len(w.places) <= len(n.Value) { // of the end, and of what was not found
		w.note()
	}
	return w.places
}

// walker goes through a source and the value that was read from it side by side.
type walker struct {
	lines    []string
	value    string
	places   []Position                     // of value so far
	line, at int                            // where the source is: index of the line, and of the byte in it
	counted  struct{ line, at, column int } // what note has counted last, so that it counts no byte of a line twice
}

func (w *walker) text() string {
	if w.line < len(w.lines) {
		return w.lines[w.line]
	}
	return ""
}

// offset is the index of the byte at a column.
func (w *walker) offset(column int) int {
	s := w.text()
	at := 0
	for ; column > 1 && at < len(s); column-- {
		_, size := utf8.DecodeRuneInString(s[at:])
		at += size
	}
	return at
}

// properties passes over an anchor and a tag, which stand before the scalar and count as a part of it. No scalar begins
// as they do.
func (w *walker) properties() {
	for w.line < len(w.lines) {
		rest := w.text()[min(w.at, len(w.text())):]
		if rest == "" || rest[0] != '&' && rest[0] != '!' {
			return
		}
		end := strings.IndexAny(rest, " \t")
		if end < 0 {
			end = len(rest)
		}
		w.at += end
		for w.line < len(w.lines) && strings.TrimLeft(w.text()[w.at:], " \t") == "" { // it goes on in the next line
			w.line++
			w.at = 0
		}
		w.at = len(w.text()) - len(strings.TrimLeft(w.text()[w.at:], " \t"))
	}
}

// left is what of the value has no place yet.
func (w *walker) left() string { return w.value[min(len(w.places), len(w.value)):] }

// note says that the next byte of the value stands where the source is.
func (w *walker) note() {
	s, c := w.text(), &w.counted
	at := min(w.at, len(s))
	for at > 0 && at < len(s) && !utf8.RuneStart(s[at]) {
		at--
	}
	if c.line != w.line || c.at > at {
		c.line, c.at, c.column = w.line, 0, 0
	}
	c.column += utf8.RuneCountInString(s[c.at:at])
	c.at = at
	w.places = append(w.places, Position{w.line + 1, c.column + 1})
}

// literal is a block of which each line of the value is one of the source.
func (w *walker) literal() {
	for line := range strings.Lines(w.value) {
		w.line++
		body := strings.TrimSuffix(line, "\n")
		w.at = max(0, len(w.text())-len(body))
		w.copy(len(body))
		if body != line {
			w.note()
		}
	}
}

// copy notes n bytes that stand in the source as they are.
func (w *walker) copy(n int) {
	for range n {
		w.note()
		w.at++
	}
}

// folded is a block whose single line breaks were made blanks.
func (w *walker) folded() {
	indent := -1
	for w.left() != "" && w.line+1 < len(w.lines) {
		w.line++
		s := w.text()
		blank := strings.TrimLeft(s, " ") == ""
		if indent < 0 && !blank {
			indent = w.indent()
		}
		w.at = min(max(indent, 0), len(s))
		if !blank {
			w.skipTo(s[w.at:])
			w.copy(min(len(s)-w.at, len(w.left())))
		}
		if rest := w.left(); rest != "" && (rest[0] == '\n' || rest[0] == ' ' && !blank) {
			w.note()
		}
	}
}

// indent is how far the line is indented, so that what follows is what the value begins with. A block may say that
// some of the blanks belong to the value.
func (w *walker) indent() int {
	s := w.text()
	most := len(s) - len(strings.TrimLeft(s, " "))
	value := strings.TrimLeft(w.value, "\n")
	for i := 0; i < most; i++ {
		if strings.HasPrefix(value, s[i:]) {
			return i
		}
	}
	return most
}

// skipTo passes over white space of the value that the source before has not accounted for.
func (w *walker) skipTo(s string) {
	for rest := w.left(); rest != "" && !strings.HasPrefix(rest, s) && (rest[0] == '\n' || rest[0] == ' '); {
		w.note()
		rest = w.left()
	}
}

// flow is a plain or a quoted scalar, which may go on over lines.
func (w *walker) flow(quote byte) {
	for w.left() != "" && w.line < len(w.lines) {
		s := w.text()
		if strings.TrimLeft(s[min(w.at, len(s)):], " \t") == "" {
			w.fold()
			continue
		}
		rest := s[w.at:]
		switch {
		case quote == '"' && rest == `\`: // the line break counts for nothing
			w.line++
			w.at = len(w.text()) - len(strings.TrimLeft(w.text(), " \t"))
		case quote == '"' && rest[0] == '\\':
			w.escape(rest)
		case quote == '\'' && strings.HasPrefix(rest, "''"):
			w.note()
			w.at += 2
		default:
			w.copy(1)
		}
	}
}

// escape is one character of the value, which may have several bytes.
func (w *walker) escape(rest string) {
	_, size := utf8.DecodeRuneInString(w.left())
	for range size {
		w.note()
	}
	w.at += min(len(rest), map[byte]int{'x': 4, 'u': 6, 'U': 10}[rest[1]])
	if !strings.ContainsRune("xuU", rune(rest[1])) {
		w.at += 2
	}
}

// fold goes to the next line with text: one line break is a blank of the value, more are line breaks.
func (w *walker) fold() {
	first := true
	for {
		if rest := w.left(); rest != "" && (rest[0] == '\n' || first && rest[0] == ' ') {
			w.note()
		}
		first = false
		w.line++
		s := w.text()
		w.at = len(s) - len(strings.TrimLeft(s, " \t"))
		if w.at < len(s) || w.line >= len(w.lines) {
			return
		}
	}
}
