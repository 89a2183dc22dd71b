package work

import (
	"errors"
	"fmt"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// rereads are the pauses before captured output is read again that could not be read: descriptors come back, disks
// recover.
var rereads = []time.Duration{20 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second}

// capturedStreams is what a model sees of a command's output. What cannot be read is reported, and preserved. An error
// is that of a service that is closed.
func (s *Service) capturedStreams(c *call, ex sandbox.Exec, x sandbox.Exit) (out, errs *pawlv1.Captured, err error) {
	head := int64(maxHead)
	if c.begin.Whole && x.StdoutBytes+x.StderrBytes <= maxWhole {
		head = maxWhole
	}
	out, err = s.captured(c, ex, stream{
		Stream: sandbox.Stdout, name: "standard output", head: head, size: x.StdoutBytes, cut: x.StdoutCut,
		problem: x.StdoutError,
	})
	if err != nil {
		return nil, nil, err
	}
	errs, err = s.captured(c, ex, stream{
		Stream: sandbox.Stderr, name: "standard error", head: head, size: x.StderrBytes, cut: x.StderrCut,
		problem: x.StderrError,
	})
	return out, errs, err
}

// isWhole reports whether the head is all of a stream.
func isWhole(c *pawlv1.Captured) bool {
	return c.GetCut() == 0 && c.GetError() == "" && int64(len(c.GetHead())) == c.GetSize()
}

// image is all of the standard output of a command whose output is an image; nil when there is none, or it cannot be
// had. An error is that of a service that is closed.
func (s *Service) image(c *call, ex sandbox.Exec, x sandbox.Exit) ([]byte, error) {
	n := x.StdoutBytes
	if !c.begin.Image || n == 0 || n > maxImage || x.StdoutCut > 0 || x.StdoutError != "" {
		return nil, nil
	}
	image, err := readRange(ex, sandbox.Stdout, 0, n)
	for i := 0; err != nil && i < len(rereads); i++ {
		if err := await.Sleep(s.ctx, rereads[i]); err != nil {
			return nil, err
		}
		image, err = readRange(ex, sandbox.Stdout, 0, n)
	}
	if err != nil {
		s.log.Error("an image could not be read", "call_id", c.id(), "err", err)
		return nil, nil // the captured output says what is missing
	}
	return image, nil
}

// stream is a finished command's stream: its size is what can be read, cut is what the sandbox dropped. Of a longer one
// than head so much of the beginning is captured.
type stream struct {
	sandbox.Stream
	name      string
	head      int64
	size, cut int64
	problem   string // the sandbox's own
}

// captured reads a stream, several times if need be.
func (s *Service) captured(c *call, ex sandbox.Exec, st stream) (*pawlv1.Captured, error) {
	p, err := readCaptured(ex, st)
	for i := 0; err != nil && i < len(rereads); i++ {
		if err := await.Sleep(s.ctx, rereads[i]); err != nil {
			return nil, err
		}
		p, err = readCaptured(ex, st)
	}
	if st.problem != "" {
		p.Error = fmt.Sprintf("the executor could not capture all of the %s: %s", st.name, valid(st.problem))
	}
	if err == nil {
		return p, nil
	}
	s.log.Error("captured output could not be read", "call_id", c.id(), "stream", st.name, "err", err)
	got := int64(len(p.GetHead()) + len(p.GetTail()))
	p.Cut = st.cut + st.size - got
	p.Error = fmt.Sprintf("the executor could not read %d of the %d bytes that it captured of the %s: %s",
		st.size-got, st.size, st.name, valid(err.Error()))
	where, err := ex.Preserve()
	if err != nil {
		s.log.Error("output that could not be read is not preserved", "call_id", c.id(), "err", err)
		return p, nil
	}
	p.Error += "; it keeps the files in " + valid(where)
	return p, nil
}

// readCaptured reads the beginning and the end of a stream.
func readCaptured(ex sandbox.Exec, st stream) (*pawlv1.Captured, error) {
	p := &pawlv1.Captured{Size: st.size, Cut: st.cut}
	if st.size == 0 {
		return p, nil
	}
	head, err := readRange(ex, st.Stream, 0, min(st.size, st.head))
	p.Head = head
	if err != nil || st.size <= st.head {
		return p, err
	}
	from := max(st.head, st.size-maxTail)
	p.Cut += from - st.head
	p.Tail, err = readRange(ex, st.Stream, from, st.size-from)
	return p, err
}

func readRange(ex sandbox.Exec, s sandbox.Stream, off, n int64) ([]byte, error) {
	b := make([]byte, n)
	var got int64
	for got < n {
		k, err := ex.ReadOutput(s, b[got:], off+got)
		got += int64(k)
		if err != nil && got < n {
			return b[:got], err
		}
		if k == 0 && err == nil {
			return b[:got], errors.New("a finished command has less output than it says")
		}
	}
	return b, nil
}
