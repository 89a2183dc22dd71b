package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// PrivateDir sees to a directory that nobody but this process's user can enter, and makes it if need be. repaired says
// that others could enter it until now. The error of a directory that cannot be made private says what to do.
func PrivateDir(path string) (repaired bool, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return false, err
	}
	d, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY, 0) // what is looked at is what is changed
	if err != nil {
		return false, err
	}
	repaired, err = makePrivate(d)
	return repaired, errors.Join(err, d.Close())
}

func makePrivate(d *os.File) (repaired bool, err error) {
	st, err := d.Stat()
	if err != nil {
		return false, err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && int(sys.Uid) != os.Geteuid() {
		return false, fmt.Errorf("%s belongs to user %d, who can see all that is in it, and this process runs as "+
			"user %d: "+
			"use a directory below it, or make it over with chown", d.Name(), sys.Uid, os.Geteuid())
	}
	const others fs.FileMode = 0o077
	if st.Mode().Perm()&others == 0 {
		return false, nil
	}
	if err := d.Chmod(st.Mode().Perm() &^ others); err != nil {
		return false, fmt.Errorf("others can enter %s (mode %v), and that cannot be changed: %w; use another directory",
			d.Name(), st.Mode().Perm(), err)
	}
	// A file system without modes takes every change and makes none.
	if st, err = d.Stat(); err == nil && st.Mode().Perm()&others != 0 {
		err = fmt.Errorf("others can enter %s (mode %v), and its file system cannot keep them out: use a directory "+
			"of another one",
			d.Name(), st.Mode().Perm())
	}
	return err == nil, err
}
