package programs

import (
	"bytes"
	"sync"
)

// log is what a process says, for readers that wait for it.
type log struct {
	mu    sync.Mutex // guards what follows
	text  bytes.Buffer
	grown chan struct{} // closed, and made anew, with every write
}

// Write implements io.Writer.
func (l *log) Write(p []byte) (int, error) {
	l.grow(p)
	return len(p), nil
}

func (l *log) grow(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	close(l.grown)
	l.grown = make(chan struct{})
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// contains reports whether text was said, and gives a channel that is closed when more is.
func (l *log) contains(text string) (grown <-chan struct{}, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.grown, bytes.Contains(l.text.Bytes(), []byte(text))
}
