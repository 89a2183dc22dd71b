package work

import (
	"context"
	"strings"

	"google.golang.org/protobuf/proto"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
	"github.com/pawl-dev/pawl/services/executor/search"
)

// Search is Grep and Glob below a working directory. Paths of results are relative to it.
type Search interface {
	Grep(ctx context.Context, cwd string, q *pawlv1.Grep) (*pawlv1.GrepResult, error)
	Glob(ctx context.Context, cwd string, q *pawlv1.Glob) (*pawlv1.GlobResult, error)
}

func (s *Service) grep(ctx context.Context, c *call, q *pawlv1.Grep) (*pawlv1.Result_Grep, error) {
	if s.cfg.Search == nil {
		return nil, errNoSearch
	}
	q = proto.CloneOf(q)
	q.Path = s.fromHome(c, q.GetPath())
	r, err := s.cfg.Search.Grep(ctx, s.fromHome(c, c.exec.GetCwd()), q)
	if err != nil {
		return nil, err
	}
	return &pawlv1.Result_Grep{Grep: r}, nil
}

func (s *Service) glob(ctx context.Context, c *call, q *pawlv1.Glob) (*pawlv1.Result_Glob, error) {
	if s.cfg.Search == nil {
		return nil, errNoSearch
	}
	q = proto.CloneOf(q)
	q.Path = s.fromHome(c, q.GetPath())
	if home := s.fromHome(c, "~"); strings.HasPrefix(q.GetPattern(), "~/") {
		q.Pattern = literalGlob.Replace(home) + q.GetPattern()[1:]
	}
	r, err := s.cfg.Search.Glob(ctx, s.fromHome(c, c.exec.GetCwd()), q)
	if err != nil {
		return nil, err
	}
	return &pawlv1.Result_Glob{Glob: r}, nil
}

// literalGlob makes a glob of a path that matches nothing but that path.
var literalGlob = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`, "{", `\{`, "}", `\}`)

var errNoSearch = sandbox.ErrUnavailable.With("this executor cannot search")

// Files searches the files of this host.
type Files struct {
	Root string // what a relative cwd is relative to
}

func (f Files) dir(cwd string) string {
	if cwd == "" {
		return f.Root
	}
	return under(f.Root, cwd)
}

// Grep implements Search.
func (f Files) Grep(ctx context.Context, cwd string, q *pawlv1.Grep) (*pawlv1.GrepResult, error) {
	found, err := search.Grep(ctx, f.dir(cwd), search.GrepOptions{
		Pattern: q.GetPattern(), Literal: q.GetLiteral(), IgnoreCase: q.GetIgnoreCase(), Path: q.GetPath(),
		Include: q.GetInclude(),
	})
	if err != nil {
		return nil, err
	}
	r := &pawlv1.GrepResult{
		Total: int64(found.Total), Note: valid(found.Note), Matches: make(
			[]*pawlv1.GrepResult_Match, len(found.Matches),
		),
	}
	for i, m := range found.Matches {
		r.Matches[i] = &pawlv1.GrepResult_Match{Path: valid(m.Path), Line: int64(m.Line), Text: valid(m.Text)}
	}
	return r, nil
}

// Glob implements Search.
func (f Files) Glob(ctx context.Context, cwd string, q *pawlv1.Glob) (*pawlv1.GlobResult, error) {
	found, err := search.Glob(ctx, f.dir(cwd), q.GetPattern(), q.GetPath(), 0)
	if err != nil {
		return nil, err
	}
	r := &pawlv1.GlobResult{Paths: make([]string, len(found.Paths)), Truncated: found.Total > len(found.Paths)}
	for i, p := range found.Paths {
		r.Paths[i] = valid(p)
	}
	return r, nil
}
