package work

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"hash"
	"sync"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/journal"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

const (
	// intakeDepth is how many frames of a chunked write wait for the disk before the connection does.
	intakeDepth = 8
	// intakeIdle is how long a chunked write waits for its next frame.
	intakeIdle = 10 * time.Minute
)

// writeFile replaces a file. The path is locked only while the new content takes its place.
func (s *Service) writeFile(c *call, v *pawlv1.WriteFile) (*pawlv1.Result_File, error) {
	path := c.path(v.GetPath())
	if c.in != nil {
		return s.writeChunks(c, path)
	}
	w, err := s.cfg.Sandbox.Create(c.ctx, path)
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	if _, err := w.Write(v.GetContent()); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(v.GetContent())
	if err := s.commit(c, path, w); err != nil {
		return nil, err
	}
	return fileResult(int64(len(v.GetContent())), sum[:]), nil
}

func fileResult(size int64, sum []byte) *pawlv1.Result_File {
	return &pawlv1.Result_File{File: &pawlv1.FileResult{Size: size, Sha256: sum}}
}

// commit makes a file's new content visible, not in the middle of an edit of the same path.
func (s *Service) commit(c *call, path string, w sandbox.FileWriter) error {
	unlock, err := s.lockPath(c.ctx, path)
	if err != nil {
		return err
	}
	defer unlock()
	return w.Commit()
}

// intake is where the frames of a chunked write wait for it.
type intake struct {
	frames chan *pawlv1.Input
	once   sync.Once
	gone   chan struct{} // the write takes no more
}

func newIntake() *intake {
	return &intake{frames: make(chan *pawlv1.Input, intakeDepth), gone: make(chan struct{})}
}

func (s *Service) onInput(m *pawlv1.Input) {
	s.mu.Lock()
	var in *intake
	if c := s.live[m.GetCallId()]; c != nil {
		in = c.in
	}
	s.mu.Unlock()
	if in == nil {
		return
	}
	select {
	case in.frames <- m:
	case <-in.gone:
	case <-s.ctx.Done():
	}
}

// upload is a chunked write under way.
type upload struct {
	w    sandbox.FileWriter
	hash hash.Hash
	size int64
}

func (s *Service) writeChunks(c *call, path string) (*pawlv1.Result_File, error) {
	in := c.in
	defer in.once.Do(func() { close(in.gone) })
	var u upload
	defer func() {
		if u.w != nil {
			u.w.Abort()
		}
	}()
	for {
		m, err := in.next(c.ctx)
		if err != nil {
			return nil, err
		}
		if err := s.take(c, path, &u, m); err != nil {
			return nil, err
		}
		if len(m.GetSha256()) == 0 {
			continue
		}
		sum := u.hash.Sum(nil)
		if subtle.ConstantTimeCompare(sum, m.GetSha256()) != 1 {
			return nil, sandbox.ErrInvalidArg.With("the content that arrived has another hash; nothing was written")
		}
		if err := s.beginLate(c); err != nil {
			return nil, err
		}
		if err := s.commit(c, path, u.w); err != nil {
			return nil, err
		}
		return fileResult(u.size, sum), nil
	}
}

func (in *intake) next(ctx context.Context) (*pawlv1.Input, error) {
	t := time.NewTimer(intakeIdle)
	defer t.Stop()
	select {
	case m := <-in.frames:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-t.C:
		return nil, sandbox.ErrTimeout.With("the content did not arrive; nothing was written")
	}
}

// take writes one frame. Offset 0 begins anew: control starts over on a new connection.
func (s *Service) take(c *call, path string, u *upload, m *pawlv1.Input) error {
	if m.GetOffset() == 0 || u.w == nil {
		if m.GetOffset() != 0 {
			return sandbox.ErrInvalidArg.With("the content starts at %d and not at 0; nothing was written", m.GetOffset())
		}
		if u.w != nil {
			u.w.Abort()
		}
		w, err := s.cfg.Sandbox.Create(c.ctx, path)
		if err != nil {
			return err
		}
		*u = upload{w: w, hash: sha256.New()}
	}
	if m.GetOffset() != u.size {
		return sandbox.ErrInvalidArg.With("the content has a gap: %d bytes came, the next frame is for %d; nothing was written", u.size, m.GetOffset())
	}
	if _, err := u.w.Write(m.GetData()); err != nil {
		return err
	}
	u.hash.Write(m.GetData())
	u.size += int64(len(m.GetData()))
	return nil
}

// beginLate is E1 for a chunked write, which has no effect before this.
func (s *Service) beginLate(c *call) error {
	if c.begin.Safety == journal.Pure {
		return nil
	}
	lsn, err := s.j.Begin(c.begin)
	if err != nil {
		return err
	}
	if c.begin.Safety != journal.AtMostOnce {
		return nil
	}
	return s.j.Wait(lsn)
}
