package keeper

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lockFile takes keeper.lock for the life of this process. It is an open file description lock: others can ask whether
// it is held without taking it, and it never leaks into a command because the descriptor closes on exec.
func lockFile(dir string) (f *os.File, ok bool, err error) {
	f, err = os.OpenFile(filepath.Join(dir, "keeper.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("opening the lock: %w", err)
	}
	lk := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lk)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		f.Close()
		return nil, false, nil
	}
	if err != nil {
		f.Close()
		return nil, false, fmt.Errorf("taking the lock: %w", err)
	}
	return f, true, nil
}

// locked reports whether a keeper lives in dir.
func locked(dir string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, "keeper.lock"), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("opening the lock: %w", err)
	}
	defer f.Close()
	lk := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lk); err != nil {
		return false, fmt.Errorf("asking for the lock: %w", err)
	}
	return lk.Type != unix.F_UNLCK, nil
}

// maxSocketPath is sun_path with its final NUL.
const maxSocketPath = 107

// socketAddr names keeper.sock in dir. A path too long for a socket address goes through a descriptor of dir; release
// closes it once the address was used.
func socketAddr(dir string) (addr *net.UnixAddr, release func(), err error) {
	path := filepath.Join(dir, "keeper.sock")
	if len(path) <= maxSocketPath {
		return &net.UnixAddr{Name: path, Net: "unix"}, func() {}, nil
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	name := "/proc/self/fd/" + strconv.Itoa(fd) + "/keeper.sock"
	return &net.UnixAddr{Name: name, Net: "unix"}, func() { unix.Close(fd) }, nil
}

// listen binds keeper.sock, 0600 from its first moment. Only the holder of the lock may: it replaces a dead one's
// socket.
func listen(dir string) (*net.UnixListener, error) {
	if err := os.Remove(filepath.Join(dir, "keeper.sock")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing an old socket: %w", err)
	}
	addr, release, err := socketAddr(dir)
	if err != nil {
		return nil, err
	}
	defer release()
	old := unix.Umask(0o177) // this process does nothing else yet
	l, err := net.ListenUnix("unix", addr)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	l.SetUnlinkOnClose(false)
	return l, nil
}

// sameUser reports whether the peer of conn runs as our user or as root.
func sameUser(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		ok = err == nil && (cred.Uid == 0 || int(cred.Uid) == os.Geteuid())
	})
	return err == nil && ok
}

// outputPipe is a pipe whose read end can wait with a deadline and whose write end blocks, as commands expect.
func outputPipe() (r *os.File, w int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, -1, fmt.Errorf("making a pipe: %w", err)
	}
	if err := unix.SetNonblock(p[0], true); err != nil {
		unix.Close(p[0])
		unix.Close(p[1])
		return nil, -1, fmt.Errorf("making a pipe: %w", err)
	}
	return os.NewFile(uintptr(p[0]), "pipe"), p[1], nil
}

// listenAgain undoes what the parent told this process to ignore and Go's runtime leaves alone: the signals that C
// libraries keep for themselves, which a program started by make or posix_spawn may find ignored. Commands inherit what
// is ignored; every other signal has a handler of Go's and is back at its default after exec.
func listenAgain() {
	const sizeOfMask = 8
	var initial [4]uint64 // a struct sigaction: SIG_DFL, no flags, no mask
	for _, s := range []uintptr{32, 34} {
		// It can only fail for a signal that does not exist.
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, s, uintptr(unsafe.Pointer(&initial)), 0, sizeOfMask, 0, 0)
	}
}
