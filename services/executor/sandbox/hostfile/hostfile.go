// Package hostfile reads files of this host. It never waits for what only looks like a file: a named pipe without a
// writer, or a regular file of the kernel that has nothing to say yet. It opens no file that is about this process.
package hostfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// File is open for reading.
type File struct {
	f    *os.File
	conn syscall.RawConn
}

// Open opens whatever path names, which the caller judges by its info. flags are for the open, beside O_RDONLY.
func Open(path string, flags int) (*File, fs.FileInfo, error) {
	f, err := open(path, flags)
	if err != nil {
		return nil, nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return &File{f, conn}, st, nil
}

// Read implements io.Reader. It asks the kernel once: os.File would wait for what a poller takes, without a bound.
func (f *File) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	closed := f.conn.Read(func(fd uintptr) bool {
		for {
			if n, err = unix.Read(int(fd), p); !errors.Is(err, unix.EINTR) {
				return true
			}
		}
	})
	switch {
	case closed != nil:
		return 0, closed
	case errors.Is(err, unix.EAGAIN):
		return 0, sandbox.ErrInvalidArg.With("%s: has nothing to read now and no end; it is not a regular file",
			f.f.Name())
	case err != nil:
		return 0, sandbox.ErrIO.With("%s: %v", f.f.Name(), err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Seek implements io.Seeker.
func (f *File) Seek(off int64, whence int) (int64, error) { return f.f.Seek(off, whence) }

// Close implements io.Closer.
func (f *File) Close() error { return f.f.Close() }
