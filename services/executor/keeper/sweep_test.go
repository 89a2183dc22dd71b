package keeper

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// "Nothing is left" is said of a list that was had, and of no other.
func TestSweepNeedsTheList(t *testing.T) {
	errList := errors.New("too many open files")
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{log: slog.New(slog.DiscardHandler)}
		asked := 0
		if !k.sweepAll(func() ([]proc, error) {
			if asked++; asked < 100 {
				return nil, errList
			}
			return nil, nil
		}) || asked < 100 {
			t.Errorf("after %d looks, all but the last of which failed, something is left", asked)
		}
		began := time.Now()
		if k.sweepAll(func() ([]proc, error) { return nil, errList }) {
			t.Error("nothing is left, although nobody looked")
		}
		if took := time.Since(began); took > sweepLimit+time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// Processes that were stopped are killed even when the next look fails.
func TestFreezeKeepsWhatItStopped(t *testing.T) {
	looks := 0
	members, err := freeze(func() ([]proc, error) {
		if looks++; looks > 1 {
			return nil, errors.New("too many open files")
		}
		return []proc{{pid: 1 << 30, start: 1}}, nil
	})
	if err == nil || len(members) != 1 {
		t.Errorf("%v, %v", members, err)
	}
}
