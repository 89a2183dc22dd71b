package hostfile

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// Nothing of this process itself is opened. The kernel lets a process see all of itself: its environment, its memory,
// its open files. The process that runs the file verbs can be control, which holds keys. Of other processes the kernel
// shows what the user may see, and both programs and the keeper are not dumpable. So a file verb gives what a command
// of the same user gets:
//
//   - a file of procfs that belongs to this process, or to one of its threads, is refused once it is open: by what was
//     opened, and not by the text of a path, which can lead anywhere;
//   - a link of the kernel's, like /proc/self/fd/3, is not followed, where the kernel can be told so.

// OpenDir opens a directory for reading its names.
func OpenDir(path string) (*os.File, error) {
	return open(path, unix.O_DIRECTORY)
}

func open(path string, flags int) (*os.File, error) {
	flags |= unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	how := unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_NO_MAGICLINKS}
	var f *os.File
	fd, err := retried(func() (int, error) { return unix.Openat2(unix.AT_FDCWD, path, &how) })
	switch {
	case err == nil:
		f = os.NewFile(uintptr(fd), path)
	case errors.Is(err, unix.ELOOP) && throughKernel(path):
		return nil, sandbox.ErrPermission.With("%s: a link of the kernel's leads there, which is not followed", path)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM): // an old kernel, or an old container's filter
		if f, err = os.OpenFile(path, flags, 0); err != nil {
			return nil, err
		}
	default:
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if err := RefuseOwn(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func retried(call func() (int, error)) (fd int, err error) {
	for {
		if fd, err = call(); !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}

// throughKernel reports whether the kernel opens a path that it does not open without its own links.
func throughKernel(path string) bool {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	return unix.Close(fd) == nil
}

// RefuseOwn is an error for an open file of procfs that is about this process: PERMISSION.
func RefuseOwn(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var own bool
	var failed error
	err = conn.Control(func(fd uintptr) { own, failed = isOwn(int(fd)) })
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	if own {
		return sandbox.ErrPermission.With("%s: is a file of the executor's own process, which is not shown", f.Name())
	}
	return nil
}

func isOwn(fd int) (bool, error) {
	var fs unix.Statfs_t
	_, err := retried(func() (int, error) { return 0, unix.Fstatfs(fd, &fs) })
	if err != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		return false, err
	}
	name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return false, err
	}
	for part := range strings.SplitSeq(name, "/") {
		if _, err := strconv.Atoi(part); err != nil {
			continue
		}
		_, err := os.Lstat("/proc/self/task/" + part)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, syscall.ENOENT) {
			return false, err
		}
	}
	return false, nil
}
