package work

import (
	"context"
	"strings"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
	"github.com/pawl-dev/pawl/services/executor/search"
)

// searchDir is the directory in which a call searches. Paths of results are relative to it.
func (s *Service) searchDir(c *call) (string, error) {
	if s.cfg.SearchRoot == "" {
		return "", sandbox.ErrUnavailable.With("this executor cannot search")
	}
	return under(s.cfg.SearchRoot, s.fromHome(c, c.exec.GetCwd())), nil
}

func (s *Service) grep(ctx context.Context, c *call, q *pawlv1.Grep) (*pawlv1.Result_Grep, error) {
	dir, err := s.searchDir(c)
	if err != nil {
		return nil, err
	}
	found, err := search.Grep(ctx, dir, search.GrepOptions{
		Pattern: q.GetPattern(), Literal: q.GetLiteral(), IgnoreCase: q.GetIgnoreCase(), Include: q.GetInclude(),
		Path: s.fromHome(c, q.GetPath()),
	})
	if err != nil {
		return nil, err
	}
	r := &pawlv1.GrepResult{
		Total: int64(found.Total), Note: valid(found.Note),
		Matches: make([]*pawlv1.GrepResult_Match, len(found.Matches)),
	}
	for i, m := range found.Matches {
		r.Matches[i] = &pawlv1.GrepResult_Match{Path: valid(m.Path), Line: int64(m.Line), Text: valid(m.Text)}
	}
	return &pawlv1.Result_Grep{Grep: r}, nil
}

func (s *Service) glob(ctx context.Context, c *call, q *pawlv1.Glob) (*pawlv1.Result_Glob, error) {
	dir, err := s.searchDir(c)
	if err != nil {
		return nil, err
	}
	pattern := q.GetPattern()
	if strings.HasPrefix(pattern, "~/") {
		pattern = literalGlob.Replace(s.fromHome(c, "~")) + pattern[1:]
	}
	found, err := search.Glob(ctx, dir, pattern, s.fromHome(c, q.GetPath()), 0)
	if err != nil {
		return nil, err
	}
	r := &pawlv1.GlobResult{
		Paths: make([]string, len(found.Paths)), Truncated: found.Total > len(found.Paths), Note: valid(found.Note),
	}
	for i, p := range found.Paths {
		r.Paths[i] = valid(p)
	}
	return &pawlv1.Result_Glob{Glob: r}, nil
}

// literalGlob makes a glob of a path that matches nothing but that path.
var literalGlob = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`, "{", `\{`, "}", `\}`)
