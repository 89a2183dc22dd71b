package tarball

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// Pack writes an archive of what is in a directory, in order of the names. Links are in it as links; what is neither a
// file, a directory nor a link is left out. check is asked about each file that was opened, before it is read. A file
// that shrinks while it is read ends the archive with an error; one that grows is cut at the size that it had.
func Pack(ctx context.Context, dir *os.File, to io.Writer, check func(*os.File) error) error {
	p := &packer{ctx: ctx, to: tar.NewWriter(to), check: check}
	if err := p.dir(dir, ""); err != nil {
		return err
	}
	return p.to.Close()
}

type packer struct {
	ctx   context.Context
	to    *tar.Writer
	check func(*os.File) error
	depth int
}

func (p *packer) dir(dir *os.File, prefix string) error {
	if p.depth++; p.depth > maxDepth {
		return refuse(prefix, "is nested deeper than %d directories", maxDepth)
	}
	defer func() { p.depth-- }()
	names, err := namesIn(p.ctx, dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		// What goes away while the directory is read, or becomes a link, was not there.
		err := p.entry(dir, name, path.Join(prefix, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ELOOP) {
			return err
		}
	}
	return nil
}

func namesIn(ctx context.Context, dir *os.File) (names []string, err error) {
	size := 0
	for {
		some, err := dir.Readdirnames(4096)
		for _, name := range some {
			size += len(name)
		}
		names = append(names, some...)
		switch {
		case errors.Is(err, io.EOF):
			slices.Sort(names)
			return names, nil
		case err != nil:
			return nil, err
		case size > maxNames:
			return nil, refuse(dir.Name(), "has more names than can be packed")
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
	}
}

func (p *packer) entry(dir *os.File, name, as string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fail("stat", dir, name, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target, err := readLink(dir, name)
		if err != nil {
			return err
		}
		h := &tar.Header{Typeflag: tar.TypeSymlink, Name: as, Linkname: target, Mode: 0o777}
		return p.to.WriteHeader(h)
	case unix.S_IFREG:
		return p.file(dir, name, as)
	case unix.S_IFDIR:
		return p.subdir(dir, name, as)
	}
	return nil
}

func readLink(dir *os.File, name string) (string, error) {
	buf := make([]byte, 4097)
	n, err := unix.Readlinkat(int(dir.Fd()), name, buf)
	if err != nil {
		return "", fail("readlink", dir, name, err)
	}
	return string(buf[:n]), nil
}

// opened is a name in a directory, open for reading, as check allows it.
func (p *packer) opened(dir *os.File, name string, flags int) (*os.File, fs.FileInfo, error) {
	f, err := openAt(dir, name, unix.O_RDONLY|flags, 0)
	if err != nil {
		return nil, nil, err
	}
	st, err := f.Stat()
	if err == nil && p.check != nil {
		err = p.check(f)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, st, nil
}

// header is what travels of a file beside its content.
func header(st fs.FileInfo, as string) *tar.Header {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: as, Mode: int64(st.Mode().Perm()), ModTime: st.ModTime()}
	if st.IsDir() {
		h.Typeflag, h.Name = tar.TypeDir, as+"/"
	} else {
		h.Size = st.Size()
	}
	return h
}

func (p *packer) subdir(dir *os.File, name, as string) error {
	sub, st, err := p.opened(dir, name, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := p.to.WriteHeader(header(st, as)); err != nil {
		return err
	}
	return p.dir(sub, as)
}

func (p *packer) file(dir *os.File, name, as string) error {
	f, st, err := p.opened(dir, name, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if !st.Mode().IsRegular() {
		return nil // something else took its place
	}
	if err := p.to.WriteHeader(header(st, as)); err != nil {
		return err
	}
	n, err := io.Copy(p.to, io.LimitReader(patient{p.ctx, f}, st.Size()))
	if err == nil && n < st.Size() {
		return refuse(as, "has become shorter while it was packed")
	}
	return err
}

// patient reads until its context ends.
type patient struct {
	ctx context.Context
	io.Reader
}

func (p patient) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.Reader.Read(b)
}
