package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pawl-dev/pawl/internal/disk"
)

func (j *Journal) path() string { return filepath.Join(j.dir, "journal") }

// load reads the file, cuts a torn end, and makes a new file where there is none.
func (j *Journal) load() error {
	// Left by a compaction that was interrupted before its rename.
	if err := os.Remove(j.path() + ".new"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	b, err := os.ReadFile(j.path())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	j.x = newIndex()
	if len(b) < len(magic) {
		b = []byte(magic)
	}
	if string(b[:len(magic)]) != magic {
		return fmt.Errorf("%s is not a journal that this version reads", j.path())
	}
	end, hole, err := j.replay(b)
	if err != nil {
		return err
	}
	j.x.sort()
	j.since = j.cfg.Clock() - j.x.age
	place, err := disk.Place(j.lock)
	if err != nil {
		return err
	}
	if j.x.id == "" || hole || j.x.place != place {
		// What could be read is kept; what an absence proves begins anew.
		j.end, j.x.place = end, place
		return j.create()
	}
	return j.reopen(end)
}

// replay takes in every whole record and returns where the last one ends, and whether some in between were not
// readable.
func (j *Journal) replay(b []byte) (end int64, hole bool, err error) {
	end = int64(len(magic))
	for {
		payload, n, ok := unframe(b[end:])
		if !ok {
			skip := next(b[end:])
			if skip < 0 {
				return end, hole, nil
			}
			hole = true
			end += int64(skip)
			continue
		}
		if err := j.x.apply(payload, end+frameHead); err != nil {
			return 0, hole, fmt.Errorf("%w at %d: this version does not read it", err, end)
		}
		end += int64(n)
	}
}

// create gives the journal a new identity and writes what is in the index to a new file.
func (j *Journal) create() error {
	j.x.id = newID()
	old, err := os.Open(j.path())
	if err == nil {
		j.f = old
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return j.Compact()
}

// reopen goes on behind the last whole record. What is behind it is cut off, so that no old byte is ever read as a
// record.
func (j *Journal) reopen(end int64) error {
	f, err := os.OpenFile(j.path(), os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	j.f = f
	if err := f.Truncate(end); err != nil {
		return fmt.Errorf("cutting the torn end: %w", err)
	}
	j.end, j.alloc = end, end
	// A full disk is no reason not to start: results are still to be delivered.
	if err := j.grow(reserve); err != nil && !errors.Is(err, ErrNoSpace) {
		return err
	}
	j.lsn++ // what was replayed may be in the page cache only
	return nil
}
