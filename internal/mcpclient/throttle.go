package mcpclient

import (
	"bytes"
	"context"
	"io"

	"golang.org/x/time/rate"
)

// Rates at which a server is listened to, and how much it may say at once.
const (
	linesPerSecond = 2000
	burstLines     = 20_000
	bytesPerSecond = 8 << 20
	burstBytes     = 64 << 20
)

// Throttle reads what a server says, messages line by line, at a bounded rate: one that never stops talking is made to
// wait, and costs no more than that. Close ends a Read that waits.
func Throttle(r io.ReadCloser) io.ReadCloser {
	ctx, cancel := context.WithCancel(context.Background())
	return &throttle{
		ReadCloser: r, ctx: ctx, cancel: cancel,
		lines: rate.NewLimiter(linesPerSecond, burstLines), bytes: rate.NewLimiter(bytesPerSecond, burstBytes),
	}
}

type throttle struct {
	io.ReadCloser
	ctx          context.Context
	cancel       context.CancelFunc
	lines, bytes *rate.Limiter
}

// maxRead bounds one Read, so that none waits for more than the limiters hold.
const maxRead = 16 << 10

func (t *throttle) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p[:min(len(p), maxRead)])
	if n == 0 {
		return n, err
	}
	if t.lines.WaitN(t.ctx, bytes.Count(p[:n], []byte{'\n'})) != nil || t.bytes.WaitN(t.ctx, n) != nil {
		return 0, io.ErrClosedPipe
	}
	return n, err
}

func (t *throttle) Close() error {
	t.cancel()
	return t.ReadCloser.Close()
}
