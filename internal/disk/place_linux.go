package disk

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Place names a file among all files, so that a copy of its directory can be told from the directory: by the number of
// its inode and, where the file system knows it, by the time at which the inode was made. A name does not change when
// the file is renamed, written to, or found again after a restart of the host.
func Place(f *os.File) (string, error) {
	var at unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &at)
	if err != nil {
		return "", &os.PathError{Op: "statx", Path: f.Name(), Err: err}
	}
	if at.Mask&unix.STATX_BTIME == 0 {
		return fmt.Sprint(at.Ino), nil
	}
	return fmt.Sprintf("%d:%d.%09d", at.Ino, at.Btime.Sec, at.Btime.Nsec), nil
}
