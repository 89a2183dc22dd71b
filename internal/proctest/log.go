package proctest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
)

// Log is what a process says, for whoever waits for it to say something. The zero value is ready.
type Log struct {
	mu    sync.Mutex // guards what follows
	text  bytes.Buffer
	grown chan struct{} // closed, and made anew, with every write; nil until somebody waits
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grown != nil {
		close(l.grown)
		l.grown = nil
	}
	return l.text.Write(p)
}

// String is all that was said so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// contains reports whether text was said, and gives a channel that is closed when more is.
func (l *Log) contains(text string) (grown <-chan struct{}, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grown == nil {
		l.grown = make(chan struct{})
	}
	return l.grown, bytes.Contains(l.text.Bytes(), []byte(text))
}

// Await waits until p, whose log this is, has said text.
func (l *Log) Await(ctx context.Context, p *Process, text string) error {
	for {
		grown, ok := l.contains(text)
		if ok {
			return nil
		}
		select {
		case <-p.Done():
			// All that it said is here by now.
			if _, ok := l.contains(text); ok {
				return nil
			}
			return fmt.Errorf("process %d has ended before it said %q; it said:\n%s", p.Pid(), text, l)
		case <-ctx.Done():
			return fmt.Errorf("waiting for process %d to say %q: %w; it said:\n%s", p.Pid(), text, context.Cause(ctx),
				l)
		case <-grown:
		}
	}
}
