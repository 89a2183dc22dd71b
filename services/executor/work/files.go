package work

import (
	"context"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

func stat(ctx context.Context, sb sandbox.Sandbox, path string) (*pawlv1.Result_Stat, error) {
	i, err := sb.Stat(ctx, path)
	if err != nil {
		return nil, err
	}
	return &pawlv1.Result_Stat{Stat: &pawlv1.StatResult{
		IsFile: i.IsFile, IsDir: i.IsDir, IsSymlink: i.IsSymlink, Size: i.Size, Mtime: stamp(i.ModTime),
		Mode: uint32(i.Mode.Perm()), LinkTarget: valid(i.LinkTarget),
	}}, nil
}

func readDir(ctx context.Context, sb sandbox.Sandbox, path string) (*pawlv1.Result_Names, error) {
	names, err := sb.ReadDir(ctx, path)
	if err != nil {
		return nil, err
	}
	r := &pawlv1.NamesResult{Names: make([][]byte, len(names))}
	for i, n := range names {
		r.Names[i] = []byte(n)
	}
	return &pawlv1.Result_Names{Names: r}, nil
}

// readFile opens a file and lets the watcher read it to its end.
func (s *Service) readFile(c *call, v *pawlv1.ReadFile) (*pawlv1.Result_File, error) {
	f, _, err := s.cfg.Sandbox.Open(c.ctx, c.path(v.GetPath()))
	s.accept(c)
	if err != nil {
		return nil, err
	}
	src := newFileSource(f)
	s.mu.Lock()
	c.src = src
	c.feed.touch()
	s.push(c)
	s.mu.Unlock()
	select {
	case end := <-src.done:
		if end.err != nil {
			return nil, end.err
		}
		return &pawlv1.Result_File{File: &pawlv1.FileResult{Size: end.size, Sha256: end.sum}}, nil
	case <-c.ctx.Done():
		return nil, c.ctx.Err()
	}
}
