package work

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

var errCondition = errs.New(errs.FailedPrecondition, "CONDITION_FAILED", "the condition does not hold")

// holds is an error when a condition does not hold of a path. Whoever changes the path as a consequence holds its lock.
func (s *Service) holds(ctx context.Context, path string, want *pawlv1.FileCondition) error {
	if want == nil {
		return nil
	}
	there, err := s.cfg.Sandbox.Exists(ctx, path)
	switch {
	case err != nil:
		return err
	case want.Exists != nil && want.GetExists() != there && there:
		return errCondition.With("%s: is there already; nothing was done", path)
	case want.Exists != nil && want.GetExists() != there:
		return errCondition.With("%s: is not there; nothing was done", path)
	case len(want.GetSha256()) == 0 && len(want.GetNotSha256()) == 0:
		return nil
	}
	sum, err := s.hashOf(ctx, path)
	if err != nil {
		return err
	}
	is := func(other []byte) bool { return bytes.Equal(sum, other) }
	if len(want.GetSha256()) > 0 && !slices.ContainsFunc(want.GetSha256(), is) ||
		slices.ContainsFunc(want.GetNotSha256(), is) {
		return errCondition.With("%s: has other content than the condition asks for; nothing was done", path)
	}
	return nil
}

// hashOf is the hash of a file's content, nil when no file has the path.
func (s *Service) hashOf(ctx context.Context, path string) ([]byte, error) {
	f, _, err := s.cfg.Sandbox.Open(ctx, path)
	if errors.Is(err, sandbox.ErrNotFound) || errors.Is(err, sandbox.ErrIsDir) || errors.Is(err, sandbox.ErrNotDir) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	_, err = io.Copy(hash, patient{ctx, f})
	return hash.Sum(nil), errors.Join(err, f.Close())
}

// patient reads until its context ends.
type patient struct {
	ctx context.Context
	io.Reader
}

func (p patient) Read(b []byte) (int, error) {
	if err := sandbox.FromContext(p.ctx); err != nil {
		return 0, err
	}
	return p.Reader.Read(b)
}

// remove deletes what has a path if its condition holds.
func (s *Service) remove(c *call, v *pawlv1.Remove) error {
	path := s.path(c, v.GetPath())
	if v.GetCondition() != nil {
		unlock, err := s.lockPath(c.ctx, path)
		if err != nil {
			return err
		}
		defer unlock()
		if err := s.holds(c.ctx, path, v.GetCondition()); err != nil {
			return err
		}
	}
	return s.cfg.Sandbox.Remove(c.ctx, path, v.GetRecursive(), v.GetForce())
}
