package sqlite

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/lane"
)

// hands are a clock whose two hands a test moves by themselves.
type hands struct {
	wall    time.Time
	elapsed time.Duration
}

func (h *hands) open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, Options{Clock: Clock{
		Wall:    func() time.Time { return h.wall },
		Elapsed: func() time.Duration { return h.elapsed },
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// endsIn checks how much time the only head of the owner has left.
func endsIn(t *testing.T, s *Store, owner string, want time.Duration) {
	t.Helper()
	own, err := s.Own(t.Context(), owner)
	if err != nil || len(own) != 1 {
		t.Fatalf("owns %+v, %v", own, err)
	}
	if got := own[0].Ends; got != (lane.Ends{In: want, Why: lane.Deadline}) {
		t.Errorf("it ends in %v, want %v", got, want)
	}
}

func startedFor(t *testing.T, s *Store, timeout time.Duration) (owner string) {
	t.Helper()
	a := admission("x")
	a.Owner, a.Timeout = ident.New(), timeout
	if _, err := s.Admit(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	return a.Owner
}

func TestAWallClockThatJumpsChangesNothing(t *testing.T) {
	for _, jump := range []time.Duration{-1000 * time.Hour, 1000 * time.Hour} {
		h := &hands{wall: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), elapsed: time.Minute}
		s := h.open(t, Memory)
		owner := startedFor(t, s, time.Hour)
		h.wall = h.wall.Add(jump)
		endsIn(t, s, owner, time.Hour)
		h.elapsed += 20 * time.Minute
		endsIn(t, s, owner, 40*time.Minute)
		if ended, err := s.Force(t.Context(), 10); err != nil || len(ended) != 0 {
			t.Errorf("forced %+v, %v", ended, err)
		}
		h.elapsed += time.Hour
		endsIn(t, s, owner, -20*time.Minute)
		if ended, err := s.Force(t.Context(), 10); err != nil || len(ended) != 1 {
			t.Errorf("forced %+v, %v", ended, err)
		}
		closeStore(t, s)
	}
}

// A file that is opened with the wall clock set back goes on at its newest row; time that has passed has passed.
func TestAFileIsNeverOlderThanItsRows(t *testing.T) {
	for jump, left := range map[time.Duration]time.Duration{
		-1000 * time.Hour: time.Hour, -time.Second: time.Hour, 10 * time.Minute: 50 * time.Minute,
	} {
		h := &hands{wall: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)}
		path := filepath.Join(t.TempDir(), "pawl.db")
		s := h.open(t, path)
		began := s.now()
		owner := startedFor(t, s, time.Hour)
		// By a wall clock that was ahead for a while: what it has dated must not expire everything.
		if err := s.ExecText(t.Context(), `UPDATE entries SET created_at = created_at + 3600000000000`); err != nil {
			t.Fatal(err)
		}
		closeStore(t, s)
		h.wall, h.elapsed = h.wall.Add(jump), 5*time.Hour // of another boot
		s = h.open(t, path)
		if now := s.now(); now.Before(began) {
			t.Errorf("it is %v, and was %v before", now, began)
		}
		endsIn(t, s, owner, left)
		closeStore(t, s)
	}
}
