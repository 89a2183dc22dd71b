package local

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/internal/disk"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
	"github.com/pawl-dev/pawl/services/executor/sandbox/hostfile"
)

// fileWriter takes the content in a staging file, and Commit puts that in the target's place. What the target was,
// other than its content, stays: see install.
type fileWriter struct {
	ctx    context.Context
	target string
	old    fs.FileInfo  // of the target, nil when there was none
	stage  *os.File     // only its owner can open it
	beside bool         // stage is in the target's directory
	mode   fs.FileMode  // of a new file
	chmod  *fs.FileMode // that the file gets, new or not
	made   []string     // directories that Create made, outermost first
	ended  bool
}

// Create implements sandbox.Sandbox. A link is written through: what it points to is replaced.
func (s *Sandbox) Create(ctx context.Context, path string) (sandbox.FileWriter, error) {
	if strings.HasSuffix(path, "/") {
		return nil, sandbox.ErrIsDir.With("%s: names a directory; end it with the name of the file", path)
	}
	path, err := s.begin(ctx, path)
	if err != nil {
		return nil, err
	}
	target, err := locate(path)
	if err != nil {
		return nil, typed(path, err)
	}
	old, err := os.Lstat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		old = nil
	case err != nil:
		return nil, typed(path, err)
	case old.IsDir():
		return nil, sandbox.ErrIsDir.With("%s: is a directory", path)
	case !old.Mode().IsRegular():
		return nil, notRegular(path, old.Mode())
	default:
		// A rename asks the directory only; who may not write the file may not replace it either.
		if err := unix.Access(target, unix.W_OK); err != nil {
			return nil, typed(path, err)
		}
	}
	w := &fileWriter{ctx: ctx, target: target, old: old, beside: true, mode: 0o666 &^ s.umask}
	if w.made, err = makeParents(filepath.Dir(target)); err != nil {
		return nil, typed(path, err)
	}
	w.stage, err = staging(filepath.Dir(target))
	if err != nil && old != nil && isClosed(err) {
		w.beside = false // the file can be written, its directory cannot
		w.stage, err = staging(os.TempDir())
	}
	if err != nil {
		return nil, typed(path, err)
	}
	return w, nil
}

func staging(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, ".pawl-"+rand.Text()+".tmp"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// isClosed reports whether an error says that a directory takes no new file.
func isClosed(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EROFS)
}

// umask is this process's, which is asked of the kernel because the call that tells it changes it, too.
func umask() fs.FileMode {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "Umask:"); ok {
			if mask, err := strconv.ParseUint(strings.TrimSpace(text), 8, 32); err == nil {
				return fs.FileMode(mask).Perm()
			}
		}
	}
	return 0o022
}

// makeParents is MkdirAll that tells what it made.
func makeParents(dir string) (made []string, err error) {
	err = os.Mkdir(dir, 0o777)
	switch {
	case err == nil:
		return []string{dir}, nil
	case errors.Is(err, fs.ErrNotExist):
		if made, err = makeParents(filepath.Dir(dir)); err != nil {
			return made, err
		}
		if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return made, err
		}
		return append(made, dir), nil
	}
	st, serr := os.Stat(dir)
	switch {
	case serr == nil && st.IsDir():
		return nil, nil
	case serr == nil:
		return nil, syscall.ENOTDIR
	}
	return nil, err
}

func (w *fileWriter) Write(p []byte) (int, error) {
	if err := sandbox.FromContext(w.ctx); err != nil {
		return 0, err
	}
	n, err := w.stage.Write(p)
	return n, typed(w.target, err)
}

// Chmod implements sandbox.FileWriter.
func (w *fileWriter) Chmod(mode fs.FileMode) { w.chmod = new(mode.Perm()) }

// Commit implements sandbox.FileWriter.
func (w *fileWriter) Commit() error {
	if w.ended {
		return sandbox.ErrInvalidArg.With("%s: the write has ended already", w.target)
	}
	defer w.Abort()
	if err := sandbox.FromContext(w.ctx); err != nil {
		return err
	}
	return typed(w.target, w.install())
}

