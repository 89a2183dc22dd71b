package journal

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// t0 is on the clock of tests when they begin.
const t0 = 1000 * time.Hour

func open(t testing.TB, dir string, cfg Config) *Journal {
	t.Helper()
	j, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

// dump is everything that the journal answers, as text.
func dump(j *Journal) string {
	var b strings.Builder
	fmt.Fprintln(&b, j.ID())
	for _, s := range slices.Sorted(maps.Keys(j.x.lanes)) {
		fmt.Fprintf(&b, "lane %s %d\n", s, j.Epoch(s))
	}
	for _, id := range slices.Sorted(maps.Keys(j.x.revoked)) {
		d, _ := j.Revoked(id)
		fmt.Fprintf(&b, "revoked %s %d\n", id, d)
	}
	for _, id := range slices.Sorted(maps.Keys(j.x.calls)) {
		c, _ := j.Lookup(id)
		out, err := j.Outcome(id)
		c.off = 0
		fmt.Fprintf(&b, "call %+v %q %v\n", c, out, err)
	}
	return b.String()
}

func begin(id string) Begin {
	return Begin{
		CallID: id, LaneID: "s-" + id, Epoch: 3, Dispatch: 1, Args: []byte("hash"), Exec: true,
		Deadline: time.Hour,
	}
}

func script(j *Journal) []func() (LSN, error) {
	return []func() (LSN, error){
		func() (LSN, error) { return j.Begin(begin("a")) },
		func() (LSN, error) { return j.Raise("s-a", 9) },
		func() (LSN, error) { return j.End(begin("a"), Finished, []byte("outcome of a")) },
		func() (LSN, error) { return j.Revoke("x", 2) },
		func() (LSN, error) { return j.Begin(begin("b")) },
		func() (LSN, error) { return j.Ack("a") },
		func() (LSN, error) { return j.End(begin("b"), Interrupted, []byte("b?")) },
		func() (LSN, error) { return j.Forgot("a") },
		func() (LSN, error) { return j.Begin(begin("c")) },
	}
}

// A file cut at any byte is the journal as it was after the last record that is whole.
func TestTruncatedAtEveryByte(t *testing.T) {
	cfg := Config{Clock: func() time.Duration { return t0 }, NoSync: true}
	dir := t.TempDir()
	j := open(t, dir, cfg)
	ends, dumps := []int64{j.end}, []string{dump(j)}
	for _, step := range script(j) {
		if _, err := step(); err != nil {
			t.Fatal(err)
		}
		ends, dumps = append(ends, j.end), append(dumps, dump(j))
	}
	data, err := os.ReadFile(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	j.Close()
	_, n, _ := unframe(data[len(magic):])
	identity := int64(len(magic) + n)
	for cut := range ends[len(ends)-1] + 1 {
		d := dir
		if err := os.WriteFile(filepath.Join(d, "journal"), data[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		k := open(t, d, cfg)
		if cut < identity {
			if k.ID() == j.ID() || len(k.x.calls) > 0 {
				t.Fatalf("cut at %d: the identity is gone but was kept", cut)
			}
			k.Close()
			continue
		}
		i, _ := slices.BinarySearch(ends, cut+1)
		if diff := cmp.Diff(dumps[max(0, i-1)], dump(k)); diff != "" {
			t.Fatalf("cut at %d: %s", cut, diff)
		}
		if cut%7 != 0 {
			k.Close()
			continue
		}
		// And it goes on from there.
		if _, err := k.Begin(begin("later")); err != nil {
			t.Fatal(err)
		}
		want := dump(k)
		k.Close()
		k = open(t, d, cfg)
		if diff := cmp.Diff(want, dump(k)); diff != "" {
			t.Fatalf("cut at %d, then reopened: %s", cut, diff)
		}
		k.Close()
	}
}

// A damaged middle is a gap: the rest is kept under a new id, since now.
func TestDamagedMiddle(t *testing.T) {
	now := t0
	cfg := Config{Clock: func() time.Duration { return now }, NoSync: true}
	dir := t.TempDir()
	j := open(t, dir, cfg)
	first := j.end
	for _, step := range script(j) {
		if _, err := step(); err != nil {
			t.Fatal(err)
		}
	}
	id := j.ID()
	j.Close()
	path := filepath.Join(dir, "journal")
	data, _ := os.ReadFile(path)
	data[first+frameHead+3] ^= 1 // in the first Begin
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	now += time.Minute
	k := open(t, dir, cfg)
	if k.ID() == id {
		t.Errorf("id kept: %s", dump(k))
	}
	if c, ok := k.Lookup("b"); !ok || c.State != Interrupted || k.Epoch("s-a") != 9 {
		t.Errorf("what is readable was lost: %s", dump(k))
	}
	id = k.ID()
	k.Close()
	if l := open(t, dir, cfg); l.ID() != id {
		t.Error("the new id does not stay")
	}
}

// Any sequence of operations, with compactions and restarts in between, answers as one journal in memory does.
func TestSameAfterReopenAndCompact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "journal")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		now := t0
		cfg := Config{Clock: func() time.Duration { return now }, NoSync: true}
		j, err := Open(dir, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { j.Close() }()
		id := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		check := func(_ LSN, err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				b := begin(id.Draw(t, "id"))
				if _, known := j.Lookup(b.CallID); !known {
					check(j.Begin(b))
				}
			},
			"end": func(t *rapid.T) {
				out := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "out")
				check(j.End(begin(id.Draw(t, "id")), rapid.SampledFrom([]State{Finished, Interrupted}).Draw(t,
					"state"), out))
			},
			"raise": func(t *rapid.T) { check(j.Raise(id.Draw(t, "s"), rapid.Int64Range(0, 9).Draw(t, "epoch"))) },
			"revoke": func(t *rapid.T) {
				check(j.Revoke(id.Draw(t, "id"),
					rapid.Uint32Range(1, 4).Draw(t, "dispatch")))
			},
			"ack":    func(t *rapid.T) { check(j.Ack(id.Draw(t, "id"))) },
			"forgot": func(t *rapid.T) { check(j.Forgot(id.Draw(t, "id"))) },
			"tick":   func(*rapid.T) { now += time.Second },
			"compact": func(t *rapid.T) {
				want := dump(j)
				if err := j.Compact(); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, dump(j)); diff != "" {
					t.Fatal(diff)
				}
			},
			"": func(t *rapid.T) {
				want := dump(j)
				j.Close()
				if j, err = Open(dir, cfg); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, dump(j)); diff != "" {
					t.Fatal(diff)
				}
			},
		})
	})
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Config{})
	if _, err := Open(dir, Config{}); !errors.Is(err, ErrLocked) {
		t.Fatalf("second Open: %v", err)
	}
	j.Close()
	open(t, dir, Config{})
}

