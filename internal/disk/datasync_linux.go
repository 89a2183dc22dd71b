package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Datasync makes the content of a file durable, and of what is known about it only what is needed to read that.
func Datasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
