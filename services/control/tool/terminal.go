package tool

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of what escape sequences can make a screen do. Text itself is bounded by what an executor sends.
const (
	maxColumn  = 1000     // that the cursor can be sent to
	maxRow     = 200      // that it can be sent to, from the top of the screen
	maxPadding = 16 << 10 // spaces that are put where the cursor was sent behind the end of a line
)

// plain is what a terminal would show of output in the end: without escape sequences, and of what was drawn over the
// last state. Colours, titles, links and the like leave no trace. Text without control characters stays as it is.
func plain(output string) string {
	if !strings.ContainsFunc(output, isControl) {
		return output
	}
	s := &screen{lines: []row{{}}}
	for rest := output; rest != ""; {
		r, n := utf8.DecodeRuneInString(rest)
		if !isControl(r) && r != '\n' {
			s.put(r)
			rest = rest[n:]
			continue
		}
		rest = s.control(r, rest[n:])
	}
	return s.text()
}

func isControl(r rune) bool {
	return r < ' ' && r != '\n' && r != '\t' && r != 0 || r >= 0x7f && r < 0xa0
}

// screen is what was drawn. The cursor is always within the lines.
type screen struct {
	lines    []row
	row, col int
	top      int // row of the screen's first line, once a program has asked for it
	full     bool
	alone    bool // on the other screen
	saved    [2]int
	padding  int
}

type row struct {
	cells []rune
	drawn bool // over: spaces at its end are what a longer text was cleared with
}

func (s *screen) put(r rune) {
	l := &s.lines[s.row]
	for len(l.cells) < s.col && s.padding < maxPadding {
		l.cells = append(l.cells, ' ')
		s.padding++
	}
	s.col = min(s.col, len(l.cells))
	if s.col < len(l.cells) {
		l.cells[s.col], l.drawn = r, true
	} else {
		l.cells = append(l.cells, r)
	}
	s.col++
}

// control obeys a control character; rest is what follows it, and what follows the sequence that it begins is returned.
func (s *screen) control(r rune, rest string) string {
	switch r {
	case '\n':
		s.moveTo(s.row+1, 0)
	case '\r':
		s.col = 0
	case '\b':
		s.col = max(0, s.col-1)
	case 0x1b:
		return s.escape(rest)
	case 0x9b:
		return s.sequence(rest)
	case 0x90, 0x98, 0x9d, 0x9e, 0x9f:
		return skipString(rest)
	}
	return rest
}

// escape obeys what begins with ESC.
func (s *screen) escape(rest string) string {
	if rest == "" {
		return ""
	}
	switch c := rest[0]; {
	case c == '[':
		return s.sequence(rest[1:])
	case strings.IndexByte("]PX^_", c) >= 0:
		return skipString(rest[1:])
	case c == '7':
		s.saved = [2]int{s.row, s.col}
	case c == '8':
		s.moveTo(s.saved[0], s.saved[1])
	case c == 'M':
		s.moveTo(s.row-1, s.col)
	case c >= ' ' && c <= '/': // such as a choice of character set: more follows
		n := 1
		for n < len(rest) && rest[n] >= ' ' && rest[n] <= '/' {
			n++
		}
		return rest[min(n+1, len(rest)):]
	case c < ' ' || c > '~':
		return rest // no sequence at all
	}
	return rest[1:]
}

// skipString leaves out a title, a link or data for the terminal. One that has no end is as long as its line.
func skipString(rest string) string {
	for i, r := range rest {
		switch {
		case r == '\a', r == 0x9c:
			return rest[i+utf8.RuneLen(r):]
		case strings.HasPrefix(rest[i:], "\x1b\\"):
			return rest[i+2:]
		case r == '\n':
			return rest[i:]
		}
	}
	return ""
}

// sequence obeys a control sequence: parameters, intermediates, one final byte.
func (s *screen) sequence(rest string) string {
	n := 0
	for n < len(rest) && rest[n] >= '0' && rest[n] <= '?' {
		n++
	}
	params := rest[:n]
	plain := n
	for n < len(rest) && rest[n] >= ' ' && rest[n] <= '/' {
		n++
	}
	if n == len(rest) {
		return ""
	}
	final := rest[n]
	if final < '@' || final > '~' {
		return rest[n:] // it was no sequence, and what is not part of one is text
	}
	if plain == n {
		s.obey(final, params)
	}
	return rest[n+1:]
}

