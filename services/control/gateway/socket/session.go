package socket

import (
	"context"
	"errors"
	"sync"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/contain"
)

// ErrGone says that the reader has left, or is being left.
var ErrGone = errors.New("the reader has left")

// Session is what goes on over a socket: a message may begin a task, which writes what it has to say until it ends.
type Session struct {
	*Conn
	slots chan struct{}     // one for each task
	leave func(cause error) // ends the context of the session

	mu     sync.Mutex // guards ending: no task begins after it
	ending bool
	tasks  sync.WaitGroup
}

// NewSession makes a Session with at most so many tasks at once. leave ends the context that the session and its tasks
// run in: it is called with ErrStalled when the peer takes nothing.
func NewSession(c *Conn, tasks int, leave context.CancelCauseFunc) *Session {
	return &Session{Conn: c, slots: make(chan struct{}, tasks), leave: leave}
}

// Go begins a task; false when there are as many as there may be, or the session ends. A panic ends the task only.
func (s *Session) Go(task func() error, failed func(error)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return false
	}
	select {
	case s.slots <- struct{}{}:
	default:
		return false
	}
	s.tasks.Go(func() {
		defer func() { <-s.slots }()
		if err := contain.Do(task); err != nil && !errors.Is(err, ErrGone) {
			failed(err)
		}
	})
	return true
}

// Run hands each message to handle, one after the other, until the peer leaves, handle fails, or ctx ends. Then tasks
// get the time to say why they end: their context has to be one that ends with ctx. It closes the socket as closing
// says of ctx's cause, and after a binary message says binary first. Tasks may still run when it returns: Wait waits
// for them.
func (s *Session) Run(
	ctx context.Context, handle func(text []byte) error, closing func(cause error) (Code, string),
	binary func() []byte,
) {
	defer await.Repeat(pingEvery, s.beat)()
	pending := context.AfterFunc(ctx, func() { s.end(closing(context.Cause(ctx))) })
	var err error
	for err == nil {
		var text []byte
		if text, err = s.Read(); err == nil {
			err = handle(text)
		}
	}
	switch {
	case errors.Is(err, ErrBinary):
		_ = s.Write(binary()) // the socket ends either way
		s.Close(Unsupported, "Binary messages are not supported")
	case errors.Is(err, ErrTooLarge):
		s.Close(TooBig, "")
	case pending():
		s.Close(Normal, "")
	}
}

// beat pings the peer, and leaves it when it does not answer. A ping keeps proxies from closing an idle socket, too.
func (s *Session) beat() (again bool) {
	err := contain.Do(s.ping)
	if errors.Is(err, ErrStalled) {
		s.leave(err)
	}
	return err == nil // whoever reads finds out what else it was
}

// end lets the tasks say their last words, and closes the socket.
func (s *Session) end(code Code, reason string) {
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	s.leaving.Store(true)
	s.tasks.Wait()
	s.Close(code, reason)
}

// Wait waits for the tasks. Their context has to have ended.
func (s *Session) Wait() { s.tasks.Wait() }
