package work

import (
	"bytes"
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"io/fs"
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
	if v.GetArchive() == pawlv1.Archive_ARCHIVE_TAR {
		return s.unpack(c, path)
	}
	if err := s.holds(c.ctx, path, v.GetCondition()); err != nil {
		return nil, err
	}
	if v.GetChunked() {
		return s.writeChunks(c, c.in, target{path, v.GetCondition(), v.Mode})
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
	r := &pawlv1.FileResult{Size: int64(len(v.GetContent())), Sha256: sum[:]}
	r.Created, err = s.commit(c.ctx, target{path, v.GetCondition(), v.Mode}, w)
	return &pawlv1.Result_File{File: r}, err
}

// target is a path that is written, what must hold of it, and the mode that it gets; nil leaves it.
type target struct {
	path      string
	condition *pawlv1.FileCondition
	mode      *uint32
}

// commit makes a file's new content visible if its condition holds, not in the middle of an edit of the same path. It
// tells whether nothing had the path before.
func (s *Service) commit(ctx context.Context, t target, w sandbox.FileWriter) (created bool, err error) {
	unlock, err := s.lockPath(ctx, t.path)
	if err != nil {
		return false, err
	}
	defer unlock()
	if err := s.holds(ctx, t.path, t.condition); err != nil {
		return false, err
	}
	there, err := s.cfg.Sandbox.Exists(ctx, t.path)
	if err != nil {
		return false, err
	}
	if t.mode != nil {
		w.Chmod(fs.FileMode(*t.mode))
	}
	return !there, w.Commit()
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

// nextInput waits for the next frame of a chunked write, or, for as long as it takes, of a command's input.
func (s *Service) nextInput(c *call, in *intake) (*pawlv1.Input, error) {
	var late <-chan time.Time
	if c.verb != verbExec {
		t := time.NewTimer(intakeIdle)
		defer t.Stop()
		late = t.C
	}
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
		case <-late:
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
func (s *Service) writeChunks(c *call, in *intake, t target) (*pawlv1.Result_File, error) {
	w, err := s.cfg.Sandbox.Create(c.ctx, t.path)
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	taken := &taken{s: s, c: c, in: in, hash: sha256.New()}
	if _, err := io.Copy(w, taken); err != nil {
		return nil, err
	}
	r := taken.result()
	r.Created, err = s.commit(c.ctx, t, w)
	return &pawlv1.Result_File{File: r}, err
}

// unpack takes an archive as it comes.
func (s *Service) unpack(c *call, path string) (*pawlv1.Result_File, error) {
	taken := &taken{s: s, c: c, in: c.in, hash: sha256.New()}
	if err := s.cfg.Sandbox.Unpack(c.ctx, path, taken); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, taken); err != nil { // what is behind the archive's end
		return nil, err
	}
	return &pawlv1.Result_File{File: taken.result()}, nil
}

// taken reads the content of a call, frame by frame. What was read makes room for more. After the last frame comes
// io.EOF if the content has the hash that it must have.
type taken struct {
	s    *Service
	c    *call
	in   *intake
	hash hash.Hash
	size int64
	left []byte
	last bool
}

func (t *taken) result() *pawlv1.FileResult {
	return &pawlv1.FileResult{Size: t.size, Sha256: t.hash.Sum(nil)}
}

// Read implements io.Reader.
func (t *taken) Read(p []byte) (int, error) {
	for len(t.left) == 0 {
		if t.last {
			return 0, io.EOF
		}
		if err := t.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, t.left)
	t.left = t.left[n:]
	return n, nil
}

// next takes a frame. The one before was read to its end.
func (t *taken) next() error {
	m, err := t.s.nextInput(t.c, t.in)
	if err != nil {
		return err
	}
	if m.GetOffset() != t.size {
		return sandbox.ErrInvalidArg.With("the content has a gap: %d bytes came, the next frame is for %d", t.size,
			m.GetOffset())
	}
	t.hash.Write(m.GetData())
	t.size += int64(len(m.GetData()))
	t.left, t.last = m.GetData(), m.GetLast()
	if !t.last {
		t.s.credit(t.c, t.in, len(m.GetData()), t.size)
		return nil
	}
	if want, sum := m.GetSha256(), t.hash.Sum(nil); len(want) > 0 && !bytes.Equal(sum, want) {
		return errHash.With("the content that arrived has the hash %x and not %x", sum, want)
	}
	return nil
}

var errHash = errs.New(errs.InvalidArgument, "HASH_MISMATCH", "the content has another hash")
