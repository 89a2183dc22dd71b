package tarball

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Unpack puts what is in an archive into a directory, entry by entry, as it comes. An entry replaces the file or link
// of its name at once, and no directory. It fails with an EntryError at an entry whose name is absolute or has a `..`,
// whose parents are not directories, that is a link which leads out, or that is neither a file, a directory nor a link;
// at more than MaxEntries; and at what is no archive. Entries before that stay. What was unpacked is durable when it
// returns nil.
func Unpack(ctx context.Context, dir *os.File, archive io.Reader) error {
	u := &unpacker{ctx: ctx, dir: dir}
	from := tar.NewReader(archive)
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := from.Next()
		switch {
		case errors.Is(err, io.EOF):
			return u.end()
		case errors.Is(err, tar.ErrHeader), errors.Is(err, io.ErrUnexpectedEOF):
			return refuse("", "the archive is not a whole tar file: %v", err)
		case err != nil:
			return err
		case n >= MaxEntries:
			return refuse(h.Name, "the archive has more than %d entries", MaxEntries)
		}
		if err := u.entry(h, from); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return refuse(h.Name, "the archive ends in the middle of it")
			}
			return err
		}
	}
}

type unpacker struct {
	ctx context.Context
	dir *os.File
}

// end makes durable what was unpacked.
func (u *unpacker) end() error {
	if err := unix.Syncfs(int(u.dir.Fd())); err != nil {
		return &os.PathError{Op: "sync", Path: u.dir.Name(), Err: err}
	}
	return nil
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // a comment, of `git archive` for instance
	}
	parts, ok := split(h.Name)
	switch {
	case !ok:
		return refuse(h.Name, "is not a name below the directory")
	case len(parts) == 0 && h.Typeflag == tar.TypeDir:
		return nil // the directory itself
	case len(parts) == 0:
		return refuse(h.Name, "is the directory itself")
	}
	parent, err := u.parents(parts[:len(parts)-1])
	if err != nil {
		return err
	}
	defer parent.Close()
	name := parts[len(parts)-1]
	switch h.Typeflag {
	case tar.TypeDir:
		return makeDir(parent, name, h)
	case tar.TypeReg:
		return u.file(parent, name, h, content)
	case tar.TypeSymlink:
		if !staysBelow(h.Linkname, len(parts)-1) {
			return refuse(h.Name, "is a link to %.200q, which leads out of the directory, or may", h.Linkname)
		}
		return replace(parent, name, func(temporary string) error {
			return unix.Symlinkat(h.Linkname, int(parent.Fd()), temporary)
		})
	case tar.TypeLink:
		return u.link(parent, name, h)
	}
	return refuse(h.Name, "is neither a file, a directory nor a link")
}

// parents opens the directory that an entry is in, and makes what is missing on the way.
func (u *unpacker) parents(parts []string) (*os.File, error) {
	at, err := openDirAt(u.dir, ".")
	for _, part := range parts {
		if err != nil {
			return nil, err
		}
		if err = unix.Mkdirat(int(at.Fd()), part, 0o777); err != nil && !errors.Is(err, unix.EEXIST) {
			err = fail("mkdir", at, part, err)
		} else {
			err = nil
		}
		above := at
		if err == nil {
			at, err = openDirAt(above, part)
		}
		if cerr := above.Close(); err == nil && cerr != nil {
			err = errors.Join(cerr, at.Close())
		}
	}
	return at, err
}

func makeDir(parent *os.File, name string, h *tar.Header) error {
	err := unix.Mkdirat(int(parent.Fd()), name, uint32(h.Mode)&0o777|0o700) // its owner has to put files into it
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fail("mkdir", parent, name, err)
	}
	d, err := openDirAt(parent, name)
	if err != nil {
		return err
	}
	return d.Close()
}

// replace makes something under a name that nothing has, and then gives it the name of the entry.
func replace(parent *os.File, name string, make func(temporary string) error) error {
	temporary := ".pawl-" + rand.Text() + ".tmp"
	if err := make(temporary); err != nil {
		return errors.Join(fail("make", parent, name, err), discard(parent, temporary))
	}
	fd := int(parent.Fd())
	if err := unix.Renameat(fd, temporary, fd, name); err != nil {
		return errors.Join(fail("rename", parent, name, err), discard(parent, temporary))
	}
	// Two names of one file are not renamed to each other.
	return discard(parent, temporary)
}

// discard removes a name that may be gone.
func discard(parent *os.File, name string) error {
	if err := unix.Unlinkat(int(parent.Fd()), name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fail("remove", parent, name, err)
	}
	return nil
}

func (u *unpacker) file(parent *os.File, name string, h *tar.Header, content io.Reader) error {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") { // a few bytes that stand for any number of zeros
			return refuse(h.Name, "is a sparse file; pack it without its holes")
		}
	}
	return replace(parent, name, func(temporary string) error {
		f, err := openAt(parent, temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, os.FileMode(h.Mode)&0o777|0o200)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, patient{u.ctx, content})
		if err == nil && !h.ModTime.IsZero() {
			at := unix.NsecToTimeval(h.ModTime.UnixNano())
			err = unix.Futimes(int(f.Fd()), []unix.Timeval{at, at})
		}
		return errors.Join(err, f.Close())
	})
}

// link makes another name of a file in the directory.
func (u *unpacker) link(parent *os.File, name string, h *tar.Header) error {
	parts, ok := split(h.Linkname)
	if !ok || len(parts) == 0 {
		return refuse(h.Name, "is a link to %.200q, which is not below the directory", h.Linkname)
	}
	from, err := u.parents(parts[:len(parts)-1])
	if err != nil {
		return err
	}
	defer from.Close()
	return replace(parent, name, func(temporary string) error {
		old := parts[len(parts)-1]
		if err := unix.Linkat(int(from.Fd()), old, int(parent.Fd()), temporary, 0); err != nil {
			return fmt.Errorf("linking to %s: %w", path.Join(parts...), err)
		}
		return nil
	})
}
