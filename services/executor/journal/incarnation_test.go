package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// chain is the journal's incarnations, by how many calls each has begun.
func chain(t *testing.T, j *Journal) (ids []string, begun []int64) {
	t.Helper()
	all, err := j.Incarnations()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		ids, begun = append(ids, i.ID), append(begun, i.Begun)
	}
	return ids, begun
}

func began(t *testing.T, j *Journal, ids ...string) {
	t.Helper()
	for _, id := range ids {
		lsn, err := j.Begin(begin(id))
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Wait(lsn); err != nil {
			t.Fatal(err)
		}
	}
}

// Every start is an incarnation that knows its predecessors and how many calls they began, compacted or not.
func TestIncarnations(t *testing.T) {
	dir := t.TempDir()
	var first, second []string
	var begun []int64
	for i, compact := range []bool{false, true, false} {
		j := open(t, dir, Config{})
		second, _ = chain(t, j)
		if len(second) != i+1 || !cmp.Equal(second[1:], append([]string(nil), first...)) && i > 0 {
			t.Fatalf("start %d: %q after %q", i, second, first)
		}
		if again, _ := chain(t, j); !cmp.Equal(again, second) {
			t.Errorf("one start is two incarnations: %q, %q", second, again)
		}
		first = second
		began(t, j, fmt.Sprint("a", i), fmt.Sprint("b", i))
		if compact {
			if err := j.Compact(); err != nil {
				t.Fatal(err)
			}
			began(t, j, "after the compaction")
		}
		_, begun = chain(t, j)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if want := []int64{7, 5, 2}; !cmp.Equal(begun, want) {
		t.Errorf("the incarnations have begun %d calls, want %d", begun, want)
	}
}

// A start that no control plane hears of is none that one could know.
func TestAStartThatIsNotAskedForIsNoIncarnation(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		if err := open(t, dir, Config{}).Close(); err != nil {
			t.Fatal(err)
		}
	}
	if ids, _ := chain(t, open(t, dir, Config{})); len(ids) != 1 {
		t.Errorf("the journal has %d incarnations, want 1", len(ids))
	}
}

// A journal is restarted more often than it remembers.
func TestIncarnationsAreBounded(t *testing.T) {
	dir := t.TempDir()
	var last string
	for range maxIncarnations + 5 {
		j := open(t, dir, Config{NoSync: true})
		ids, _ := chain(t, j)
		if len(ids) > maxIncarnations || last != "" && ids[1] != last {
			t.Fatalf("%d incarnations, the one before is %q, want %q", len(ids), ids[1], last)
		}
		last = ids[0]
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Control learns of no call and of no incarnation that a power cut could take back.
func TestOnlyWhatIsOnTheDiskCounts(t *testing.T) {
	broken := false
	j := open(t, t.TempDir(), Config{Fsync: func(*os.File) error {
		if broken {
			return errors.New("the disk is gone")
		}
		return nil
	}})
	began(t, j, "a")
	if _, err := j.Begin(begin("b")); err != nil {
		t.Fatal(err)
	}
	if n := j.Begun(); n != 1 {
		t.Errorf("%d calls are said to have begun, and one is on the disk", n)
	}
	broken = true
	if all, err := j.Incarnations(); err == nil {
		t.Errorf("incarnations %v, with a disk that takes nothing", all)
	}
}

// A full disk is no reason not to connect: the results that are held must be delivered. The next start does not
// continue it.
func TestIncarnationOnAFullDisk(t *testing.T) {
	dir, full := t.TempDir(), false
	cfg := Config{WriteAt: func(f *os.File, b []byte, off int64) (int, error) {
		if full {
			return 0, syscall.ENOSPC
		}
		return f.WriteAt(b, off)
	}}
	j := open(t, dir, cfg)
	first, _ := chain(t, j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	full = true
	j = open(t, dir, cfg)
	second, _ := chain(t, j)
	if len(second) != 2 || second[1] != first[0] {
		t.Errorf("%q does not continue %q", second, first)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	full = false
	if third, _ := chain(t, open(t, dir, cfg)); len(third) != 2 || third[1] != first[0] {
		t.Errorf("%q should continue %q, of which alone the disk knows", third, first)
	}
}

// What a full disk did not take is written when there is room. A daemon that runs for months after it began on a full
// disk would else be taken for a copy at its next start.
func TestIncarnationIsWrittenWhenThereIsRoom(t *testing.T) {
	for name, write := range map[string]func(t *testing.T, j *Journal){
		"by a sweep": func(t *testing.T, j *Journal) {
			if _, err := j.Sweep(); err != nil {
				t.Fatal(err)
			}
		},
		"for the next Hello": func(t *testing.T, j *Journal) { chain(t, j) },
		"by a compaction": func(t *testing.T, j *Journal) {
			if err := j.Compact(); err != nil {
				t.Fatal(err)
			}
			chain(t, j)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, full := t.TempDir(), false
			cfg := Config{WriteAt: func(f *os.File, b []byte, off int64) (int, error) {
				if full {
					return 0, syscall.ENOSPC
				}
				return f.WriteAt(b, off)
			}}
			j := open(t, dir, cfg)
			first, _ := chain(t, j)
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			full = true
			j = open(t, dir, cfg)
			second, _ := chain(t, j)
			full = false
			write(t, j)
			began(t, j, "a")
			if again, _ := chain(t, j); len(again) != 2 || again[0] != second[0] {
				t.Errorf("%q became %q", second, again)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			third, begun := chain(t, open(t, dir, cfg))
			if len(third) != 3 || third[1] != second[0] || third[2] != first[0] {
				t.Errorf("%q does not continue %q and %q", third, second, first)
			} else if begun[1] != 1 || begun[2] != 0 {
				t.Errorf("they have begun %v calls", begun)
			}
		})
	}
}

// Two that begin with one file are two from then on. A copy in another directory is another journal, because what was
// begun after it was taken is not in it. A copy that was put in the place of the original tells that by its
// incarnations.
func TestACopyIsAnotherJournal(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	j := open(t, dir, Config{})
	id := j.ID()
	mine, _ := chain(t, j)
	began(t, j, "a")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "journal"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	k := open(t, other, Config{})
	copied := k.ID()
	if c, ok := k.Lookup("a"); copied == id || !ok || c.State != Begun {
		t.Errorf("the copy of %q is %q, and knows %+v", id, copied, c)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if got := open(t, other, Config{}).ID(); got != copied {
		t.Errorf("the copy was %q and is %q", copied, got)
	}

	first := open(t, dir, Config{})
	one, _ := chain(t, first)
	if first.ID() != id || one[1] != mine[0] {
		t.Errorf("the original is %q with %q, after %q with %q", first.ID(), one, id, mine)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "journal"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	restored := open(t, dir, Config{})
	two, _ := chain(t, restored)
	if restored.ID() != id || one[0] == two[0] || two[1] != mine[0] {
		t.Errorf("what was restored is %q with %q, after %q with %q; the original went on as %q",
			restored.ID(), two, id, mine, one)
	}
}
