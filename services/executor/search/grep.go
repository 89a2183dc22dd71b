package search

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/pawl-dev/pawl/services/executor/plaintext"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
	"github.com/pawl-dev/pawl/services/executor/sandbox/hostfile"
)

// Limits of Grep when not told.
const (
	DefaultMaxMatches = 100
	DefaultMaxLine    = 500
)

const (
	// sniff is how much of a file is looked at for a NUL, which makes it binary.
	sniff = 8 << 10
	// maxScan is how much of a line is searched.
	maxScan = 1 << 20
)

// GrepOptions say what to look for, and where.
type GrepOptions struct {
	Pattern    string // RE2, or what else is known of Perl
	Literal    bool   // Pattern is text
	IgnoreCase bool
	Path       string // a file or directory, relative to the root; "" is the root
	Include    string // a glob for names of files, or for paths below Path if it has a slash
	MaxMatches int    // 0 is DefaultMaxMatches
	MaxLine    int    // longer lines are cut around the match; 0 is DefaultMaxLine
}

// Match is one line.
type Match struct {
	Path string // relative to the root if below it
	Line int    // from 1
	Text string
}

// Matches is what Grep found: the first ones in order, and how many lines match in all.
type Matches struct {
	Matches []Match
	Total   int
	// Note is for the model: in which other way the pattern was taken than it was written, and which paths could not be
	// read.
	Note string
}

// add puts a note before those that there are.
func (m *Matches) add(note string) {
	if note != "" && m.Note != "" {
		note += " "
	}
	m.Note = note + m.Note
}

type grep struct {
	GrepOptions
	find   finder
	out    Matches
	buf    *bufio.Reader // of a file
	missed *missed       // nil for a search of one file
	text   *bufio.Reader // of the text in it; is buf when that is the same but for line ends
}

// Grep searches the lines of text files. A file that Path names is searched whatever its name or the ignore
// files say. What is written in the way of other tools is taken as it is meant there, when it would else find
// nothing.
func Grep(ctx context.Context, root string, o GrepOptions) (Matches, error) {
	if o.MaxMatches <= 0 {
		o.MaxMatches = DefaultMaxMatches
	}
	if o.MaxLine <= 0 {
		o.MaxLine = DefaultMaxLine
	}
	o.Include = oneGlob(o.Include)
	if !doublestar.ValidatePattern(o.Include) {
		return Matches{}, sandbox.ErrInvalidArg.With("%q is not a glob pattern", o.Include)
	}
	find, note := compile(o.Pattern, o)
	found, err := o.run(ctx, root, find)
	if found.add(note); err != nil || found.Total > 0 || o.Literal {
		return found, err
	}
	if pattern, ok := basic(o.Pattern); ok {
		find, _ := compile(pattern, o)
		if again, err := o.run(ctx, root, find); err != nil || again.Total > 0 {
			again.add(`Nothing matches the pattern as it is. It was searched with | for \|, which is the alternation here.`)
			return again, err
		}
	}
	if strings.Contains(o.Pattern, "\n") || strings.Contains(o.Pattern, `\n`) {
		found.add("A pattern is searched in one line at a time and cannot match a line break.")
	}
	return found, nil
}

// oneGlob is the include of a model: a list with commas is one of alternatives, and "./" is where the search starts.
func oneGlob(include string) string {
	include = strings.TrimPrefix(include, "./")
	if strings.Contains(include, ",") && !strings.ContainsAny(include, "{[\\") {
		return "{" + strings.ReplaceAll(include, " ", "") + "}"
	}
	return include
}

// run is one pass over the files.
func (o GrepOptions) run(ctx context.Context, root string, find finder) (Matches, error) {
	g := &grep{GrepOptions: o, find: find, buf: bufio.NewReaderSize(nil, 64<<10), out: Matches{Matches: []Match{}}}
	start, st, err := place(root, o.Path)
	if errors.Is(err, sandbox.ErrNotFound) && o.Include == "" && strings.ContainsAny(o.Path, "*?[{") {
		// A glob where a path is wanted.
		base, rest := doublestar.SplitPattern(filepath.Clean(o.Path))
		if doublestar.ValidatePattern(rest) {
			g.Include = "./" + rest
			start, st, err = place(root, base)
		}
	}
	if err != nil {
		return Matches{}, err
	}
	w := &walker{root: root}
	if !st.IsDir() {
		if err := readable(start); err != nil {
			return Matches{}, err
		}
		err = g.file(ctx, start, w.name(start), 0)
		return g.out, errors.Join(err, sandbox.FromContext(ctx))
	}
	w.visit = func(p string, e fs.DirEntry) error {
		if !e.Type().IsRegular() || !g.included(start, p) {
			return nil
		}
		return g.file(ctx, p, w.name(p), syscall.O_NOFOLLOW)
	}
	g.missed = &w.missed
	if err := w.walk(ctx, start, rulesAbove(root, start)); err != nil {
		return Matches{}, err
	}
	g.out.Note = w.missed.note()
	return g.out, nil
}

