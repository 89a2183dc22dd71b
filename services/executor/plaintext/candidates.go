package plaintext

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// candidate is a way to take an edit: literal text of the document, and what becomes of it.
type candidate struct {
	old, new string
	note     string
	atEnd    bool // only where the text ends
	lines    bool // only as whole lines
}

// fits reports whether every place in which the text has the old text is one that is meant.
func (c candidate) fits(text string) bool {
	for at := 0; c.lines; {
		i := strings.Index(text[at:], c.old)
		if i < 0 {
			break
		}
		from, to := at+i, at+i+len(c.old)
		begins := from == 0 || text[from-1] == '\n'
		if !begins || to < len(text) && text[to] != '\n' && text[to-1] != '\n' {
			return false
		}
		at = to
	}
	return true
}

// candidates are the ways to take an edit, the most literal first. They cover what models make of text that
// they were shown: lines that end where the file does not, the numbers that other tools put before lines, white
// space that cannot be seen.
func (d *Document) candidates(e Edit) []candidate {
	lf := func(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }
	plain := candidate{old: strings.TrimPrefix(lf(e.Old), "\uFEFF"), new: e.New}
	if d.crlf || strings.Contains(e.Old, "\r\n") {
		plain.new = lf(e.New)
	}
	if plain.old != lf(e.Old) {
		plain.new = strings.TrimPrefix(plain.new, "\uFEFF")
	}
	all := []candidate{{old: e.Old, new: plain.new}, plain}
	if old, ok := strings.CutSuffix(plain.old, "\n"); ok && old != "" && !strings.HasSuffix(d.Text, "\n") {
		all = append(all, candidate{
			old: old, new: strings.TrimSuffix(plain.new, "\n"), atEnd: true,
			note: "The file has no line break at its end.",
		})
	}
	if old, ok := withoutNumbers(plain.old); ok {
		c := candidate{
			old: old, new: plain.new, lines: true,
			note: "The line numbers in oldText are not in the file and were left out.",
		}
		if fresh, ok := withoutNumbers(plain.new); ok {
			c.new = fresh
		}
		all = append(all, c)
	}
	if found := d.alike(plain.old, trimEnd); len(found) == 1 && !e.All {
		all = append(all, candidate{
			old: found[0].text, new: plain.new, note: "oldText was found with other white space at the ends of lines.",
		})
	}
	return slices.DeleteFunc(all, func(c candidate) bool { return c.old == "" || c.old == c.new })
}

var numbered = regexp.MustCompile(`^ *([0-9]+)(\t|→|: |\| ?|:)`)

// withoutNumbers takes the number off each line, if every line has one, all in the same way and counting up.
func withoutNumbers(text string) (string, bool) {
	var out strings.Builder
	separator, last := "", 0
	for l := range strings.Lines(text) {
		m := numbered.FindStringSubmatch(l)
		if m == nil {
			return "", false
		}
		n := 0
		if _, err := fmt.Sscan(m[1], &n); err != nil || last != 0 && (n != last+1 || m[2] != separator) {
			return "", false
		}
		separator, last = m[2], n
		out.WriteString(l[len(m[0]):])
	}
	return out.String(), last != 0
}

// passage is whole lines of the text.
type passage struct {
	line int // number of the first one, from 1
	text string
}

// maxAlike is how many passages are looked for.
const maxAlike = 2

// alike finds the lines of the text that are the same as the lines of old when both are folded.
func (d *Document) alike(old string, fold func(string) string) []passage {
	body, ended := strings.CutSuffix(old, "\n")
	count := strings.Count(body, "\n") + 1
	want := "\n" + foldLines(body, fold) + "\n"
	if strings.TrimSpace(want) == "" {
		return nil
	}
	text := "\n" + foldLines(d.Text, fold) + "\n"
	var found []passage
	for at, first := 0, 0; len(found) < maxAlike; {
		i := strings.Index(text[at:], want)
		if i < 0 {
			return found
		}
		first += strings.Count(text[at:at+i], "\n")
		at += i + 1
		end := len(d.Text)
		if first+count < len(d.lines) {
			end = d.lines[first+count].text
			if !ended {
				end--
			}
		}
		found = append(found, passage{line: first + 1, text: d.Text[d.lines[first].text:end]})
		first++
	}
	return found
}

func foldLines(text string, fold func(string) string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = fold(lines[i])
	}
	return strings.Join(lines, "\n")
}

func trimEnd(line string) string { return strings.TrimRightFunc(line, unicode.IsSpace) }

// typed makes one of what looks alike or is written for one another.
var typed = strings.NewReplacer("‘", "'", "’", "'", "“", `"`, "”", `"`, "–", "-", "—", "-",
	"…", "...", "\u00a0", " ")

// squeeze is a line without its indentation, with single spaces and plain punctuation.
func squeeze(line string) string { return strings.Join(strings.Fields(typed.Replace(line)), " ") }

// NotFound says that a text does not hold what is to be replaced.
type NotFound struct {
	undecodable bool     // what is looked for has U+FFFD
	near        *passage // lines that differ only in white space or punctuation
}

// Bounds of what errors quote.
const (
	maxQuote = 2000
	maxLines = 10
)

func (d *Document) notFound(old string) *NotFound {
	e := &NotFound{undecodable: strings.Contains(old, "\uFFFD")}
	if near := d.alike(old, squeeze); len(near) > 0 && len(near[0].text) <= maxQuote {
		e.near = &near[0]
	}
	return e
}

// Error tells the model what to do.
func (e *NotFound) Error() string {
	switch {
	case e.undecodable:
		return "the old text was not found; its U+FFFD stands for bytes that are not UTF-8 and cannot be given " +
			"as text: use bash"
	case e.near != nil:
		return fmt.Sprintf("the old text was not found; what begins at line %d differs only in white space or "+
			"punctuation. Give it as the file has it:\n%s", e.near.line, e.near.text)
	}
	return "the old text was not found; it must match exactly, white space included: read the file again"
}

// Ambiguous says that a text holds more than once what is to be replaced once.
type Ambiguous struct {
	count int
	lines []int // of the first ones
}

func (d *Document) ambiguous(old string) *Ambiguous {
	e := &Ambiguous{count: strings.Count(d.Text, old)}
	for at := 0; len(e.lines) < maxLines; at += len(old) {
		i := strings.Index(d.Text[at:], old)
		if i < 0 {
			break
		}
		at += i
		e.lines = append(e.lines, d.lineAt(at)+1)
	}
	return e
}

// Error tells the model what to do.
func (e *Ambiguous) Error() string {
	at := strings.Trim(fmt.Sprint(e.lines), "[]")
	if e.count > len(e.lines) {
		at += " …"
	}
	return fmt.Sprintf("the old text was found %d times, in lines %s; give more of the text around it, or replace all",
		e.count, strings.ReplaceAll(at, " ", ", "))
}
