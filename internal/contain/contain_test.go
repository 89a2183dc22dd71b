package contain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var errTest = errors.New("test")

func TestDo(t *testing.T) {
	if err := Do(func() error { return errTest }); !errors.Is(err, errTest) || Is(err) {
		t.Errorf("%v", err)
	}
	if err := Do(func() error { return nil }); err != nil {
		t.Errorf("%v", err)
	}
	err := fmt.Errorf("doing it: %w", Do(func() error { fails(); return nil }))
	if !Is(err) || !strings.Contains(err.Error(), "panic: ouch") || !strings.Contains(err.Error(), "contain.fails") {
		t.Errorf("%v", err)
	}
}

func fails() { panic("ouch") }

func TestRunLogsOnce(t *testing.T) {
	var log bytes.Buffer
	Run(slog.New(slog.NewTextHandler(&log, nil)), "testing", fails)
	if out := log.String(); strings.Count(out, "level=ERROR") != 1 || !strings.Contains(out, "doing=testing") ||
		!strings.Contains(out, "contain.fails") {
		t.Errorf("log %s", out)
	}
}

func TestLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		n, begun := 0, time.Now()
		err := Loop(t.Context(), log, "testing", func(context.Context) error {
			if n++; n < 4 {
				fails()
			}
			return errTest
		})
		if !errors.Is(err, errTest) || n != 4 || time.Since(begun) != 7*time.Second {
			t.Errorf("%v after %d calls and %s", err, n, time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		n = 0
		if err := Loop(ctx, log, "testing", func(context.Context) error { n++; fails(); return nil }); err != nil ||
			n > 70 {
			t.Errorf("%v after %d calls", err, n)
		}
	})
}
