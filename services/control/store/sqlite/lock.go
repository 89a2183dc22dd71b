package sqlite

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pawl-dev/pawl/internal/disk"
)

// lockFile takes the lock that makes this process the only one to open the database. The lock is on a file beside it:
// SQLite drops its own locks when any descriptor of the database file is closed.
func lockFile(path string) (unlock func() error, err error) {
	f, err := disk.TryLock(path + ".lock")
	switch {
	case errors.Is(err, disk.ErrLocked):
		holder, _ := os.ReadFile(path + ".lock")
		return nil, ErrInUse.With("the database %s is in use by process %s: stop it, or use Postgres to run several",
			path, strings.TrimSpace(string(holder)))
	case err != nil:
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
