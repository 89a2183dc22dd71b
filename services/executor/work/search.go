package work

import (
	"context"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

func (s *Service) grep(ctx context.Context, c *call, q *pawlv1.Grep) (*pawlv1.Result_Grep, error) {
	if s.cfg.Search == nil {
		return nil, sandbox.ErrUnavailable.With("this executor cannot search")
	}
	r, err := s.cfg.Search.Grep(ctx, c.exec.GetCwd(), q)
	if err != nil {
		return nil, err
	}
	return &pawlv1.Result_Grep{Grep: r}, nil
}

func (s *Service) glob(ctx context.Context, c *call, q *pawlv1.Glob) (*pawlv1.Result_Glob, error) {
	if s.cfg.Search == nil {
		return nil, sandbox.ErrUnavailable.With("this executor cannot search")
	}
	r, err := s.cfg.Search.Glob(ctx, c.exec.GetCwd(), q)
	if err != nil {
		return nil, err
	}
	return &pawlv1.Result_Glob{Glob: r}, nil
}
