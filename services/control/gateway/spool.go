package gateway

import (
	"net/http"
	"strconv"
	"time"

	"github.com/pawl-dev/pawl/services/control/gateway/sse"
)

// maxSpool is how many bytes of an answer are kept before it is sent in parts.
const maxSpool = 1 << 20

// spool is an answer of any size: one that is short is sent as a whole, with its length.
type spool struct {
	w    http.ResponseWriter
	head func(http.Header)
	body []byte
	sent bool // a part of it
}

func jsonHeaders(head http.Header) { head.Set("Content-Type", "application/json") }

func streamHeaders(head http.Header) { sse.SetHeaders(head, "no-cache") } // exactly this value is the original's

// add appends to the answer. It fails when the reader has left.
func (s *spool) add(b []byte) error {
	if s.body = append(s.body, b...); len(s.body) < maxSpool {
		return nil
	}
	return s.flush()
}

// end sends what was not sent yet.
func (s *spool) end() error {
	if !s.sent {
		s.w.Header().Set("Content-Length", strconv.Itoa(len(s.body)))
	}
	return s.flush()
}

func (s *spool) flush() error {
	if !s.sent {
		s.sent = true
		s.head(s.w.Header())
	}
	// Some connections have no deadline.
	_ = http.NewResponseController(s.w).SetWriteDeadline(time.Now().Add(sse.Stalled))
	_, err := s.w.Write(s.body)
	s.body = s.body[:0]
	return err
}
