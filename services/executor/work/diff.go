package work

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

const diffContext = 3

// change is lines [from, to) of the old text that become text.
type change struct {
	from, to int
	text     []byte
}

// unified is the unified diff of an edit. The spots are known, so nothing needs to be compared: whole lines around each spot
// are replaced, and those that stay the same at either end of a change are context.
func unified(name string, old, replacement []byte, oldLen int, spots []int) string {
	if bytes.IndexByte(old, 0) >= 0 {
		return "Binary files differ\n"
	}
	lines := splitLines(old)
	starts := make([]int, len(lines)+1)
	for i, l := range lines {
		starts[i+1] = starts[i] + len(l)
	}
	changes := changesOf(old, replacement, oldLen, spots, starts)
	d := &differ{lines: lines}
	fmt.Fprintf(&d.out, "--- a/%s\n+++ b/%s\n", strings.TrimPrefix(name, "/"), strings.TrimPrefix(name, "/"))
	for i := 0; i < len(changes) && d.out.Len() < maxDiff; {
		n := i + 1
		for n < len(changes) && changes[n].from-changes[n-1].to <= 2*diffContext {
			n++
		}
		d.hunk(changes[i:n])
		i = n
	}
	return cutText(valid(d.out.String()), maxDiff)
}

func splitLines(b []byte) [][]byte {
	lines := bytes.SplitAfter(b, []byte("\n"))
	if n := len(lines); len(lines[n-1]) == 0 {
		lines = lines[:n-1]
	}
	return lines
}

// changesOf widens every spot to whole lines and joins those that share one.
func changesOf(old, replacement []byte, oldLen int, spots, starts []int) []change {
	var all []change
	line := 0
	for i := 0; i < len(spots); {
		for starts[line+1] <= spots[i] {
			line++
		}
		c := change{from: line}
		at := starts[line] // of old, copied so far
		for {
			c.text = append(append(c.text, old[at:spots[i]]...), replacement...)
			at = spots[i] + oldLen
			for line < len(starts)-2 && starts[line+1] < at {
				line++
			}
			i++
			// Behind the spot the line goes on, unless the spot took its line end: then the next line joins it.
			end := line + 1
			if starts[end] == at && !bytes.HasSuffix(c.text, []byte("\n")) && end < len(starts)-1 && len(c.text) > 0 {
				end++
			}
			if i < len(spots) && spots[i] < starts[end] {
				continue
			}
			c.text = append(c.text, old[at:starts[end]]...)
			c.to = end
			line = min(end, len(starts)-2)
			break
		}
		all = append(all, c.trim(old, starts))
	}
	return all
}

// trim leaves out lines that are the same at the ends.
func (c change) trim(old []byte, starts []int) change {
	now := splitLines(c.text)
	if len(c.text) == 0 {
		now = nil
	}
	line := func(i int) []byte { return old[starts[i]:starts[i+1]] }
	for c.from < c.to && len(now) > 0 && bytes.Equal(line(c.from), now[0]) {
		c.from++
		now = now[1:]
	}
	for c.from < c.to && len(now) > 0 && bytes.Equal(line(c.to-1), now[len(now)-1]) {
		c.to--
		now = now[:len(now)-1]
	}
	c.text = bytes.Join(now, nil)
	return c
}

type differ struct {
	out   strings.Builder
	lines [][]byte
	shift int // lines that the new text has more so far
}

// hunk writes changes that are near each other.
func (d *differ) hunk(changes []change) {
	from := max(0, changes[0].from-diffContext)
	to := min(len(d.lines), changes[len(changes)-1].to+diffContext)
	added, removed := 0, 0
	for _, c := range changes {
		added += count(c.text)
		removed += c.to - c.from
	}
	was, is := to-from, to-from+added-removed
	fmt.Fprintf(&d.out, "@@ -%s +%s @@\n", span(from, was), span(from+d.shift, is))
	at := from
	for _, c := range changes {
		d.put(' ', d.lines[at:c.from])
		d.put('-', d.lines[c.from:c.to])
		if len(c.text) > 0 {
			d.put('+', splitLines(c.text))
		}
		at = c.to
	}
	d.put(' ', d.lines[at:to])
	d.shift += added - removed
}

func count(text []byte) int {
	if len(text) == 0 {
		return 0
	}
	return len(splitLines(text))
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

func (d *differ) put(sign byte, lines [][]byte) {
	for _, l := range lines {
		d.out.WriteByte(sign)
		d.out.Write(l)
		if !bytes.HasSuffix(l, []byte("\n")) {
			d.out.WriteString("\n\\ No newline at end of file\n")
		}
	}
}

// cutText keeps the first n bytes at most, whole runes and with a mark.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "\n[diff cut]\n"
}
