//go:build unix

package sqlite

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// lockFile takes the lock that makes this process the only one to open the database. The lock is on a file beside it: SQLite
// drops its own locks when any descriptor of the database file is closed.
func lockFile(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the database: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path + ".lock")
		f.Close() //nolint:errcheck // the first failure is the one that matters
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrInUse.With("the database %s is in use by process %s: stop it, or use Postgres to run several",
				path, strings.TrimSpace(string(holder)))
		}
		return nil, fmt.Errorf("locking the database: %w", err)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintln(f, os.Getpid())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking the database: %w", err), f.Close())
	}
	return f.Close, nil
}
