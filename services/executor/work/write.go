package work

import (
	"bytes"
	"crypto/sha256"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// intakeIdle is how long a chunked write waits for its next frame.
const intakeIdle = 10 * time.Minute

// writeFile replaces a file. The path is locked only while the new content takes its place.
func (s *Service) writeFile(c *call, v *pawlv1.WriteFile) (*pawlv1.Result_File, error) {
	path := s.path(c, v.GetPath())
	if v.GetChunked() {
		return s.writeChunks(c, c.in, path)
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

// intake is where the content of a chunked write waits for it. It belongs to Service.mu.
type intake struct {
	frames []*pawlv1.Input
	held   int64 // bytes that came and were not acknowledged
	failed error
	ready  await.Signal
}

func newIntake() *intake { return &intake{ready: await.NewSignal()} }

// put takes a frame in. More than the window at once is refused, so that nothing has to wait and memory is bounded.
func (in *intake) put(m *pawlv1.Input, window int64) {
	in.held += int64(len(m.GetData()))
	switch {
	case in.failed != nil, len(m.GetData()) == 0 && !m.GetLast():
		return
	case in.held > window:
		in.frames, in.failed = nil, sandbox.ErrInvalidArg.With("more than %d bytes came without an acknowledgement; "+
			"nothing was written", window)
	default:
		in.frames = append(in.frames, m)
	}
	in.ready.Set()
}

// nextInput waits for the next frame of a chunked write.
func (s *Service) nextInput(c *call, in *intake) (*pawlv1.Input, error) {
	t := time.NewTimer(intakeIdle)
	defer t.Stop()
	for {
		s.mu.Lock()
		m, err := in.pop()
		s.mu.Unlock()
		if m != nil || err != nil {
			return m, err
		}
		select {
		case <-in.ready:
		case <-c.ctx.Done():
			return nil, c.ctx.Err()
		case <-t.C:
			return nil, sandbox.ErrTimeout.With("the content did not arrive; nothing was written")
		}
	}
}

func (in *intake) pop() (*pawlv1.Input, error) {
	if in.failed != nil || len(in.frames) == 0 {
		return nil, in.failed
	}
	m := in.frames[0]
	in.frames = in.frames[1:]
	return m, nil
}

// credit acknowledges content that was written.
func (s *Service) credit(c *call, in *intake, n int, upto int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in.held -= int64(n)
	ack := &pawlv1.InputAck{CallId: c.id(), Upto: upto}
	s.answerFor(c, &pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_InputAck{InputAck: ack}})
}

// writeChunks takes the content frame by frame. The file is replaced after the last one, or not at all.
func (s *Service) writeChunks(c *call, in *intake, path string) (*pawlv1.Result_File, error) {
	w, err := s.cfg.Sandbox.Create(c.ctx, path)
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	hash, size := sha256.New(), int64(0)
	for {
		m, err := s.nextInput(c, in)
		if err != nil {
			return nil, err
		}
		if m.GetOffset() != size {
			return nil, sandbox.ErrInvalidArg.With("the content has a gap: %d bytes came, the next frame is for %d; "+
				"nothing was written", size, m.GetOffset())
		}
		if _, err := w.Write(m.GetData()); err != nil {
			return nil, err
		}
		hash.Write(m.GetData())
		size += int64(len(m.GetData()))
		if !m.GetLast() {
			s.credit(c, in, len(m.GetData()), size)
			continue
		}
		sum := hash.Sum(nil)
		if want := m.GetSha256(); len(want) > 0 && !bytes.Equal(sum, want) {
			return nil, errHash.With("the content that arrived has the hash %x and not %x; nothing was written", sum,
				want)
		}
		if err := s.commit(c, path, w); err != nil {
			return nil, err
		}
		return fileResult(size, sum), nil
	}
}

var errHash = errs.New(errs.InvalidArgument, "HASH_MISMATCH", "the content has another hash")
