package control

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pawl-dev/pawl/internal/disk"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/hostenv"
	"github.com/pawl-dev/pawl/internal/ident"
)

// ErrDataDir says that the data directory is taken.
var ErrDataDir = errs.New(errs.FailedPrecondition, "DATA_DIR_IN_USE", "another control plane uses this data directory")

// DataDir is a data directory that this process holds the lock of.
type DataDir struct {
	// WasOpen says that others could enter the directory until it was locked, so that they may have seen what is in it.
	WasOpen bool

	lock *os.File
	path string // of the lock file
	id   string // random, kept in the lock file: another directory at the same path is another one
}

// LockDataDir makes the data directory, for this user only, and holds its lock until the process ends or Close is
// called.
func LockDataDir(dir string) (*DataDir, error) {
	opened, err := disk.PrivateDir(dir)
	if err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	path, err := filepath.Abs(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("finding the data directory: %w", err)
	}
	f, err := disk.TryLock(path)
	switch {
	case errors.Is(err, disk.ErrLocked):
		return nil, ErrDataDir.With("another control plane uses the data directory %s; give this one its own with "+
			"--data", dir)
	case err != nil:
		return nil, fmt.Errorf("locking the data directory: %w", err)
	}
	d := &DataDir{lock: f, path: path, WasOpen: opened}
	if err := d.identify(); err != nil {
		return nil, errors.Join(fmt.Errorf("reading the lock of the data directory: %w", err), f.Close())
	}
	return d, nil
}

// identify reads the directory's id, and gives it one if it has none.
func (d *DataDir) identify() error {
	b, err := io.ReadAll(io.LimitReader(d.lock, 64))
	if err != nil {
		return err
	}
	if d.id = strings.TrimSpace(string(b)); ident.IsUUID(d.id) {
		return nil
	}
	d.id = ident.New()
	if err := d.lock.Truncate(0); err != nil {
		return err
	}
	if _, err := d.lock.WriteAt([]byte(d.id+"\n"), 0); err != nil {
		return err
	}
	return d.lock.Sync()
}

// Close lets go of the directory.
func (d *DataDir) Close() error { return d.lock.Close() }

// Name stands for the directory at its place, over restarts of the process and of the host.
func (d *DataDir) Name() string { return d.path + "#" + d.id }

// Lock names the lock for replica.Replica: whoever holds it knows that the process which held the lock of the same name
// is dead. That is so for one file of one running kernel. A copy of the directory has the same id, and two containers
// may have the same path.
func (d *DataDir) Lock() (string, error) {
	info, err := d.lock.Stat()
	if err != nil {
		return "", fmt.Errorf("reading the lock of the data directory: %w", err)
	}
	name := d.Name() + "@" + hostenv.BootID()
	if at, ok := info.Sys().(*syscall.Stat_t); ok {
		name += fmt.Sprintf("/%d:%d", at.Dev, at.Ino)
	}
	return name, nil
}
