package sqlite

import (
	"errors"
	"fmt"

	modernc "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/pawl-dev/pawl/internal/errs"
)

// Failures of the database itself.
var (
	// ErrInUse says that another process, or another Store of this one, has the file open.
	ErrInUse = errs.New(errs.FailedPrecondition, "DATABASE_IN_USE", "the database is in use by another process")
	// ErrNewerFormat says that a newer version of this program has migrated the file.
	ErrNewerFormat = errs.New(errs.FailedPrecondition, "DATABASE_NEWER", "the database was written by a newer version")
	// ErrFull says that the disk is. What was accepted is kept, and goes on when there is space.
	ErrFull = errs.New(errs.Unavailable, "DATABASE_FULL", "the disk of the database is full: make room and try again")
	// ErrUnavailable says that the file cannot be used at present. The same operation may succeed later. Its reason is
	// not Postgres's: nobody watches a file and tells the log of its outage, so each failure is told where it happens.
	ErrUnavailable = errs.New(errs.Unavailable, "DATABASE_FILE_UNUSABLE",
		"the database cannot be used at present; the server's log says why")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("the database is closed")
)

// hints tell what an operator can do about the driver's primary result codes.
var hints = map[int]string{
	lib.SQLITE_BUSY:     "another program holds a lock on the database file; stop it",
	lib.SQLITE_LOCKED:   "another connection holds a lock on a table",
	lib.SQLITE_IOERR:    "reading or writing the database file failed; check the disk",
	lib.SQLITE_READONLY: "the database file cannot be written; check its owner and mode",
	lib.SQLITE_CANTOPEN: "the database file cannot be opened; check the directory's owner and mode",
	lib.SQLITE_CORRUPT:  "the database file is damaged; restore a backup",
	lib.SQLITE_NOTADB:   "the file is not a SQLite database",
}

// lasting are the result codes that no repetition of the operation makes good.
var lasting = map[int]bool{lib.SQLITE_CORRUPT: true, lib.SQLITE_NOTADB: true}

// explain adds to an error of the driver what it means here.
func explain(err error) error {
	var e *modernc.Error
	if errors.As(err, &e) {
		if e.Code()&0xff == lib.SQLITE_FULL {
			return fmt.Errorf("%w (%w)", ErrFull, err)
		}
		hint, ok := hints[e.Code()&0xff]
		switch {
		case ok && !lasting[e.Code()&0xff]:
			return fmt.Errorf("%w: %s (%w)", ErrUnavailable, hint, err)
		case ok:
			return fmt.Errorf("%s: %w", hint, err)
		}
	}
	return err
}
