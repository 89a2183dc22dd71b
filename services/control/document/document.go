// Package document reads what people write for control: YAML of which every key is known, in files of bounded size. It
// is for packages that turn such a file into their own types, and want every problem of it told at once, with file,
// line, column and key. What is no YAML at all has no column: the library does not tell it.
//
//	Load ──▶ New ──▶ Root ──▶ Mapping, Text, Word, … ──▶ Err
//
// Invariants: a problem is one line and never holds a value that may be secret; anchors, aliases and tags are refused
// before any value is read; a bad value costs a problem, and reading goes on.
package document

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/internal/errs"
)

// MaxFile bounds the size of a file.
const MaxFile = 1 << 20

// Load reads a file, and one byte more than allowed of one that is too large. An error names the file and is one line.
func Load(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err == nil && !info.Mode().IsRegular() { // a pipe would block
		return nil, fmt.Errorf("%s: is not a regular file", file)
	}
	if err != nil {
		return nil, unreadable(file, err)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, unreadable(file, err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	src, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, unreadable(file, err)
	}
	return src, nil
}

func unreadable(file string, err error) error {
	return fmt.Errorf("%s: cannot be read: %w", file, Cause(err))
}

// Cause is the error of the system, without the path that the message names already.
func Cause(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}

// Document collects the problems of one file.
type Document struct {
	file     string
	problems []problem
}

type problem struct {
	at   Position
	key  string
	text string
}

// Position is a place in a file, from 1. The zero Position is the whole file. Column 0 is a whole line.
type Position struct{ Line, Column int }

// Positions that are no node's.
var (
	Whole = Position{}
	Top   = Position{1, 1}
)

// At is where a node begins.
func At(n *yaml.Node) Position { return Position{n.Line, n.Column} }

// In is the position in a file, as errors name it.
func (p Position) In(file string) string {
	if p.Line > 0 {
		file += ":" + strconv.Itoa(p.Line)
	}
	if p.Column > 0 {
		file += ":" + strconv.Itoa(p.Column)
	}
	return file
}

func (p Position) compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Line, q.Line), cmp.Compare(p.Column, q.Column))
}

// New is a document without problems. file is for errors only.
func New(file string) *Document { return &Document{file: file} }

// Report adds a problem.
func (d *Document) Report(at Position, key, format string, args ...any) {
	d.problems = append(d.problems, problem{at, key, fmt.Sprintf(format, args...)})
}

// Err is the problems in the order of the file, each an error like sentinel; nil when there are none.
func (d *Document) Err(sentinel *errs.Error) error {
	slices.SortStableFunc(d.problems, func(a, b problem) int { return a.at.compare(b.at) })
	list := make([]error, len(d.problems))
	for i, p := range d.problems {
		where := p.at.In(d.file)
		if p.key != "" {
			where += ": " + p.key
		}
		list[i] = sentinel.With("%s: %s", where, p.text)
	}
	return errors.Join(list...)
}

// Check refuses what is no text of a reasonable size.
func (d *Document) Check(src []byte) bool {
	switch {
	case len(src) > MaxFile:
		d.Report(Whole, "", "is larger than 1 MiB")
	case !utf8.Valid(src):
		d.Report(Whole, "", "is not UTF-8")
	case bytes.IndexByte(src, 0) >= 0:
		d.Report(Whole, "", "contains a NUL character")
	default:
		return true
	}
	return false
}

// Root parses YAML to its one root node, nil when src is empty. When ok is false the problem is reported. what names
// src in it. Anchors, aliases and tags are refused.
func (d *Document) Root(what, src string) (root *yaml.Node, ok bool) {
	if root, ok = d.parse(what, src); root != nil && !d.plain(root) {
		return nil, false
	}
	return root, ok
}

// parse is Root, and refuses nothing that is YAML.
func (d *Document) parse(what, src string) (root *yaml.Node, ok bool) {
	dec := yaml.NewDecoder(strings.NewReader(src))
	var doc, more yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, true
	}
	if err == nil {
		if err = dec.Decode(&more); err == nil {
			d.Report(At(&more), "", "%s must be a single YAML document", what)
			return nil, false
		}
	}
	if !errors.Is(err, io.EOF) {
		line, text := yamlError(err)
		d.Report(Position{Line: line}, "", "%s", text)
		return nil, false
	}
	if len(doc.Content) == 0 {
		return nil, true
	}
	return doc.Content[0], true
}

// plain refuses what a file has no use for and an attacker has.
func (d *Document) plain(n *yaml.Node) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.Report(At(n), "", "anchors and aliases are not allowed")
		return false
	case n.Style&yaml.TaggedStyle != 0:
		d.Report(At(n), "", "tags are not allowed")
		return false
	}
	ok := true
	for _, child := range n.Content {
		ok = d.plain(child) && ok
	}
	return ok
}

var (
	yamlLine = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(?:line (\d+): )?((?s).*)$`) })
	// yamlParser are the errors of the library's parser, whose line numbers, unlike its scanner's, begin at 0.
	yamlParser = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^did not find expected (<|node content|'-' indicator|key|',')|^found (undefined tag|duplicate %|incompatible)`)
	})
)

// yamlError takes the line number out of the library's error: where the construct begins that is wrong.
func yamlError(err error) (line int, text string) {
	m := yamlLine().FindStringSubmatch(strings.TrimPrefix(err.Error(), "yaml: "))
	line, _ = strconv.Atoi(m[1])
	if yamlParser().MatchString(m[2]) {
		line++
	}
	return max(line, 1), "not valid YAML: " + m[2]
}

// FrontMatter separates YAML between two lines of --- from the body behind it. The front matter keeps its line numbers:
// an empty line stands for the opening ---. ok is false when src does not begin with such lines.
func FrontMatter(src string) (front, body string, ok bool) {
	src = strings.ReplaceAll(strings.TrimPrefix(src, "\ufeff"), "\r\n", "\n")
	first, rest, _ := strings.Cut(src, "\n")
	if strings.TrimRight(first, " \t") != "---" {
		return "", "", false
	}
	var b strings.Builder
	b.WriteByte('\n')
	for rest != "" {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		if strings.TrimRight(line, " \t") == "---" {
			return b.String(), strings.TrimSpace(rest), true
		}
		b.WriteString(line + "\n")
	}
	return "", "", false
}