func (g *grep) included(start, path string) bool {
	if g.Include == "" {
		return true
	}
	name := filepath.Base(path)
	if strings.Contains(g.Include, "/") {
		name, _ = filepath.Rel(start, path)
	}
	return doublestar.MatchUnvalidated(strings.TrimPrefix(strings.TrimPrefix(g.Include, "./"), "/"), name)
}

// readable is why the one file that is to be searched cannot be: a search that finds nothing in it would be a guess.
func readable(path string) error {
	f, _, err := hostfile.Open(path, 0)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return sandbox.ErrPermission.With("%s: permission denied", path)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return sandbox.ErrUnavailable.With("%s: %v", path, err)
	case errors.Is(err, syscall.ENXIO): // a socket or a pipe, in which nothing is found
		return nil
	case err != nil:
		return err
	}
	return f.Close()
}

// file searches one. Files that cannot be opened are passed over and counted; only the end of ctx ends the search.
func (g *grep) file(ctx context.Context, path, name string, flags int) error {
	f, st, err := hostfile.Open(path, flags)
	if err != nil {
		if g.missed != nil {
			g.missed.add(name, err)
		}
		return nil
	}
	defer f.Close()
	if !st.Mode().IsRegular() { // it may have become a pipe since it was listed
		return nil
	}
	g.buf.Reset(f)
	head, _ := g.buf.Peek(sniff)
	encoding, ok := plaintext.Detect(head)
	if !ok {
		return nil
	}
	if g.text = g.buf; encoding != plaintext.UTF8 {
		g.text = bufio.NewReaderSize(plaintext.NewReader(g.buf, encoding), 64<<10)
	}
	for n := 1; ; n++ {
		line, err := g.line(ctx)
		if cerr := sandbox.FromContext(ctx); cerr != nil {
			return cerr
		}
		if err != nil && len(line) == 0 || bytes.IndexByte(line, 0) >= 0 {
			return nil
		}
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		at, ferr := g.find(line)
		if ferr != nil {
			return ferr
		}
		if at >= 0 {
			if g.out.Total++; g.out.Total <= g.MaxMatches {
				g.out.Matches = append(g.out.Matches, Match{Path: name, Line: n, Text: cut(line, at, g.MaxLine)})
			}
		}
		if err != nil {
			return nil
		}
	}
}

// line reads a line and keeps maxScan of it. It is valid until the next call.
func (g *grep) line(ctx context.Context) ([]byte, error) {
	line, err := g.text.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, eof(err)
	}
	long := bytes.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) && ctx.Err() == nil {
		line, err = g.text.ReadSlice('\n')
		long = append(long, line[:min(len(line), maxScan-min(maxScan, len(long)))]...)
	}
	return long, eof(err)
}

// eof is any error: what can be read no further is at its end.
func eof(err error) error {
	if err != nil {
		return io.EOF
	}
	return nil
}

// cut shortens a line to limit bytes that show the match, whole characters only.
func cut(line []byte, at, limit int) string {
	if len(line) <= limit {
		return strings.ToValidUTF8(string(line), "\uFFFD")
	}
	from := 0
	if at > limit*3/4 {
		from = min(at-limit/4, len(line)-limit)
	}
	for from > 0 && !utf8.RuneStart(line[from]) {
		from--
	}
	to := min(len(line), from+limit)
	for to > from && to < len(line) && !utf8.RuneStart(line[to]) {
		to--
	}
	text := strings.ToValidUTF8(string(line[from:to]), "\uFFFD")
	if from > 0 {
		text = "…" + text
	}
	if to < len(line) {
		text += "…"
	}
	return text
}