// install puts the content in place. A rename does it at once, and is durable when it returns. Where a rename would
// lose what the file is, the file is written in place: it has other names, an owner or attributes that a new file
// cannot be given here, or a directory that takes no other file under its name.
func (w *fileWriter) install() error {
	if !w.beside || w.linked() || !w.dress() {
		return w.overwrite()
	}
	if err := w.stage.Sync(); err != nil {
		return err
	}
	err := os.Rename(w.stage.Name(), w.target)
	if w.old != nil && (errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EXDEV)) {
		return w.overwrite() // a mount point
	}
	if err != nil {
		return err
	}
	w.ended = true
	err = w.stage.Close()
	for _, dir := range append(w.made, w.target) {
		err = errors.Join(err, disk.SyncDir(filepath.Dir(dir)))
	}
	return err
}

// linked reports whether the file has other names.
func (w *fileWriter) linked() bool {
	if w.old == nil {
		return false
	}
	st, ok := w.old.Sys().(*syscall.Stat_t)
	return ok && st.Nlink > 1
}

// dress gives the staging file mode, owner and attributes of the file that it replaces; false when it cannot. The mode
// comes last, so that nobody can open it before it belongs to its owner.
func (w *fileWriter) dress() bool {
	if w.old == nil {
		return w.stage.Chmod(w.modeOr(w.mode)) == nil
	}
	was, ok := w.old.Sys().(*syscall.Stat_t)
	now, err := w.stage.Stat()
	if !ok || err != nil {
		return false
	}
	if is, ok := now.Sys().(*syscall.Stat_t); !ok || is.Uid != was.Uid || is.Gid != was.Gid {
		if w.stage.Chown(int(was.Uid), int(was.Gid)) != nil {
			return false
		}
	}
	const special = fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	return copyAttributes(w.target, w.stage) && w.stage.Chmod(w.modeOr(w.old.Mode()&(fs.ModePerm|special))) == nil
}

// modeOr is the mode that was asked for, or else another.
func (w *fileWriter) modeOr(other fs.FileMode) fs.FileMode {
	if w.chmod != nil {
		return *w.chmod
	}
	return other
}

// copyAttributes copies extended attributes, access control lists among them; false when one cannot be copied.
func copyAttributes(from string, to *os.File) bool {
	names := make([]byte, 64<<10)
	n, err := unix.Listxattr(from, names)
	if errors.Is(err, unix.ENOTSUP) {
		return true
	}
	if err != nil {
		return false
	}
	value := make([]byte, 64<<10)
	for _, name := range strings.Split(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if name == "" || name == "security.capability" { // which the kernel takes away at a write, too
			continue
		}
		n, err := unix.Getxattr(from, name, value)
		if err != nil {
			return false
		}
		is, err := unix.Fgetxattr(int(to.Fd()), name, value[n:])
		if err == nil && string(value[n:n+is]) == string(value[:n]) {
			continue // as security labels are, which a new file has from its directory
		}
		if unix.Fsetxattr(int(to.Fd()), name, value[:n], 0) != nil {
			return false
		}
	}
	return true
}

// overwrite writes the content into the file that is there. Room for it is made first, so that a full disk changes
// nothing. A crash before it is done leaves a mixture; the staging file beside it then has the new content.
func (w *fileWriter) overwrite() error {
	size, err := w.stage.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := w.stage.Seek(0, io.SeekStart); err != nil {
		return err
	}
	f, err := os.OpenFile(w.target, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := hostfile.RefuseOwn(f); err != nil {
		return err
	}
	if w.old != nil && size > w.old.Size() {
		const keepSize = unix.FALLOC_FL_KEEP_SIZE
		err := unix.Fallocate(int(f.Fd()), keepSize, 0, size)
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			return err
		}
	}
	if err := w.stage.Sync(); err != nil {
		return err
	}
	if w.chmod != nil {
		if err := f.Chmod(*w.chmod); err != nil {
			return err
		}
	}
	if _, err := io.Copy(f, w.stage); err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Sync()
}

// Abort implements sandbox.FileWriter.
func (w *fileWriter) Abort() {
	if w.ended {
		return
	}
	w.ended = true
	w.stage.Close()
	os.Remove(w.stage.Name())
}
