package work

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"sync"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// source is where the output of a call is read from, at any offset and as often as it is needed. n may be 0 while there is no
// more yet; io.EOF says that there will be none.
type source interface {
	read(s pawlv1.Stream, p []byte, off int64) (n int, err error)
	close()
}

// commandSource is the captured output of a command.
type commandSource struct{ ex sandbox.Exec }

func (c commandSource) read(s pawlv1.Stream, p []byte, off int64) (int, error) {
	if s == pawlv1.Stream_STREAM_STDERR {
		return c.ex.ReadOutput(sandbox.Stderr, p, off)
	}
	return c.ex.ReadOutput(sandbox.Stdout, p, off)
}

func (c commandSource) close() {}

// probe finds how much output there is, from a size that is known to be there, in a logarithmic number of reads.
func probe(src source, s pawlv1.Stream, known int64) int64 {
	var one [1]byte
	has := func(n int64) bool {
		got, _ := src.read(s, one[:], n-1)
		return got > 0
	}
	step := int64(1)
	for has(known + step) {
		known += step
		step *= 2
	}
	// known is there, known+step is not.
	for step > 1 {
		step /= 2
		if has(known + step) {
			known += step
		}
	}
	return known
}

// fileSource is a file that is being read by the watcher. The open file stays the same one when its path is replaced.
type fileSource struct {
	done chan fileEnd // gets one

	mu     sync.Mutex
	f      io.ReadSeekCloser
	pos    int64
	hash   hash.Hash
	hashed int64 // bytes that hash has seen: the first pass over them
	ended  bool
}

type fileEnd struct {
	size int64
	sum  []byte
	err  error
}

func newFileSource(f io.ReadSeekCloser) *fileSource {
	return &fileSource{f: f, hash: sha256.New(), done: make(chan fileEnd, 1)}
}

func (f *fileSource) read(_ pawlv1.Stream, p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f == nil {
		return 0, io.EOF
	}
	if off > f.hashed {
		return 0, f.end(sandbox.ErrInvalidArg.With("offset %d is beyond what was read of the file", off))
	}
	if f.pos != off {
		if _, err := f.f.Seek(off, io.SeekStart); err != nil {
			return 0, f.end(fmt.Errorf("seeking in a file: %w", err))
		}
		f.pos = off
	}
	n, err := io.ReadFull(f.f, p)
	f.pos += int64(n)
	if fresh := f.pos - f.hashed; fresh > 0 {
		f.hash.Write(p[int64(n)-fresh : n])
		f.hashed = f.pos
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		f.end(nil)
		return n, io.EOF
	case err != nil:
		return n, f.end(fmt.Errorf("reading a file: %w", err))
	}
	return n, nil
}

func (f *fileSource) end(err error) error {
	if !f.ended {
		f.ended = true
		f.done <- fileEnd{size: f.hashed, sum: f.hash.Sum(nil), err: err}
	}
	return err
}

func (f *fileSource) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f != nil {
		f.f.Close()
		f.f = nil
	}
}

func cmpString(a, b string) int { return strings.Compare(a, b) }

// release closes what a call holds in this process.
func (c *call) release() {
	if c.stop != nil {
		c.stop()
	}
	if c.src != nil {
		c.src.close()
	}
	c.feed.stopLinger()
}
