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
	"github.com/pawl-dev/pawl/internal/await"
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

// fileSource is a file that is read once, from its beginning. The open file stays the same one when its path is
// replaced. Only serve touches the file, so that one that does not answer holds up nobody else.
//
//	read ──wants──▶ serve ──fills──▶ buf ──grew──▶ read
type fileSource struct {
	done   chan fileEnd // gets one
	wanted await.Signal
	over   chan struct{} // closed by close
	once   sync.Once

	// These belong to serve.
	f     io.ReadCloser
	hash  hash.Hash
	spare []byte

	mu    sync.Mutex
	want  int64 // what the watcher looks for next
	from  int64 // of buf in the file
	buf   []byte
	err   error // behind buf: io.EOF, or why there is no more
	ended bool
}

type fileEnd struct {
	size int64
	sum  []byte
	err  error // io.EOF: it was read to its end
}

func newFileSource(f io.ReadCloser) *fileSource {
	return &fileSource{
		f: f, hash: sha256.New(), done: make(chan fileEnd, 1), wanted: await.NewSignal(),
		over: make(chan struct{}),
	}
}

// read takes what is here and asks for what is not. off never goes back behind what was taken.
func (f *fileSource) read(_ pawlv1.Stream, p []byte, off int64) (int, error) {
	select {
	case <-f.over:
		return 0, io.EOF
	default:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, end := 0, f.from+int64(len(f.buf))
	if off < end {
		n = copy(p, f.buf[off-f.from:])
	}
	switch {
	case off+int64(n) < end:
		return n, nil
	case f.err != nil:
		f.tell(end)
		return n, f.err
	case n > 0:
		return n, nil
	}
	f.want = off
	f.wanted.Set()
	return 0, nil
}

// tell ends the verb, once: the watcher has got to the end of the file.
func (f *fileSource) tell(size int64) {
	if !f.ended {
		f.ended = true
		f.done <- fileEnd{size: size, sum: f.hash.Sum(nil), err: f.err}
	}
}

// serve reads on when read has taken everything, and calls grew when there is more, until close or the end of ctx.
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
		if !f.taken() {
			continue // it was wanted twice, and came meanwhile
		}
		b := slices.Grow(f.spare, maxChunk)[:maxChunk]
		n := 0
		err := contain.Do(func() (err error) { n, err = io.ReadFull(f.f, b); return err })
		f.hash.Write(b[:n])
		f.mu.Lock()
		f.from += int64(len(f.buf))
		f.spare, f.buf = f.buf[:0], b[:n]
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			f.err = io.EOF
		case err != nil:
			f.err = fmt.Errorf("reading a file: %w", err)
		}
		f.mu.Unlock()
		grew()
	}
}

// taken reports whether the watcher has all of buf, and wants what is behind it.
func (f *fileSource) taken() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err == nil && f.want == f.from+int64(len(f.buf))
}

func (f *fileSource) close() { f.once.Do(func() { close(f.over) }) }
