package work

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// source is where the output of a call is read from, at any offset and as often as it is needed. n may be 0 while there
// is no more yet; io.EOF says that there will be none.
type source interface {
	read(s pawlv1.Stream, p []byte, off int64) (n int, err error)
	close()
}

// commandSource is the captured output of a command.
type commandSource struct{ ex sandbox.Exec }

func (c commandSource) read(s pawlv1.Stream, p []byte, off int64) (int, error) {
	return c.ex.ReadOutput(streamOf(s), p, off)
}

func streamOf(s pawlv1.Stream) sandbox.Stream {
	if s == pawlv1.Stream_STREAM_STDERR {
		return sandbox.Stderr
	}
	return sandbox.Stdout
}

func (c commandSource) close() {}

// fileSource is a file that is being read by the watcher. The open file stays the same one when its path is replaced.
// Only serve touches the file, so that one that does not answer holds up nobody else.
//
//	read ──wants──▶ serve ──fills──▶ buf ──grew──▶ read
type fileSource struct {
	done   chan fileEnd  // gets one
	wanted chan struct{} // capacity 1
	over   chan struct{} // closed by close
	once   sync.Once

	// These belong to serve.
	f      io.ReadSeekCloser
	pos    int64
	hash   hash.Hash
	hashed int64 // bytes that hash has seen: the first pass over them
	spare  []byte

	mu    sync.Mutex
	want  int64 // offset of the next buf
	from  int64 // of buf
	buf   []byte
	err   error // behind buf: io.EOF, or why there is no more
	end   fileEnd
	ended bool
}

type fileEnd struct {
	size int64
	sum  []byte
	err  error // io.EOF: it was read to its end
}

func newFileSource(f io.ReadSeekCloser) *fileSource {
	return &fileSource{
		f: f, hash: sha256.New(), done: make(chan fileEnd, 1), wanted: make(chan struct{}, 1),
		over: make(chan struct{}),
	}
}

// read takes what is here and asks for what is not.
func (f *fileSource) read(_ pawlv1.Stream, p []byte, off int64) (int, error) {
	select {
	case <-f.over:
		return 0, io.EOF
	default:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	end := f.from + int64(len(f.buf))
	if f.from <= off && off < end {
		n := copy(p, f.buf[off-f.from:])
		if off+int64(n) < end {
			return n, nil
		}
		return n, f.told()
	}
	if f.err != nil && off == end {
		return 0, f.told()
	}
	f.want = off
	select {
	case f.wanted <- struct{}{}:
	default:
	}
	return 0, nil
}

// told is the error behind buf. The first one, which the watcher has got to, is the end of the verb.
func (f *fileSource) told() error {
	if f.err != nil && !f.ended {
		f.ended = true
		f.done <- f.end
	}
	return f.err
}

// serve reads what read asks for and calls grew when it is there, until close or the end of ctx.
func (f *fileSource) serve(ctx context.Context, grew func()) {
	defer f.f.Close()
	for {
		select {
		case <-f.wanted:
		case <-f.over:
			return
		case <-ctx.Done():
			return
		}
		f.mu.Lock()
		off := f.want
		f.mu.Unlock()
		var b []byte
		err := contain.Do(func() (err error) { b, err = f.fill(off); return err })
		f.mu.Lock()
		f.spare, f.buf = f.buf[:0], b
		f.from, f.err = off, err
		if err != nil {
			f.end = fileEnd{size: f.hashed, sum: f.hash.Sum(nil), err: err}
		}
		f.mu.Unlock()
		grew()
	}
}

// fill reads from off on. An error is for what comes behind the bytes.
func (f *fileSource) fill(off int64) ([]byte, error) {
	if off > f.hashed {
		return nil, sandbox.ErrInvalidArg.With("offset %d is beyond what was read of the file", off)
	}
	if f.pos != off {
		if _, err := f.f.Seek(off, io.SeekStart); err != nil {
			return nil, fmt.Errorf("seeking in a file: %w", err)
		}
		f.pos = off
	}
	b := slices.Grow(f.spare, maxChunk)[:maxChunk]
	n, err := io.ReadFull(f.f, b)
	b = b[:n]
	f.pos += int64(n)
	if fresh := f.pos - f.hashed; fresh > 0 {
		f.hash.Write(b[int64(n)-fresh:])
		f.hashed = f.pos
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return b, io.EOF
	case err != nil:
		return b, fmt.Errorf("reading a file: %w", err)
	}
	return b, nil
}

func (f *fileSource) close() { f.once.Do(func() { close(f.over) }) }