// A full disk refuses new calls and takes everything that concerns calls that are held.
func TestFullDisk(t *testing.T) {
	var limit atomic.Int64
	limit.Store(1 << 40)
	cfg := Config{WriteAt: func(f *os.File, b []byte, off int64) (int, error) {
		if off+int64(len(b)) > limit.Load() {
			n, _ := f.WriteAt(b[:max(0, limit.Load()-off)], off)
			return n, syscall.ENOSPC
		}
		return f.WriteAt(b, off)
	}}
	dir := t.TempDir()
	j := open(t, dir, cfg)
	var held []string
	limit.Store(j.alloc)
	for i := 0; ; i++ {
		id := fmt.Sprint("call-", i)
		_, err := j.Begin(begin(id))
		if errors.Is(err, ErrNoSpace) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, id)
	}
	if len(held) < 10 {
		t.Fatalf("only %d calls fit", len(held))
	}
	for _, id := range held[:100] {
		if _, err := j.End(begin(id), Finished, []byte("out of "+id)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Revoke("never", 1); err != nil {
		t.Fatal(err)
	}
	lsn, err := j.Ack(held[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Wait(lsn); err != nil {
		t.Fatal(err)
	}
	if err := j.Compact(); err == nil {
		t.Log("the compaction fitted")
	}
	want := dump(j)
	j.Close()
	limit.Store(1 << 40)
	if diff := cmp.Diff(want, dump(open(t, dir, cfg))); diff != "" {
		t.Error(diff)
	}
}

// A record that reading would take for damage, alone or with its Begin in a compacted file, is refused when it is
// written.
func TestRecordTooLarge(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{NoSync: true}
	j := open(t, dir, cfg)
	id := j.ID()
	if _, err := j.End(begin("big"), Finished, make([]byte, maxRecord)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("End: %v", err)
	}
	if 2*maxRecord+1024 > maxPayload {
		t.Errorf("two records of %d bytes do not fit one of %d", maxRecord, maxPayload)
	}
	j.Close()
	if j = open(t, dir, cfg); j.ID() != id {
		t.Error("another id")
	}
}

// The quota takes the oldest acknowledged calls first, never one that is held, and moves since behind them.
func TestQuota(t *testing.T) {
	now := t0
	cfg := Config{Clock: func() time.Duration { return now }, NoSync: true, Quota: 4000}
	dir := t.TempDir()
	j := open(t, dir, cfg)
	first := j.ID()
	if _, err := j.End(begin("held"), Finished, []byte("precious")); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		now += time.Second
		id := fmt.Sprintf("done-%02d", i)
		if _, err := j.Begin(begin(id)); err != nil {
			t.Fatal(err)
		}
		j.End(begin(id), Finished, []byte("x"))
		j.Ack(id)
	}
	if _, ok := j.Lookup("done-00"); ok {
		t.Error("the oldest tombstone is still here")
	}
	if _, ok := j.Lookup("done-29"); !ok {
		t.Error("the newest tombstone is gone")
	}
	if j.ID() == first {
		t.Error("the journal has forgotten what it was asked to do a minute ago, and kept its id: that proves that " +
			"it never ran")
	}
	if out, err := j.Outcome("held"); err != nil || string(out) != "precious" {
		t.Errorf("held result: %q, %v", out, err)
	}
	j.End(begin("big"), Finished, make([]byte, 5000))
	if _, err := j.Begin(begin("no")); !errors.Is(err, ErrNoSpace) {
		t.Errorf("Begin over the quota: %v", err)
	}
	if _, err := j.Outcome("big"); err != nil {
		t.Errorf("a held result was lost: %v", err)
	}

	// The file has it all until it is compacted; then it has the new id.
	j.Close()
	j = open(t, dir, cfg)
	if _, ok := j.Lookup("done-00"); !ok || j.ID() != first {
		t.Errorf("read again: id kept %v, calls kept %v", j.ID() == first, ok)
	}
	j.Ack("big")
	j.Sweep()
	second := j.ID()
	if err := j.Compact(); err != nil {
		t.Fatal(err)
	}
	j.Close()
	if j = open(t, dir, cfg); j.ID() != second || second == first {
		t.Errorf("compacted with %s, read with %s, first %s", second, j.ID(), first)
	}

	// What is older than an absence tells about goes without a word.
	now += 3 * 24 * time.Hour
	cfg.Quota = 1
	j.Close()
	j = open(t, dir, cfg)
	if j.Sweep(); j.ID() != second {
		t.Error("what is old changed the id")
	}
	if _, ok := j.Lookup("done-29"); ok {
		t.Error("nothing was evicted")
	}
}

func TestTimesToLive(t *testing.T) {
	now := t0
	dir := t.TempDir()
	cfg := Config{Clock: func() time.Duration { return now }, NoSync: true}
	j := open(t, dir, cfg)
	id := j.ID()
	j.End(begin("unacked"), Finished, []byte("x"))
	j.End(begin("acked"), Finished, []byte("x"))
	j.Ack("acked")
	j.Revoke("r", 1)
	now += 23 * time.Hour
	j.Sweep()
	if c, _ := j.Lookup("unacked"); c.State != Finished {
		t.Error("an unacknowledged result was dropped before 24 hours")
	}
	now += 2 * time.Hour
	if expired, err := j.Sweep(); err != nil || !slices.Equal(expired, []string{"unacked"}) {
		t.Errorf("expired %v, %v", expired, err)
	}
	if c, _ := j.Lookup("unacked"); c.State != Tombstone {
		t.Error("an unacknowledged result is kept beyond 24 hours")
	}
	now = t0 + 7*24*time.Hour - time.Minute
	j.Sweep()
	if _, ok := j.Lookup("acked"); !ok {
		t.Error("a tombstone went before 7 days")
	}
	now += 2 * time.Minute
	j.Sweep()
	if _, ok := j.Lookup("acked"); ok {
		t.Error("a tombstone stays beyond 7 days")
	}
	if _, ok := j.Revoked("r"); ok {
		t.Error("a revocation stays beyond 7 days")
	}
	if j.ID() != id {
		t.Error("what is forgotten in time changed the id")
	}
}

func TestCompactsWhenMostlyDead(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Config{NoSync: true})
	id := j.ID()
	j.End(begin("held"), Finished, []byte("precious"))
	for i := range 30 {
		b := begin(fmt.Sprint(i))
		j.End(b, Finished, make([]byte, 64<<10))
		j.Ack(b.CallID)
	}
	if _, err := j.Sweep(); err != nil {
		t.Fatal(err)
	}
	if j.end > 1<<16 {
		t.Errorf("%d bytes are left", j.end)
	}
	j.Close()
	j = open(t, dir, Config{})
	if out, err := j.Outcome("held"); err != nil || string(out) != "precious" || j.ID() != id {
		t.Errorf("%q, %v, %s", out, err, j.ID())
	}
}

// A compaction on a slow disk holds up nobody, and what happens meanwhile is in the new file.
func TestWorksWhileItCompacts(t *testing.T) {
	var hook func()
	cfg := Config{Clock: func() time.Duration { return t0 }, Fsync: func(*os.File) error {
		if f := hook; f != nil {
			f()
		}
		return nil
	}}
	// Each sync of a compaction in turn is the slow one: of the snapshot, of what followed, of the directory.
	for slow := range 3 {
		dir := t.TempDir()
		hook = nil
		j := open(t, dir, cfg)
		for _, id := range []string{"acked", "before", "begun", "dropped"} {
			if _, err := j.Begin(begin(id)); err != nil {
				t.Fatal(err)
			}
		}
		j.End(begin("acked"), Finished, []byte("outcome of acked"))
		j.End(begin("before"), Finished, []byte("outcome of before"))
		syncs, during := 0, false
		hook = func() {
			if syncs++; syncs != slow+1 {
				return
			}
			during = true
			j.Ack("acked")
			j.Raise("s", 7)
			j.Revoke("r", 2)
			j.Begin(begin("new"))
			j.End(begin("new"), Finished, []byte("outcome of new"))
			j.End(begin("begun"), Finished, []byte("outcome of begun"))
			j.Drop("dropped")
			j.End(begin("dropped"), Interrupted, []byte("outcome of dropped"))
			for _, id := range []string{"before", "begun", "new", "dropped"} {
				if out, err := j.Outcome(id); string(out) != "outcome of "+id {
					t.Errorf("during sync %d: %q, %v", slow, out, err)
				}
			}
			if slow == 0 { // others sync meanwhile, too
				hook = nil
				if err := j.Sync(); err != nil {
					t.Error(err)
				}
			}
		}
		if err := j.Compact(); err != nil {
			t.Fatal(err)
		}
		if !during {
			t.Fatalf("there was no sync %d", slow)
		}
		hook = nil
		j.End(begin("after"), Finished, []byte("outcome of after"))
		if err := j.Sync(); err != nil {
			t.Fatal(err)
		}
		want := dump(j)
		j.Close()
		j = open(t, dir, cfg)
		if diff := cmp.Diff(want, dump(j)); diff != "" {
			t.Errorf("reopened after sync %d: %s", slow, diff)
		}
		for _, id := range []string{"before", "begun", "new", "dropped", "after"} {
			if out, err := j.Outcome(id); string(out) != "outcome of "+id {
				t.Errorf("after sync %d: %q, %v", slow, out, err)
			}
		}
	}
}

// Nobody is told that a record is on the disk which only the old file's disk has.
func TestWaitsForTheNewFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gate chan struct{}
		j := open(t, t.TempDir(), Config{Fsync: func(*os.File) error {
			if gate != nil {
				<-gate
			}
			return nil
		}})
		gate = make(chan struct{})
		compacted, waited := make(chan error, 1), make(chan error, 1)
		go func() { compacted <- j.Compact() }()
		gate <- struct{}{} // the snapshot is on the disk
		synctest.Wait()    // the second sync begins
		lsn, err := j.Begin(begin("a"))
		if err != nil {
			t.Fatal(err)
		}
		go func() { waited <- j.Wait(lsn) }()
		synctest.Wait()
		gate <- struct{}{}
		gate <- struct{}{} // the directory
		if err := <-compacted; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case <-waited:
			t.Error("a record counts as synced that was written after the last sync began")
		case gate <- struct{}{}:
			if err := <-waited; err != nil {
				t.Error(err)
			}
		}
		close(gate)
	})
}

