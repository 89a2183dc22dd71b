package platformtest

import (
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// Disk holds a machine's journal.
type Disk struct {
	dir string

	mu     sync.Mutex // guards what follows
	full   bool
	onSync func() error
	synced []byte // the journal as it was at the last sync
}

// Fill leaves no space on the disk, or makes room again.
func (d *Disk) Fill(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

// OnSync is called before every sync; an error is what the sync comes to.
func (d *Disk) OnSync(f func() error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onSync = f
}

// Copy is the content of the disk as it is now.
func (d *Disk) Copy(t testing.TB) []byte {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	b, err := os.ReadFile(filepath.Join(d.dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Restore sets the disk back to a copy, of itself or of another one. No daemon may run on it.
func (d *Disk) Restore(t testing.TB, content []byte) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.synced = content
	if err := os.WriteFile(filepath.Join(d.dir, "journal"), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Lose replaces the disk by an empty one.
func (d *Disk) Lose(t testing.TB) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dir, d.synced = t.TempDir(), nil
}

// revert drops what was not synced.
func (d *Disk) revert(t testing.TB) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := os.WriteFile(filepath.Join(d.dir, "journal"), d.synced, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (d *daemon) fsync(f *os.File) error {
	disk := d.m.Disk
	disk.mu.Lock()
	onSync := disk.onSync
	disk.mu.Unlock()
	if onSync != nil {
		if err := onSync(); err != nil {
			return err
		}
	}
	if d.isDead() {
		return errDead
	}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return err
	}
	b := make([]byte, info.Size())
	_, err = f.ReadAt(b, 0)
	disk.mu.Lock()
	defer disk.mu.Unlock()
	disk.synced = b
	return err
}

func (d *daemon) writeAt(f *os.File, b []byte, off int64) (int, error) {
	if d.isDead() {
		return 0, errDead
	}
	d.m.Disk.mu.Lock()
	full := d.m.Disk.full
	d.m.Disk.mu.Unlock()
	if full {
		return 0, syscall.ENOSPC
	}
	return f.WriteAt(b, off)
}
