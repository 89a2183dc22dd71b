package keeper

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Output that could not be read is not deleted: when its command is forgotten, its directory moves from calls/ to
// preserved/. There it stays for a while, within bounds.
const (
	preservedDir = "preserved"
	// unreadMark is a directory beside the output that the daemon could not read.
	unreadMark = "unread"

	preserveFor   = 7 * 24 * time.Hour
	preserveBytes = 1 << 30
	preserveCount = 1000
)

// removeFiles removes the files of a finished command, unless they are not what they should be.
func (k *keeper) removeFiles(id string, e *end) error {
	dir := filepath.Join(k.dir, "calls", id)
	if !unreadable(dir, e) {
		return os.RemoveAll(dir)
	}
	return errors.Join(k.preserve(id), k.expirePreserved())
}

// preserve moves the files of a command to where they stay for a while.
func (k *keeper) preserve(id string) error {
	to := filepath.Join(k.dir, preservedDir, id)
	err := os.MkdirAll(filepath.Dir(to), 0o700)
	if err == nil {
		err = os.Rename(filepath.Join(k.dir, "calls", id), to)
	}
	if err == nil {
		now := time.Now() // since when it is preserved
		err = os.Chtimes(to, now, now)
	}
	if err == nil {
		k.log.Warn("output that could not be read is preserved", "id", id, "path", to)
	}
	return err
}

// isMarked reports whether the daemon has said that it could not read the output in dir.
func isMarked(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, unreadMark))
	return err == nil
}

// unreadable reports whether the daemon could not read the output in dir, or will not find it as e says.
func unreadable(dir string, e *end) bool {
	if isMarked(dir) {
		return true
	}
	for name, size := range map[string]int64{"stdout": e.Stdout, "stderr": e.Stderr} {
		st, err := os.Lstat(filepath.Join(dir, name))
		if err == nil && (!st.Mode().IsRegular() || st.Size() < size) {
			return !e.Interrupted
		}
	}
	return false
}

// tidy removes, or preserves, what an earlier keeper did not come to remove: output of commands that the log does not
// know. Without a whole log nobody can tell.
func (k *keeper) tidy(wholeLog bool) error {
	if !wholeLog {
		return k.expirePreserved()
	}
	entries, err := os.ReadDir(filepath.Join(k.dir, "calls"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for _, e := range entries {
		dir := filepath.Join(k.dir, "calls", e.Name())
		switch {
		case k.calls[e.Name()] != nil:
		case isMarked(dir):
			err = errors.Join(err, k.preserve(e.Name()))
		default:
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return errors.Join(err, k.expirePreserved())
}

// expirePreserved removes what is too old, and the oldest of what is too much.
func (k *keeper) expirePreserved() error {
	root := filepath.Join(k.dir, preservedDir)
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	type item struct {
		path string
		at   time.Time
	}
	var all []item
	for _, e := range entries {
		if st, serr := e.Info(); serr == nil {
			all = append(all, item{filepath.Join(root, e.Name()), st.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b item) int { return cmp.Or(b.at.Compare(a.at), cmp.Compare(a.path, b.path)) })
	total := int64(0)
	for i, it := range all {
		total += sizeBelow(it.path)
		if i >= preserveCount || i > 0 && total > preserveBytes || time.Since(it.at) > preserveFor {
			err = errors.Join(err, os.RemoveAll(it.path))
		}
	}
	return err
}

// sizeBelow is about how many bytes a directory takes. What cannot be looked at counts for nothing: its age bounds it.
func sizeBelow(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if st, err := e.Info(); err == nil {
			n += st.Size()
		}
		return nil
	})
	return n
}
