package loglimit_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/loglimit"
)

var errAway = errors.New("the database is away")

// written makes a log and returns what it has written since the last time.
func written(level slog.Level) (*slog.Logger, func() string) {
	b := &buffer{}
	next := slog.NewTextHandler(
		b,
		&slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}},
	)
	log := slog.New(loglimit.New(next, func(err error) bool { return errors.Is(err, errAway) }))
	return log, b.take
}

// buffer is what was written. Lines that were held back come from timers.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.b.Reset()
	return b.b.String()
}

// Of one kind from one cause there is a line a second, and the number of those that it stands for.
func TestOneLineASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, read := written(slog.LevelInfo)
		for i := range 2500 { // for two and a half seconds
			log.Warn("writing failed", "session_id", fmt.Sprint(i), "error", fmt.Errorf("port %d: refused", i))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		const line = `level=WARN msg="writing failed" session_id=%d error="port %[1]d: refused"`
		want := fmt.Sprintf(
			line+"\n"+line+" repeated=%d\n"+line+" repeated=%d\n"+line+" repeated=%d\n",
			0,
			999,
			999,
			1999,
			1000,
			2499,
			500,
		)
		// Which of two that happen in one instant is first is not said.
		got := read()
		if strings.Count(got, "\n") != 4 || total(t, got) != 2499 ||
			!strings.HasPrefix(got, strings.SplitAfter(want, "\n")[0]) {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		log.Warn("writing failed", "error", errors.New("port 1: refused"))
		if got := read(); strings.Contains(got, "repeated") || got == "" {
			t.Errorf("after a pause: %s", got)
		}
	})
}

func total(t *testing.T, text string) (sum int) {
	t.Helper()
	for line := range strings.Lines(text) {
		if _, n, ok := strings.Cut(line, "repeated="); ok {
			var v int
			if _, err := fmt.Sscan(n, &v); err != nil {
				t.Fatal(err)
			}
			sum += v
		}
	}
	return sum
}

// What differs in kind or cause does not count for the other.
func TestCauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, read := written(slog.LevelInfo)
		log.Info("settled", "session_id", "a", "submission_id", "1")
		log.Info("settled", "session_id", "b", "submission_id", "2")
		log.Info("settled", "session_id", "a", "submission_id", "3") // waits
		log.Info("settled", "session_id", "a", "reason", "FAILED")
		log.Info("settled", "session_id", "b", "reason", "FAILED") // waits
		log.Info("settled", "session_id", "b", "reason", "OTHER")
		log.Info("connected", "executor_id", "x")
		log.Info("connected", "executor_id", "y")
		log.With("executor_id", "x").Info("connected") // waits
		if got := read(); strings.Count(got, "\n") != 6 || strings.Contains(got, "submission_id=3") {
			t.Errorf("got\n%s", got)
		}
		time.Sleep(2 * time.Second)
		if got := read(); strings.Count(got, "\n") != 3 || !strings.Contains(got, "submission_id=3\n") ||
			strings.Contains(got, "repeated") {
			t.Errorf("got\n%s", got)
		}
	})
}

// What something else tells of is for the level debug, and debugging is not limited.
func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for level, want := range map[slog.Level]int{slog.LevelInfo: 0, slog.LevelDebug: 6} {
			log, read := written(level)
			for range 3 {
				log.Error("committing failed", "error", fmt.Errorf("committing: %w", errAway))
				log.Debug("details")
			}
			if got := read(); strings.Count(got, "level=DEBUG") != want || strings.Count(got, "\n") != want {
				t.Errorf("%s: got\n%s", level, got)
			}
		}
	})
}

// What is held back when a program ends is written.
func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, read := written(slog.LevelInfo)
		for range 3 {
			log.Info("again")
		}
		read()
		loglimit.Flush(log)
		if got := read(); got != "level=INFO msg=again repeated=2\n" {
			t.Errorf("got %q", got)
		}
		loglimit.Flush(slog.Default())
	})
}
