package loglimit_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/loglimit"
)

// stalled is a handler whose second line waits for release.
type stalled struct {
	slog.Handler
	lines   chan string
	release chan struct{}
}

func (*stalled) Enabled(context.Context, slog.Level) bool { return true }

func (s *stalled) Handle(context.Context, slog.Record) error {
	select {
	case s.lines <- "first":
	default:
		<-s.release
		s.lines <- "second"
	}
	return nil
}

// Whoever flushes before the process ends loses no line that a timer is about to write.
func TestFlushWaitsForLinesThatAreBeingWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stalled{Handler: slog.DiscardHandler, lines: make(chan string, 1), release: make(chan struct{})}
		log := slog.New(loglimit.New(s, nil))
		log.Warn("slow")
		log.Warn("slow")
		time.Sleep(2 * time.Second) // the second line is being written
		synctest.Wait()
		<-s.lines
		flushed := make(chan struct{})
		go func() { loglimit.Flush(log); close(flushed) }()
		synctest.Wait()
		select {
		case <-flushed:
			t.Error("flushed before the line was written")
		default:
		}
		close(s.release)
		<-flushed
		if got := <-s.lines; got != "second" {
			t.Errorf("%s", got)
		}
	})
}