func (s *screen) obey(final byte, params string) {
	first, second, _ := strings.Cut(params, ";")
	n, m := count(first, 1), count(second, 1)
	switch final {
	case 'A':
		s.moveTo(s.row-n, s.col)
	case 'B':
		s.moveTo(min(s.row+n, len(s.lines)-1), s.col)
	case 'C':
		s.moveTo(s.row, s.col+n)
	case 'D':
		s.moveTo(s.row, s.col-n)
	case 'E':
		s.moveTo(min(s.row+n, len(s.lines)-1), 0)
	case 'F':
		s.moveTo(s.row-n, 0)
	case 'G':
		s.moveTo(s.row, n-1)
	case 'H', 'f':
		s.home()
		s.moveTo(s.top+min(n, maxRow)-1, m-1)
	case 'd':
		s.home()
		s.moveTo(s.top+min(n, maxRow)-1, s.col)
	case 'J':
		s.eraseScreen(count(first, 0))
	case 'K':
		s.eraseLine(count(first, 0))
	case 's':
		s.saved = [2]int{s.row, s.col}
	case 'u':
		s.moveTo(s.saved[0], s.saved[1])
	case 'h', 'l':
		s.other(params, final == 'h')
	}
}

// count is a parameter of a sequence, or what it is when left out.
func count(param string, absent int) int {
	n, err := strconv.Atoi(param)
	if err != nil || n < 0 || n == 0 && absent == 1 {
		return absent
	}
	return min(n, 1<<20)
}

// moveTo sends the cursor somewhere. Lines down to there are made, columns only when something is put there.
func (s *screen) moveTo(row, col int) {
	s.row = max(row, 0)
	for len(s.lines) <= s.row {
		s.lines = append(s.lines, row0)
	}
	s.col = max(0, min(col, max(len(s.lines[s.row].cells), s.col, maxColumn)))
}

var row0 row

// home begins a screen of its own for a program that draws at given places: below what is there.
func (s *screen) home() {
	if s.full {
		return
	}
	s.full, s.top = true, len(s.lines)
	if last := s.lines[len(s.lines)-1]; len(last.cells) == 0 {
		s.top--
	}
}

func (s *screen) eraseLine(mode int) {
	l := &s.lines[s.row]
	l.drawn = true
	switch {
	case mode == 0:
		l.cells = l.cells[:min(s.col, len(l.cells))]
	case mode == 2:
		l.cells = l.cells[:0]
	default:
		for i := range min(s.col+1, len(l.cells)) {
			l.cells[i] = ' '
		}
	}
}

func (s *screen) eraseScreen(mode int) {
	switch mode {
	case 0:
		s.eraseLine(0)
		s.lines = s.lines[:s.row+1]
	case 2, 3:
		s.home()
		row, col := s.row, s.col
		s.lines = append(s.lines[:s.top], row0)
		s.moveTo(max(s.top, min(row, s.top+maxRow)), col)
	}
}

// other enters or leaves the screen that full-screen programs draw on, of which nothing is left.
func (s *screen) other(params string, enter bool) {
	switch params {
	case "?1049", "?1047", "?47":
	default:
		return
	}
	if enter == s.alone {
		return
	}
	if s.alone = enter; enter {
		s.full = false
		s.home()
	} else {
		s.lines, s.full = append(s.lines[:s.top], row0), false
	}
	s.moveTo(s.top, 0)
}

// text is what is on the screen.
func (s *screen) text() string {
	var b strings.Builder
	for i, l := range s.lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		cells := l.cells
		for l.drawn && len(cells) > 0 && cells[len(cells)-1] == ' ' {
			cells = cells[:len(cells)-1]
		}
		for _, r := range cells {
			b.WriteRune(r)
		}
	}
	return b.String()
}
