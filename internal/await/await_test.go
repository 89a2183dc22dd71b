package await

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestSignalHoldsOneWakeUp(t *testing.T) {
	s := NewSignal()
	s.Set()
	s.Set()
	<-s
	select {
	case <-s:
		t.Error("two wake-ups were held")
	default:
	}
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := Sleep(t.Context(), time.Minute); err != nil || time.Since(began) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := Sleep(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after the end of its context: %v", err)
		}
		if took := time.Since(began); took != time.Minute+time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestTicksEndWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		began, last := time.Now(), 0
		for n := range Ticks(ctx, time.Minute) {
			if last = n; n == 3 {
				cancel()
			}
		}
		if last != 3 || time.Since(began) != 3*time.Minute {
			t.Errorf("%d ticks in %v", last, time.Since(began))
		}
	})
}
