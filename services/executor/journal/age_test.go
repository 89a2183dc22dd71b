package journal

import (
	"testing"
	"testing/synctest"
	"time"
)

// The wall clock jumps between two processes, by decades and in either direction: a bubble is in the year 2000. No call
// is forgotten for it, and none is kept for ever.
func TestWallClockJumps(t *testing.T) {
	for name, c := range map[string]struct {
		first, second func(*testing.T, func(*testing.T))
	}{
		"forward":  {first: inTheYear2000, second: today},
		"backward": {first: today, second: inTheYear2000},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			held := func(t *testing.T, j *Journal) {
				t.Helper()
				for id, want := range map[string]State{"runs": Begun, "ended": Finished, "acked": Tombstone} {
					if got, ok := j.Lookup(id); !ok || got.State != want {
						t.Errorf("%s: %v, state %d, want state %d", id, ok, got.State, want)
					}
				}
				if d, ok := j.Revoked("revoked"); !ok || d != 3 || j.Epoch("lane") != 5 {
					t.Errorf("revoked %d, epoch %d", d, j.Epoch("lane"))
				}
			}
			c.first(t, func(t *testing.T) {
				j := open(t, dir, Config{NoSync: true})
				record(t, j)
				held(t, j)
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
			})
			c.second(t, func(t *testing.T) {
				j := open(t, dir, Config{NoSync: true})
				sweep(t, j)
				held(t, j)
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
			})
			// Time passes.
			inTheYear2000(t, func(t *testing.T) {
				j := open(t, dir, Config{NoSync: true})
				time.Sleep(24*time.Hour + time.Minute)
				if expired := sweep(t, j); len(expired) != 1 || expired[0] != "ended" {
					t.Errorf("after a day %q expired", expired)
				}
				time.Sleep(7*24*time.Hour + time.Minute)
				sweep(t, j)
				for _, id := range []string{"ended", "acked"} {
					if got, ok := j.Lookup(id); ok {
						t.Errorf("%s is kept for ever: state %d", id, got.State)
					}
				}
				if _, ok := j.Revoked("revoked"); ok || j.Epoch("lane") != 0 {
					t.Error("a revocation or a fence is kept for ever")
				}
				if c, ok := j.Lookup("runs"); !ok || c.State != Begun {
					t.Error("a call that runs was forgotten")
				}
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func record(t *testing.T, j *Journal) {
	t.Helper()
	for _, step := range []func() (LSN, error){
		func() (LSN, error) { return j.Begin(begin("runs")) },
		func() (LSN, error) { return j.End(begin("ended"), Finished, []byte("out")) },
		func() (LSN, error) { return j.End(begin("acked"), Finished, []byte("out")) },
		func() (LSN, error) { return j.Ack("acked") },
		func() (LSN, error) { return j.Revoke("revoked", 3) },
		func() (LSN, error) { return j.Raise("lane", 5) },
	} {
		if _, err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

func sweep(t *testing.T, j *Journal) []string {
	t.Helper()
	expired, err := j.Sweep()
	if err != nil {
		t.Fatal(err)
	}
	return expired
}

func today(t *testing.T, f func(*testing.T)) { f(t) }

func inTheYear2000(t *testing.T, f func(*testing.T)) { synctest.Test(t, f) }

// The age of a journal passes while it is open and outlives its process, whether that records anything or not. Only a
// process that is killed loses some of it, an hour at most.
func TestAgePassesWithoutCalls(t *testing.T) {
	dir := t.TempDir()
	var now time.Duration
	cfg := Config{NoSync: true, Clock: func() time.Duration { return now }}
	for range 10 {
		now = 7 * time.Minute // of this process
		j := open(t, dir, cfg)
		now += 10 * time.Minute
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	j := open(t, dir, cfg)
	if got := j.Age(); got != 100*time.Minute {
		t.Errorf("its age is %v after ten times ten minutes", got)
	}
	for range 300 {
		now += time.Minute
		sweep(t, j)
	}
	if lag := j.Age() - j.x.age; lag > renew {
		t.Errorf("the file lags %v behind the age of %v", lag, j.Age())
	}
}
