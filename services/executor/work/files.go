package work

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// maxNames bounds the names in the answer to ReadDir, which is one frame.
const maxNames = 8 << 20

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
	size := 0
	for i, n := range names {
		r.Names[i] = []byte(n)
		size += len(n)
	}
	if size > maxNames {
		return nil, sandbox.ErrTooLarge.With("%s: the %d names in the directory are more than one answer holds", path,
			len(names))
	}
	return &pawlv1.Result_Names{Names: r}, nil
}

// readContent is a file as it is.
func (s *Service) readContent(c *call, v *pawlv1.ReadWhole) (*pawlv1.Result_Content, error) {
	path := s.path(c, v.GetPath())
	content, err := s.readWhole(c, path, maxWhole)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(content)
	return &pawlv1.Result_Content{Content: &pawlv1.ContentResult{Content: content, Sha256: sum[:]}}, nil
}

// readFile opens a file, or a directory as an archive, and lets the watcher read it to its end.
func (s *Service) readFile(c *call, v *pawlv1.ReadFile) (*pawlv1.Result_File, error) {
	var o opened
	err := contain.Do(func() (err error) { o, err = open(c.ctx, s.cfg.Sandbox, s.path(c, v.GetPath()), v); return err })
	if s.hangs(c) { // the call has ended without it
		if err == nil {
			o.Close()
		}
		return nil, errHangs
	}
	if err != nil {
		s.accept(c)
		return nil, err
	}
	src := newFileSource(o)
	s.mu.Lock()
	c.accepted, c.file = true, o.facts
	s.answerFor(c, s.acceptedFrame(c))
	c.src = src
	c.feed.touch()
	s.push(c)
	s.goLocked(func() { src.serve(s.ctx, func() { s.grew(c) }) })
	s.mu.Unlock()
	select {
	case end := <-src.done:
		if !errors.Is(end.err, io.EOF) {
			return nil, end.err
		}
		return &pawlv1.Result_File{File: &pawlv1.FileResult{Size: end.size, Sha256: end.sum}}, nil
	case <-c.ctx.Done():
		return nil, c.ctx.Err()
	}
}
