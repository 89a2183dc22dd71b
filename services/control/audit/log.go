package audit

import (
	"cmp"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
)

const (
	// maxQueue bounds how many records wait to be written, or are reserved.
	maxQueue = 10_000
	// maxBatch is how many are written at once.
	maxBatch = 500
	// maxText bounds each text of a record in bytes.
	maxText = 1024
	// again is how long after a failed write the next one comes.
	again = time.Second
	// lastLimit bounds the last write of a process.
	lastLimit = 5 * time.Second
)

// Log writes records. All methods may be called concurrently.
type Log struct {
	store Store
	log   *slog.Logger
	wake  chan struct{}

	mu    sync.Mutex // guards what follows
	taken int        // records that are reserved and not written
	queue []*Record
	ended bool
}

// NewLog makes a Log. Run writes what it gets. A nil log is the default.
func NewLog(store Store, log *slog.Logger) *Log {
	if log == nil {
		log = slog.Default()
	}
	return &Log{store: store, log: log, wake: make(chan struct{}, 1)}
}

// Record is room for one event.
type Record struct {
	log   *Log
	event Event
	done  chan struct{} // closed when it is stored
	given bool          // to the queue, or given back, or stored; guarded by the log's mu
}

// Reserve takes room for one event, which Write or Fill fills and Release gives back. Fails with ErrAway. A nil Log has
// no records: its Record is nil, of which all methods but Release do nothing.
func (l *Log) Reserve() (*Record, error) {
	if l == nil {
		return nil, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || l.taken >= maxQueue {
		return nil, ErrAway
	}
	l.taken++
	return &Record{log: l, done: make(chan struct{})}, nil
}

// Release gives back room that was not written into.
func (r *Record) Release() {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if !r.given {
		r.given = true
		r.log.taken--
	}
}

// Fill takes the event, without its id and time, for a transaction that does what the event tells of and stores it: see
// Event. Write follows, and does nothing after Stored.
func (r *Record) Fill(e Event) {
	if r != nil {
		r.event = prepare(e, ident.New())
	}
}

// Event is what Fill has taken, nil without it.
func (r *Record) Event() *Event {
	if r == nil || r.event.ID == "" {
		return nil
	}
	return &r.event
}

// Stored says that a transaction has stored Event.
func (r *Record) Stored() {
	if r == nil {
		return
	}
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if !r.given {
		r.given = true
		r.log.taken--
		close(r.done)
	}
}

// prepare is an event as every database takes it.
func prepare(e Event, id string) Event {
	for _, text := range []*string{&e.Who.Name, &e.Who.OnBehalfOf, &e.Who.Source, &e.Method, &e.Resource, &e.Reason} {
		*text = storable(*text)
	}
	e.ID = id
	return e
}

// Write hands over the event, without its id and time, unless it is stored. Only the first one counts. The id of what
// Fill has taken is kept: should its transaction have stored it after all, with the answer lost, it is there once.
func (r *Record) Write(e Event) {
	if r == nil {
		return
	}
	l := r.log
	l.mu.Lock()
	if r.given {
		l.mu.Unlock()
		return
	}
	r.given, r.event = true, prepare(e, cmp.Or(r.event.ID, ident.New()))
	l.queue = append(l.queue, r)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default: // it is awake
	}
}

// storable is a text as every database takes it.
func storable(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Wait returns when the event is stored. Fails with ErrAway when ctx ends before: it will be stored all the same,
// unless the process ends.
func (r *Record) Wait(ctx context.Context) error {
	if r == nil {
		return nil
	}
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return ErrAway
	}
}

// Refused puts on record that somebody was refused, and returns with what: err, or ErrAway. A nil Log has no records.
func Refused(ctx context.Context, l *Log, e Event, err error) error {
	e.Allowed = false
	if known, ok := errs.Public(err); ok {
		e.Reason = known.Reason()
	}
	r, away := l.Reserve()
	if away == nil {
		r.Write(e)
		away = r.Wait(ctx)
	}
	if away != nil {
		return away
	}
	return err
}

// Run writes until ctx ends, and what is in the queue then once more.
func (l *Log) Run(ctx context.Context) error {
	failed := false
	for ctx.Err() == nil {
		select {
		case <-l.wake:
		case <-ctx.Done():
		}
		for l.pending() && ctx.Err() == nil {
			err := l.flush(ctx)
			if err != nil && !failed && ctx.Err() == nil {
				l.log.WarnContext(ctx, "writing the audit log failed, trying again", "error", err)
			}
			if failed = err != nil; failed {
				_ = await.Sleep(ctx, again) // its end is looked at above
			}
		}
	}
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLimit)
	defer cancel()
	for l.pending() {
		if err := l.flush(last); err != nil {
			l.log.ErrorContext(ctx, "the end of the audit log is lost", "error", err)
			return nil
		}
	}
	return nil
}

func (l *Log) pending() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue) > 0
}

// flush writes the first records of the queue. What fails goes to its end, so that no record keeps others from being
// written: after a batch that failed each is written alone.
func (l *Log) flush(ctx context.Context) error {
	l.mu.Lock()
	n := min(len(l.queue), maxBatch)
	batch := l.queue[:n:n]
	l.queue = l.queue[n:]
	l.mu.Unlock()
	err := l.write(ctx, batch)
	if err == nil || n == 1 {
		return l.keep(batch, err)
	}
	var failed []*Record
	for i, r := range batch {
		if one := l.write(ctx, batch[i:i+1]); one != nil {
			failed = append(failed, r)
			if len(failed) == i+1 && i >= 2 { // the database is away
				failed = append(failed, batch[i+1:]...)
				break
			}
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return l.keep(failed, err)
}

// keep puts records whose write has failed back.
func (l *Log) keep(failed []*Record, err error) error {
	if err == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, failed...)
	return err
}

// write stores records and tells who waits for them.
func (l *Log) write(ctx context.Context, batch []*Record) error {
	events := make([]Event, len(batch))
	for i, r := range batch {
		events[i] = r.event
	}
	if err := contain.Do(func() error { return l.store.AppendAudit(ctx, events) }); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken -= len(batch)
	for _, r := range batch {
		close(r.done)
	}
	return nil
}
