package plaintext

import (
	"slices"
	"strings"

	"golang.org/x/text/transform"
)

// Document is a file and the text in it.
type Document struct {
	Text     string
	file     []byte
	encoding Encoding
	lines    []line
	crlf     bool // some line ends with CRLF
}

// line is where a line begins in the text and in the file, and how it ends.
type line struct {
	text, file int
	crlf       bool
}

// Parse takes a whole file. The text of one that is not text is its bytes.
func Parse(file []byte) *Document {
	d := &Document{Text: string(file), file: file}
	if e, ok := Detect(file); ok {
		if text, _, err := transform.Bytes(e.decoder(), file); err == nil {
			d.Text, d.encoding = string(text), e
		}
	}
	d.findLines()
	return d
}

// findLines goes through text and file side by side.
func (d *Document) findLines() {
	at := line{file: len(marks[d.encoding])}
	for at.text < len(d.Text) {
		n := strings.IndexByte(d.Text[at.text:], '\n')
		if n < 0 {
			break
		}
		end := at.file + d.encoding.size(d.Text[at.text:at.text+n]) // of the line, in the file
		at.crlf = d.carriageReturn(end)
		d.crlf = d.crlf || at.crlf
		d.lines = append(d.lines, at)
		at = line{text: at.text + n + 1, file: end + d.encoding.size("\n")}
		if d.lines[len(d.lines)-1].crlf {
			at.file += d.encoding.size("\r")
		}
	}
	d.lines = append(d.lines, at) // the last line has no end
}

// carriageReturn reports whether the file has one at an offset.
func (d *Document) carriageReturn(at int) bool {
	if !d.encoding.wide() {
		return d.file[at] == '\r'
	}
	return d.encoding.order().Uint16(d.file[at:]) == '\r'
}

// lineAt is the index of the line that holds an offset of the text.
func (d *Document) lineAt(text int) int {
	i, found := slices.BinarySearchFunc(d.lines, text, func(l line, at int) int { return l.text - at })
	if found {
		return i
	}
	return i - 1
}

// fileOffset is where in the file an offset of the text is.
func (d *Document) fileOffset(text int) int {
	if text == len(d.Text) {
		return len(d.file)
	}
	l := d.lines[d.lineAt(text)]
	return l.file + d.encoding.size(d.Text[l.text:text])
}

// crlfAt reports whether a line end that is put in at an offset of the text is to be CRLF: as the line there
// ends, or the one before it if that line has no end.
func (d *Document) crlfAt(text int) bool {
	i := d.lineAt(text)
	if i == len(d.lines)-1 && i > 0 {
		i--
	}
	return d.lines[i].crlf
}
