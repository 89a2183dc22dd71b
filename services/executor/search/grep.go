package search

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"

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
	Pattern    string // RE2
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
}

type grep struct {
	GrepOptions
	re  *regexp.Regexp
	out Matches
	buf *bufio.Reader
}

// Grep searches the lines of text files. A file that Path names is searched whatever its name or the ignore files say.
func Grep(ctx context.Context, root string, o GrepOptions) (Matches, error) {
	g := &grep{GrepOptions: o, buf: bufio.NewReaderSize(nil, 64<<10), out: Matches{Matches: []Match{}}}
	if g.MaxMatches <= 0 {
		g.MaxMatches = DefaultMaxMatches
	}
	if g.MaxLine <= 0 {
		g.MaxLine = DefaultMaxLine
	}
	expr := o.Pattern
	if o.Literal {
		expr = regexp.QuoteMeta(expr)
	}
	if o.IgnoreCase {
		expr = "(?i:" + expr + ")"
	}
	var err error
	if g.re, err = regexp.Compile(expr); err != nil {
		return Matches{}, sandbox.ErrInvalidArg.With("pattern %q: %v", o.Pattern, err)
	}
	if !doublestar.ValidatePattern(o.Include) {
		return Matches{}, sandbox.ErrInvalidArg.With("%q is not a glob pattern", o.Include)
	}
	start, st, err := place(root, o.Path)
	if err != nil {
		return Matches{}, err
	}
	w := &walker{root: root}
	if !st.IsDir() {
		err = g.file(ctx, start, w.name(start), 0)
		return g.out, errors.Join(err, sandbox.FromContext(ctx))
	}
	w.visit = func(p string, e fs.DirEntry) error {
		if !e.Type().IsRegular() || !g.included(start, p) {
			return nil
		}
		return g.file(ctx, p, w.name(p), syscall.O_NOFOLLOW)
	}
	if err := w.walk(ctx, start, rulesAbove(root, start)); err != nil {
		return Matches{}, err
	}
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
	return doublestar.MatchUnvalidated(strings.TrimPrefix(g.Include, "/"), name)
}

// file searches one. Files that cannot be read are passed over; only the end of ctx ends the search.
func (g *grep) file(ctx context.Context, path, name string, flags int) error {
	f, st, err := hostfile.Open(path, flags)
	if err != nil {
		return nil
	}
	defer f.Close()
	if !st.Mode().IsRegular() { // it may have become a pipe since it was listed
		return nil
	}
	g.buf.Reset(f)
	if head, _ := g.buf.Peek(sniff); bytes.IndexByte(head, 0) >= 0 {
		return nil
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
		if at := g.re.FindIndex(line); at != nil {
			if g.out.Total++; g.out.Total <= g.MaxMatches {
				g.out.Matches = append(g.out.Matches, Match{Path: name, Line: n, Text: cut(line, at[0], g.MaxLine)})
			}
		}
		if err != nil {
			return nil
		}
	}
}

// line reads a line and keeps maxScan of it. It is valid until the next call.
func (g *grep) line(ctx context.Context) ([]byte, error) {
	line, err := g.buf.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, eof(err)
	}
	long := bytes.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) && ctx.Err() == nil {
		line, err = g.buf.ReadSlice('\n')
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
