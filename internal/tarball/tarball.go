// Package tarball makes a tar archive of a directory, and puts what is in one into a directory.
//
//	Pack:    a directory ──▶ names in order ──▶ headers and content
//	Unpack:  entry ──▶ is its name below the directory? ──▶ its parents, which are no links ──▶ a file, in one rename
//
// Both walk from an open directory, name by name, and follow no link on the way: whoever puts links in the place of
// directories meanwhile gains nothing. Memory does not grow with the archive, but with the number of names in one
// directory.
//
// What travels: regular files, directories, symbolic links and, into a directory, hard links; permission bits and times
// of change. Owners, set-user bits and extended attributes do not.
package tarball

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// MaxEntries bounds the entries of an archive that is unpacked: each costs an inode.
	MaxEntries = 250_000
	// maxDepth bounds how deep directories are nested: each level is an open file.
	maxDepth = 200
	// maxNames bounds the bytes of the names in one directory.
	maxNames = 8 << 20
)

// EntryError says which entry of an archive cannot be unpacked, or packed, and why. It is the archive's fault, or that
// of what is in the directory, not the system's.
type EntryError struct{ Name, Why string }

// Error implements error.
func (e *EntryError) Error() string { return fmt.Sprintf("%.200q: %s", e.Name, e.Why) }

func refuse(name, format string, args ...any) error {
	return &EntryError{name, fmt.Sprintf(format, args...)}
}

// openAt opens a name in a directory. It follows no link and waits for no pipe.
func openAt(dir *os.File, name string, flags int, mode os.FileMode) (*os.File, error) {
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	for {
		fd, err := unix.Openat(int(dir.Fd()), name, flags, uint32(mode.Perm()))
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path.Join(dir.Name(), name)), nil
		case !errors.Is(err, unix.EINTR):
			return nil, fail("open", dir, name, err)
		}
	}
}

// openDirAt opens a directory in a directory. A link to one is none.
func openDirAt(dir *os.File, name string) (*os.File, error) {
	f, err := openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, refuse(path.Join(dir.Name(), name), "is no directory, and nothing is written through a link")
	}
	return f, err
}

func fail(op string, dir *os.File, name string, err error) error {
	return &os.PathError{Op: op, Path: path.Join(dir.Name(), name), Err: err}
}

// split is a name below the directory, in parts: without empty ones and `.`. ok is false for a name that is absolute,
// has a `..`, or cannot be a name.
func split(name string) (parts []string, ok bool) {
	if strings.HasPrefix(name, "/") || strings.ContainsRune(name, 0) || len(name) > 4096 {
		return nil, false
	}
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			return nil, false
		default:
			parts = append(parts, part)
		}
	}
	return parts, len(parts) <= maxDepth
}

// staysBelow reports whether a link with this many directories above it leads to a place below the directory. Only the
// beginning of a target may have `..`: behind a name, which may be a link itself, it can lead anywhere.
func staysBelow(target string, depth int) bool {
	if target == "" || strings.HasPrefix(target, "/") {
		return false
	}
	named := false
	for part := range strings.SplitSeq(target, "/") {
		switch {
		case part == "" || part == ".":
		case part != "..":
			named = true
		case named || depth == 0:
			return false
		default:
			depth--
		}
	}
	return true
}
