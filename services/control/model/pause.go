package model

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// Pause is a pause that a provider has asked for.
type Pause struct {
	Left  time.Duration // 0 is no pause
	Kind  Kind          // of the error that asked for it
	Cause string        // its text, see Error.Text
}

// Pauses keeps pauses for all replicas of a database. A key names a model and the provider's key, and tells neither.
// Clocks of replicas are not compared: durations are told, and times are those of the database.
type Pauses interface {
	// PauseModel makes the pause of key end after p.Left, unless it ends later already.
	PauseModel(ctx context.Context, key string, p Pause) error
	// ModelPause is the pause that is on, the zero value when there is none.
	ModelPause(ctx context.Context, key string) (Pause, error)
}

const (
	// MaxPause is the longest pause that anyone waits for.
	MaxPause = 5 * time.Minute
	// lookEvery is how often the pause of a key is read at most, while its model is asked.
	lookEvery = time.Second
	// lookAgain is when it is read again after the database has not answered.
	lookAgain = 10 * time.Second
	// lookFor is how long a call waits for the database. One that does not answer in time keeps no call.
	lookFor = 250 * time.Millisecond
	// alike is how far the ends of two pauses may be apart that count as one: a row is written a moment after its pause
	// began.
	alike = time.Second
)

// shared is what the limiters of a Registry share with other replicas.
type shared struct {
	pauses Pauses
	log    *slog.Logger
	down   atomic.Bool // the log has been told
}

// tell notes how an access to the database went, and tells the log when that changes to the worse.
func (s *shared) tell(ctx context.Context, err error) {
	if err == nil {
		s.down.Store(false)
	} else if !s.down.Swap(true) {
		s.log.WarnContext(ctx, "pauses of models are not shared with other replicas", "error", err)
	}
}

// Share makes the limiters of r, those that it has and those to come, share their pauses with all replicas that use the
// same database.
func (r *Registry) Share(p Pauses, log *slog.Logger) { r.shared.Store(&shared{pauses: p, log: log}) }

// peers is how a Limiter knows the pauses of other replicas. The zero value knows none.
type peers struct {
	shared  *atomic.Pointer[shared] // nil shares nothing; so does one of nil
	key     string
	next    time.Time     // when the row may be read again
	looking chan struct{} // closed when the look that goes on is over; nil when none does
	written time.Time     // the end of the pause that is in the row
	again   time.Time     // when the row may be written again, after that has failed
}

// shares is where the pauses of other replicas are; nil for nowhere.
func (p *peers) shares() *shared {
	if p.shared == nil {
		return nil
	}
	return p.shared.Load()
}

// look takes a pause that another replica was told of, unless that was looked for a moment ago. Calls that come
// meanwhile wait for the same look. It ends early with ctx.
func (l *Limiter) look(ctx context.Context) {
	s := l.peers.shares()
	if s == nil {
		return
	}
	l.mu.Lock()
	if wait := l.peers.looking; wait != nil {
		l.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
		}
		return
	}
	asked := time.Now()
	if asked.Before(l.peers.next) {
		l.mu.Unlock()
		return
	}
	over := make(chan struct{})
	l.peers.looking = over
	l.mu.Unlock()

	// Others wait for the answer: whoever asks first may leave.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookFor)
	p, err := s.pauses.ModelPause(bounded, l.peers.key)
	cancel()
	s.tell(ctx, err)

	l.mu.Lock()
	defer l.mu.Unlock()
	defer close(over)
	l.peers.looking, l.peers.next = nil, asked.Add(lookEvery)
	if err != nil {
		l.peers.next = asked.Add(lookAgain)
		return
	}
	if until := asked.Add(p.Left); p.Left > 0 && until.After(l.until.Add(alike)) {
		l.peers.written = until
		l.begin(until, p.Left, &Error{Kind: p.Kind, Retryable: true, Text: p.Cause})
	}
}

// publish tells other replicas of the pause that is on, if it ends later than they know. Should that fail, those who
// wait for the pause try again, at most once a second.
func (l *Limiter) publish(ctx context.Context) {
	s := l.peers.shares()
	if s == nil {
		return
	}
	l.mu.Lock()
	until, before := l.until, l.peers.written
	now := time.Now()
	if l.cause == nil || !until.After(before.Add(alike)) || !until.After(now) || now.Before(l.peers.again) {
		l.mu.Unlock()
		return
	}
	p := Pause{Left: time.Until(until), Kind: l.cause.Kind, Cause: l.cause.Text}
	l.peers.written = until
	l.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookFor)
	defer cancel()
	err := s.pauses.PauseModel(ctx, l.peers.key, p)
	s.tell(ctx, err)
	if err == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.peers.written.Equal(until) {
		l.peers.written, l.peers.again = before, time.Now().Add(lookEvery)
	}
}
