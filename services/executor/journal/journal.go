package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/pawl-dev/pawl/internal/disk"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/mono"
)

// Failures of a journal.
var (
	ErrLocked  = errs.New(errs.FailedPrecondition, "JOURNAL_LOCKED", "another executor uses this data directory")
	ErrNoSpace = errs.New(errs.ResourceExhausted, "NO_SPACE", "the executor's journal has no space left for another "+
		"call")
	ErrTooLarge = errs.New(errs.ResourceExhausted, "TOO_LARGE", "the record is larger than the executor's journal "+
		"takes")
	ErrUnknown = errs.New(errs.NotFound, "CALL_UNKNOWN", "the journal has no outcome of this call")
	ErrFailed  = errs.New(errs.Unavailable, "JOURNAL_FAILED", "the executor's journal can no longer be written")
)

// Config of a journal. The zero value works.
type Config struct {
	// Quota is how many bytes of records the journal keeps; default 64 MiB. What control has acknowledged is evicted
	// when the quota is exceeded, at least to an eighth of it; a call is refused when calls that are held take the
	// rest.
	Quota        int64
	TombstoneTTL time.Duration // default 7 days
	ResultTTL    time.Duration // how long an outcome that nobody acknowledges is kept; default 24 h
	// NoSync leaves out fdatasync, for tests that count and not lose.
	NoSync bool

	// Clock is what the journal's age passes on; default is the system's.
	Clock mono.Clock
	// Fsync takes the place of fdatasync, for tests: a disk that is slow or broken.
	Fsync func(f *os.File) error
	// WriteAt does the same for a disk that is full.
	WriteAt func(f *os.File, b []byte, off int64) (int, error)
}

func (c *Config) defaults() {
	if c.Clock == nil {
		c.Clock = mono.New()
	}
	c.Quota = cmp.Or(c.Quota, 64<<20)
	c.TombstoneTTL = cmp.Or(c.TombstoneTTL, 7*24*time.Hour)
	c.ResultTTL = cmp.Or(c.ResultTTL, 24*time.Hour)
	if c.WriteAt == nil {
		c.WriteAt = (*os.File).WriteAt
	}
	if c.Fsync == nil {
		c.Fsync = disk.Datasync
	}
	if c.NoSync {
		c.Fsync = func(*os.File) error { return nil }
	}
}

const (
	chunk   = 256 << 10 // the file grows by this, ahead of what is written
	reserve = 64 << 10  // of the allocated space, which Begin leaves to the others
)

// LSN is a position in the sequence of all records, for Wait.
type LSN int64

// Journal is open for one process. Its methods may be called concurrently.
type Journal struct {
	dir   string
	cfg   Config
	lock  *os.File
	since time.Duration // of cfg.Clock, when the journal's age was 0

	mu sync.Mutex // guards what follows
	x  index
	file
	birth birth

	lsn     LSN   // written
	synced  LSN   // on disk
	begun   int64 // calls whose begin is on disk
	syncing bool
	changed *sync.Cond    // of synced, syncing, failed
	failed  error         // a write or fsync that nobody can make undone
	broken  chan struct{} // closed by fail
}

// file is the journal's, as it is written.
type file struct {
	f     *os.File
	end   int64 // of the records
	alloc int64 // of the zeroes behind them
	buf   []byte
}

// birth tells whether the newest incarnation is this process's.
type birth uint8

const (
	unborn  birth = iota
	unsaved       // it is, and the file does not have it
	saved
)

// Open opens or makes the journal in dir. ErrLocked while another process has it.
func Open(dir string, cfg Config) (*Journal, error) {
	cfg.defaults()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the journal's directory: %w", err)
	}
	lock, err := disk.TryLock(filepath.Join(dir, "journal.lock"))
	switch {
	case errors.Is(err, disk.ErrLocked):
		return nil, ErrLocked.With("another executor uses the data directory %s: stop it, or give this one its own "+
			"with --data", dir)
	case err != nil:
		return nil, fmt.Errorf("taking the journal's lock: %w", err)
	}
	j := &Journal{dir: dir, cfg: cfg, lock: lock, broken: make(chan struct{})}
	j.changed = sync.NewCond(&j.mu)
	if err := j.load(); err != nil {
		if j.f != nil {
			j.f.Close()
		}
		lock.Close()
		return nil, fmt.Errorf("opening the journal in %s: %w", dir, err)
	}
	j.expire() // what was expired before stays so
	return j, nil
}

// age is how long the journal was open, in all.
func (j *Journal) age() time.Duration { return j.cfg.Clock.Since(j.since) }

// Age is the journal's time, which Begin.Deadline is in. It passes while the journal is open.
func (j *Journal) Age() time.Duration { return j.age() }

// Close syncs and lets go of the lock.
func (j *Journal) Close() error {
	err := locked(j, func() error { return j.stamp(0) })
	err = errors.Join(err, j.Sync())
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.syncing {
		j.changed.Wait()
	}
	if j.failed == nil {
		j.failed = ErrFailed.With("the journal is closed")
	}
	return errors.Join(err, j.f.Close(), j.lock.Close())
}

// Failed is closed when nothing can be recorded any more: only opening the journal anew tells what is on the disk.
func (j *Journal) Failed() <-chan struct{} { return j.broken }

// Err is why Failed is closed.
func (j *Journal) Err() error { return locked(j, func() error { return j.failed }) }

// fail ends the use of the journal. The caller holds mu.
func (j *Journal) fail(err error) {
	if j.failed == nil {
		j.failed = fmt.Errorf("%w: %w", ErrFailed, err)
		close(j.broken)
	}
}

// ID identifies the journal; a wiped or damaged one gets a new id.
func (j *Journal) ID() string { return locked(j, func() string { return j.x.id }) }

// Epoch is the highest epoch seen of a lane, 0 for none.
func (j *Journal) Epoch(lane string) int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if f := j.x.lanes[lane]; f != nil {
		return f.epoch
	}
	return 0
}

// Revoked is the highest dispatch of a call that must never run, 0 for none.
func (j *Journal) Revoked(callID string) (dispatch uint32, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if r := j.x.revoked[callID]; r != nil {
		return r.dispatch, true
	}
	return 0, false
}

// Lookup returns a copy of what is known of a call.
func (j *Journal) Lookup(callID string) (Call, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	c, ok := j.x.calls[callID]
	if !ok {
		return Call{}, false
	}
	return c.Call, true
}

// Calls returns copies of all calls that match, in no order.
func (j *Journal) Calls(match func(*Call) bool) iter.Seq[Call] {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []Call
	for _, c := range j.x.calls {
		if match(&c.Call) {
			found = append(found, c.Call)
		}
	}
	return slices.Values(found)
}

// Outcome reads the outcome of a call that ended. ErrUnknown for a tombstone and for a call that is not here.
func (j *Journal) Outcome(callID string) ([]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := j.x.calls[callID]
	if c == nil || c.State == Begun || c.State == Tombstone {
		return nil, ErrUnknown
	}
	b := make([]byte, c.size)
	if _, err := j.f.ReadAt(b, c.off); err != nil && !(errors.Is(err, io.EOF) && c.size == 0) {
		return nil, fmt.Errorf("reading an outcome: %w", err)
	}
	return b, nil
}

func locked[T any](j *Journal, f func() T) T {
	j.mu.Lock()
	defer j.mu.Unlock()
	return f()
}

func newID() string { return uuid.NewString() }

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
