package plaintext

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Edit is literal text to be replaced.
type Edit struct {
	Old, New string
	All      bool // every occurrence, and not exactly one
}

// Edited is what an edit comes to.
type Edited struct {
	File  []byte // the new file
	Count int    // of replacements
	Note  string // for the model: in which way Old was found, if not literally
	// Before is the text in which Old was replaced by New, as they were taken.
	Before, Old, New string
}

// Apply replaces text. It fails with a *NotFound or an *Ambiguous. The literal text is looked for first, then
// what a model may have made of the text that it was shown: see candidates.
func (d *Document) Apply(e Edit) (*Edited, error) {
	if strings.Contains(e.Old, "\r") && !d.encoding.wide() {
		// Who gives carriage returns means the file and not the text, if the file has them in these places.
		if n := bytes.Count(d.file, []byte(e.Old)); n == 1 || n > 0 && e.All {
			file := bytes.ReplaceAll(d.file, []byte(e.Old), []byte(e.New))
			return &Edited{File: file, Count: n, Before: string(d.file), Old: e.Old, New: e.New}, nil
		}
	}
	if d.encoding.wide() && !utf8.ValidString(e.Old) {
		return nil, d.notFound(e.Old) // its bytes could be part of a character's, which has no place in the file
	}
	for _, c := range d.candidates(e) {
		n := strings.Count(d.Text, c.old)
		if c.atEnd && n == 1 && !strings.HasSuffix(d.Text, c.old) || n > 0 && !c.fits(d.Text) {
			continue
		}
		if n == 1 || n > 0 && e.All && !c.atEnd {
			return &Edited{File: d.replace(c), Count: n, Note: c.note, Before: d.Text, Old: c.old, New: c.new}, nil
		}
		if n > 0 { // what is less literal must not choose between these places
			return nil, d.ambiguous(c.old)
		}
	}
	return nil, d.notFound(e.Old)
}

// replace puts the new text in the places of the old one. What begins and ends both of them stays as it is in the file.
func (d *Document) replace(c candidate) []byte {
	head, tail := common(c.old, c.new)
	fresh := c.new[head : len(c.new)-tail]
	out := make([]byte, 0, len(d.file)+d.encoding.size(fresh))
	copied := 0
	for at := strings.Index(d.Text, c.old); at >= 0; {
		from, to := at+head, at+len(c.old)-tail
		start := d.fileOffset(from)
		out = append(out, d.file[copied:start]...)
		out = d.encoding.encode(out, fresh, d.crlfAt(from))
		copied = start
		if to > from {
			copied = d.fileOffset(to)
		}
		next := strings.Index(d.Text[at+len(c.old):], c.old)
		if next < 0 {
			break
		}
		at += len(c.old) + next
	}
	return append(out, d.file[copied:]...)
}

// common is how many bytes at the beginning and at the end are the same, whole characters only.
func common(a, b string) (head, tail int) {
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	for head > 0 && (head < len(a) && !utf8.RuneStart(a[head]) || head < len(b) && !utf8.RuneStart(b[head])) {
		head--
	}
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	for tail > 0 && !utf8.RuneStart(a[len(a)-tail]) {
		tail--
	}
	return head, tail
}
