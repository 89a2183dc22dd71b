package work

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

const diffContext = 3

// change is whole lines of the old text, from one offset to another, that become text.
type change struct {
	from, to int
	line     int // lines before from
	text     []byte
}

// unified is the unified diff of an edit. What was replaced is known, so nothing needs to be compared: whole lines
// around each spot are replaced, and those that stay the same at either end of a change are context. It looks at no
// more of a large file than it shows, the count of lines aside.
func unified(name string, old, find, replacement []byte) string {
	if bytes.IndexByte(old, 0) >= 0 {
		return "Binary files differ\n"
	}
	d := &differ{old: old, find: find, replacement: replacement}
	d.seek(0)
	fmt.Fprintf(&d.out, "--- a/%s\n+++ b/%s\n", strings.TrimPrefix(name, "/"), strings.TrimPrefix(name, "/"))
	next, more := d.change()
	for more && d.out.Len() < maxDiff {
		near, size := []change(nil), 0
		for more && size <= maxDiff && (len(near) == 0 || count(old[near[len(near)-1].to:next.from]) <= 2*diffContext) {
			near = append(near, next)
			size += next.to - next.from + len(next.text)
			next, more = d.change()
		}
		d.hunk(near)
	}
	return valid(cutText(d.out.String(), maxDiff))
}

type differ struct {
	out               strings.Builder
	old               []byte
	find, replacement []byte
	spot              int // the next one, -1 at the end
	seen, line        int // an offset, and the lines before it
	shift             int // lines that the new text has more so far
}

// seek finds the first spot from at on.
func (d *differ) seek(at int) {
	if d.spot = bytes.Index(d.old[at:], d.find); d.spot >= 0 {
		d.spot += at
	}
}

// change widens the next spot to whole lines and joins those that share one.
func (d *differ) change() (c change, more bool) {
	if d.spot < 0 {
		return change{}, false
	}
	c.from = bytes.LastIndexByte(d.old[:d.spot], '\n') + 1
	d.line += bytes.Count(d.old[d.seen:c.from], []byte("\n"))
	d.seen, c.line = c.from, d.line
	at := c.from // of old, copied so far
	for c.to = c.from; ; {
		c.text = append(append(c.text, d.old[at:d.spot]...), d.replacement...)
		at = d.spot + len(d.find)
		d.seek(at)
		if c.to < at {
			c.to = at
			if d.old[at-1] != '\n' {
				c.to += lineEnd(d.old[at:])
			}
		}
		// Behind the spot the line goes on, unless the spot took its line end: then the next line joins it.
		if c.to == at && len(c.text) > 0 && !bytes.HasSuffix(c.text, []byte("\n")) {
			c.to += lineEnd(d.old[at:])
		}
		if d.spot < 0 || d.spot >= c.to {
			break
		}
	}
	c.text = append(c.text, d.old[at:c.to]...)
	return c.trim(d.old), true
}

// trim leaves out lines that are the same at the ends.
func (c change) trim(old []byte) change {
	for c.from < c.to && len(c.text) > 0 {
		n := lineEnd(old[c.from:c.to])
		if n != lineEnd(c.text) || !bytes.Equal(old[c.from:c.from+n], c.text[:n]) {
			break
		}
		c.from, c.line, c.text = c.from+n, c.line+1, c.text[n:]
	}
	for c.from < c.to && len(c.text) > 0 {
		was, is := lastLine(old[c.from:c.to]), lastLine(c.text)
		if !bytes.Equal(was, is) {
			break
		}
		c.to, c.text = c.to-len(was), c.text[:len(c.text)-len(is)]
	}
	return c
}

// lineEnd is the length of the first line of b, its end included.
func lineEnd(b []byte) int {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return i + 1
	}
	return len(b)
}

func lastLine(b []byte) []byte { return b[bytes.LastIndexByte(b[:len(b)-1], '\n')+1:] }

// hunk writes changes that are near each other.
func (d *differ) hunk(changes []change) {
	first, last := changes[0], changes[len(changes)-1]
	from, line := first.from, first.line
	for i := 0; i < diffContext && from > 0; i++ {
		from -= len(lastLine(d.old[:from]))
		line--
	}
	to := last.to
	for range diffContext {
		to += lineEnd(d.old[to:])
	}
	added, removed := 0, 0
	for _, c := range changes {
		added += count(c.text)
		removed += count(d.old[c.from:c.to])
	}
	was := count(d.old[from:to])
	fmt.Fprintf(&d.out, "@@ -%s +%s @@\n", span(line, was), span(line+d.shift, was+added-removed))
	at := from
	for _, c := range changes {
		d.put(' ', d.old[at:c.from])
		d.put('-', d.old[c.from:c.to])
		d.put('+', c.text)
		at = c.to
	}
	d.put(' ', d.old[at:to])
	d.shift += added - removed
}

// count is how many lines b has.
func count(b []byte) int {
	n := bytes.Count(b, []byte("\n"))
	if len(b) > 0 && b[len(b)-1] != '\n' {
		n++
	}
	return n
}

func span(from, n int) string {
	switch n {
	case 0:
		return fmt.Sprintf("%d,0", from)
	case 1:
		return fmt.Sprint(from + 1)
	}
	return fmt.Sprintf("%d,%d", from+1, n)
}

// put writes lines, until there are more than will be shown.
func (d *differ) put(sign byte, lines []byte) {
	for len(lines) > 0 && d.out.Len() <= maxDiff {
		n := lineEnd(lines)
		d.out.WriteByte(sign)
		d.out.Write(lines[:n])
		if lines[n-1] != '\n' {
			d.out.WriteString("\n\\ No newline at end of file\n")
		}
		lines = lines[n:]
	}
}

// cutText keeps the first n bytes at most, whole runes and with a mark.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for range utf8.UTFMax {
		if !utf8.RuneStart(s[n]) {
			n--
		}
	}
	return s[:n] + "\n[diff cut]\n"
}