// A compaction that fails leaves the journal as it is.
func TestFailedCompaction(t *testing.T) {
	for failing := range 2 {
		dir := t.TempDir()
		syncs := -1
		cfg := Config{Clock: func() time.Duration { return t0 }, Fsync: func(*os.File) error {
			if syncs++; syncs == failing+1 {
				return syscall.EIO
			}
			return nil
		}}
		syncs = -100
		j := open(t, dir, cfg)
		j.End(begin("a"), Finished, []byte("outcome of a"))
		want := dump(j)
		syncs = 0
		if err := j.Compact(); !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "journal.new")); !errors.Is(err, os.ErrNotExist) {
			t.Error("the new file is left", err)
		}
		syncs = -100
		if err := j.Sync(); err != nil || dump(j) != want {
			t.Errorf("%v\n%s", err, dump(j))
		}
		j.Close()
		if diff := cmp.Diff(want, dump(open(t, dir, cfg))); diff != "" {
			t.Error(diff)
		}
	}
}

// A failed sync is told of at once, to whoever can open the journal anew.
func TestFailed(t *testing.T) {
	var broken atomic.Bool
	j := open(t, t.TempDir(), Config{Fsync: func(*os.File) error {
		if broken.Load() {
			return syscall.EIO
		}
		return nil
	}})
	j.Begin(begin("a"))
	select {
	case <-j.Failed():
		t.Fatal("it has not failed yet")
	default:
	}
	broken.Store(true)
	if err := j.Sync(); !errors.Is(err, ErrFailed) {
		t.Error(err)
	}
	<-j.Failed()
	if err := j.Err(); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
}

