package keeper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/internal/disk"
)

// capture is one output of a command on its way from a pipe to a file. The file only ever grows, so an offset into it
// stays true: the head as it comes; then, when the command is finished, a marker for what was cut and the tail. Until
// then the tail goes round in a file beside it.
//
// pump is its only writer until done is closed; finish comes after that.
type capture struct {
	path    string
	head    int64
	tail    int64
	grew    func()
	visible atomic.Int64 // length of the file
	done    chan struct{}

	r     *os.File
	file  *os.File // made with the first byte: most commands write to one stream or none
	ring  *os.File
	total int64 // bytes that the command wrote
	last  byte
	err   error // the first failure to keep bytes; the command is not made to suffer from it
	// broken is a failure to read the pipe: nobody knows what the command wrote after it.
	broken error
}

// buffers are for what is read from pipes.
var buffers interface {
	Get() any
	Put(any)
} = &sync.Pool{New: func() any { return new([64 << 10]byte) }}

func newCapture(r *os.File, path string, limit int64, grew func()) *capture {
	return &capture{path: path, head: limit / 2, tail: limit - limit/2, grew: grew, r: r, done: make(chan struct{})}
}

// pump reads until every holder of the pipe is gone, or until stop and the pipe is empty. It has a buffer only while
// there is something to read: most commands are silent most of the time, and there can be a thousand of them.
func (c *capture) pump() {
	defer close(c.done)
	raw, err := c.r.SyscallConn()
	for more := true; more && err == nil; {
		err = raw.Read(func(fd uintptr) (ready bool) {
			more, ready, c.broken = c.drain(int(fd))
			return ready
		})
	}
	if errors.Is(err, os.ErrDeadlineExceeded) { // stop: what is in the pipe now is still taken
		err = raw.Control(func(fd uintptr) { _, _, c.broken = c.drain(int(fd)) })
	}
	if err != nil {
		c.broken = fmt.Errorf("reading the command's pipe: %w", err)
	}
}

// stop ends the pump without waiting for those who still hold the pipe.
func (c *capture) stop() { c.r.SetReadDeadline(time.Unix(1, 0)) }

// drain takes what is in the pipe, at most what the largest pipe holds: its holders may be writing all the time. more
// is false at the end of the pipe and after an error, ready when something was taken or nothing more will come.
func (c *capture) drain(fd int) (more, ready bool, err error) {
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	for left := 1 << 20; left > 0; {
		n, err := unix.Read(fd, buf[:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return true, left < 1<<20, nil
		case err != nil:
			return false, true, fmt.Errorf("reading the command's pipe: %w", err)
		case n == 0:
			return false, true, nil
		}
		c.write(buf[:n])
		left -= n
	}
	return true, true, nil
}

// discard keeps the pipe flowing for background children that may outlive their command.
func (c *capture) discard() {
	c.r.SetReadDeadline(time.Time{})
	io.Copy(io.Discard, c.r)
	c.r.Close()
}

func (c *capture) write(p []byte) {
	if len(p) == 0 {
		return
	}
	c.last = p[len(p)-1]
	if n := min(int64(len(p)), max(0, c.head-c.total)); n > 0 {
		c.append(p[:n])
		c.total += n
		p = p[n:]
		c.grew()
	}
	for len(p) > 0 {
		at := (c.total - c.head) % c.tail
		n := min(int64(len(p)), c.tail-at)
		c.spill(p[:n], at)
		c.total += n
		p = p[n:]
	}
}

func (c *capture) append(p []byte) {
	if c.file == nil && c.err == nil {
		c.file, c.err = insist(c.path)
	}
	if c.err != nil {
		return
	}
	n, err := c.file.WriteAt(p, c.visible.Load())
	c.visible.Add(int64(n))
	c.err = err
}

func (c *capture) spill(p []byte, at int64) {
	if c.ring == nil && c.err == nil {
		c.ring, c.err = insist(c.path + ".tail")
	}
	if c.err == nil {
		_, c.err = c.ring.WriteAt(p, at)
	}
}

// patient is how long a command waits on its pipe while there is no descriptor for its output.
const patient = 2 * time.Second

// insist makes a file. Descriptors come back: others end.
func insist(path string) (*os.File, error) {
	began := time.Now()
	for pause := time.Millisecond; ; pause *= 2 {
		f, err := create(path)
		if !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENFILE) || time.Since(began) > patient {
			return f, err
		}
		time.Sleep(pause)
	}
}

// create makes a file that was not there: what a command put in its place is not written to.
func create(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
}

// finish puts marker, tail and trailer behind the head. size is the length of the file, cut what the command wrote and
// the file does not hold.
func (c *capture) finish(trailer string) (size, cut int64, err error) {
	kept := min(c.total, c.head)
	if spilled := c.total - c.head; spilled > 0 && c.err == nil {
		c.unspill(spilled)
		kept += min(spilled, c.tail)
	}
	if c.err != nil {
		kept = c.visible.Load()
	}
	if trailer != "" {
		if c.total > 0 && c.last != '\n' {
			trailer = "\n" + trailer
		}
		c.append([]byte(trailer))
	}
	if c.ring != nil {
		c.ring.Close()
		os.Remove(c.path + ".tail")
	}
	return c.visible.Load(), max(0, c.total-kept), errors.Join(c.broken, c.err)
}

// persist puts the file on disk and closes it. It comes after finish.
func (c *capture) persist() error {
	if c.file == nil {
		return nil
	}
	var err error
	if c.visible.Load() > 0 {
		err = disk.Datasync(c.file)
	}
	return errors.Join(err, c.file.Close())
}

func (c *capture) unspill(spilled int64) {
	if spilled > c.tail {
		c.append(fmt.Appendf(nil, "\n[... %d bytes cut ...]\n", spilled-c.tail))
		at := spilled % c.tail
		c.copyRing(at, c.tail-at)
		c.copyRing(0, at)
		return
	}
	c.copyRing(0, spilled)
}

func (c *capture) copyRing(at, n int64) {
	if c.err != nil {
		return
	}
	m, err := io.Copy(io.NewOffsetWriter(c.file, c.visible.Load()), io.NewSectionReader(c.ring, at, n))
	c.visible.Add(m)
	c.err = err
}
