// Package sse writes streams of server-sent events: whole frames, heartbeats while nothing happens, and an end for
// readers that take nothing.
package sse

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/contain"
)

const (
	// HeartbeatEvery is how often a stream that has nothing to say says so, so that proxies keep it open.
	HeartbeatEvery = 15 * time.Second
	// Stalled is how long a reader may take nothing before it counts as gone. It slows nobody meanwhile: events wait in
	// the log.
	Stalled = 2 * time.Minute
)

// Heartbeat is a comment, which readers ignore. It stands alone: some drop every block that begins with a comment.
const Heartbeat = ": heartbeat\n\n"

// SetHeaders are those of a stream of events. The last one keeps nginx, and proxies that follow it, from holding events
// back.
func SetHeaders(head http.Header, cacheControl string) {
	head.Set("Content-Type", "text/event-stream")
	head.Set("Cache-Control", cacheControl)
	head.Set("Connection", "keep-alive")
	head.Set("X-Accel-Buffering", "no")
}

// AppendFrame adds one event. A negative id is none: the reader's cursor stays where it is. data is one line.
func AppendFrame(dst []byte, event string, id int64, data []byte) []byte {
	dst = append(append(dst, "event: "...), event...)
	if id >= 0 {
		dst = strconv.AppendInt(append(dst, "\nid: "...), id, 10)
	}
	dst = append(append(dst, "\ndata: "...), data...)
	return append(dst, "\n\n"...)
}

// ParseID reads the header Last-Event-ID, which holds the id of an event: a cursor. ok is false when it is none.
func ParseID(text string) (seq int64, ok bool) {
	seq, err := strconv.ParseInt(text, 10, 64)
	return seq, err == nil && text[0] >= '0' && text[0] <= '9'
}

// Stream writes to one reader. Several may write at once.
type Stream struct {
	mu  sync.Mutex // guards what follows
	w   http.ResponseWriter
	ctl *http.ResponseController
}

// New makes a Stream to the reader of a response. Its headers have been written, or are with the first Write.
func New(w http.ResponseWriter) *Stream {
	return &Stream{w: w, ctl: http.NewResponseController(w)}
}

// Write sends blocks at once, as a whole; none sends the headers only. It fails when the reader has left or has taken
// nothing for Stalled.
func (s *Stream) Write(blocks []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.ctl.SetWriteDeadline(time.Now().Add(Stalled)) // some writers have none
	if _, err := s.w.Write(blocks); err != nil {
		return err
	}
	return s.ctl.Flush()
}

// Beat writes heartbeats until the returned function is called, which waits for the last one.
func (s *Stream) Beat() (stop func()) {
	return await.Repeat(HeartbeatEvery, func() bool {
		// Whoever writes events finds out why one could not be written.
		return contain.Do(func() error { return s.Write([]byte(Heartbeat)) }) == nil
	})
}