// Callers that wait while an fdatasync runs share the next one.
func TestGroupSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var syncs atomic.Int32
		var started atomic.Bool
		gate := make(chan struct{})
		j := open(t, t.TempDir(), Config{Fsync: func(*os.File) error {
			syncs.Add(1)
			if started.Load() {
				<-gate
			}
			return nil
		}})
		started.Store(true)
		syncs.Store(0)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				lsn, err := j.Begin(begin(fmt.Sprint(i)))
				if err == nil {
					err = j.Wait(lsn)
				}
				if err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		close(gate)
		wg.Wait()
		if n := syncs.Load(); n != 2 {
			t.Errorf("%d syncs for 20 callers", n)
		}
	})
}

// After a failed fsync nothing is promised anymore.
func TestFailedSync(t *testing.T) {
	broken := false
	j := open(t, t.TempDir(), Config{Fsync: func(*os.File) error {
		if broken {
			return syscall.EIO
		}
		return nil
	}})
	broken = true
	lsn, err := j.Begin(begin("a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Wait(lsn); !errors.Is(err, ErrFailed) {
		t.Errorf("Wait: %v", err)
	}
	if _, err := j.Begin(begin("b")); !errors.Is(err, ErrFailed) {
		t.Errorf("Begin: %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, "journal"), append([]byte(magic), b...), 0o600)
		if j, err := Open(dir, Config{NoSync: true}); err == nil {
			j.Close()
		}
	})
}

func BenchmarkBegin(b *testing.B) {
	j := open(b, b.TempDir(), Config{})
	for i := range b.N {
		lsn, err := j.Begin(begin(fmt.Sprint(i)))
		if err == nil {
			err = j.Wait(lsn)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
