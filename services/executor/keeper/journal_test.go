package keeper

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

func itoa(n int) string { return strconv.Itoa(n) }

// testKey is that of a keeper which never was. No other test on this host has it: a keeper kills what carries its
// predecessor's.
var testKey = rand.Uint32N(1<<30-1) + 1

func sampleLog() []byte {
	var log []byte
	for _, r := range []*record{
		{Kind: recKeeper, Key: testKey},
		{Kind: recStart, ID: "ended", At: 2},
		{Kind: recEnd, ID: "ended", End: &end{Code: 3}},
		{Kind: recStart, ID: "failed"},
		{Kind: recFail, ID: "failed"},
		{Kind: recStart, ID: "gone"},
		{Kind: recEnd, ID: "gone", End: &end{}},
		{Kind: recForget, ID: "gone"},
		{Kind: recStart, ID: "open", At: 4},
	} {
		log = append(log, r.encode()...)
	}
	return log
}

func TestReplay(t *testing.T) {
	h, err := replay(bytes.NewReader(sampleLog()))
	if err != nil {
		t.Fatal(err)
	}
	if len(h.ends) != 1 || h.ends["ended"].Code != 3 || len(h.open) != 1 || h.open["open"] != 4 ||
		h.key != testKey || h.damaged {
		t.Errorf("%+v", h)
	}
}

func TestReplayTornAnywhere(t *testing.T) {
	log := sampleLog()
	last := bytes.LastIndexByte(log[:len(log)-1], '\n') + 1
	for cut := last; cut < len(log); cut++ {
		h, err := replay(bytes.NewReader(log[:cut]))
		if err != nil || len(h.ends) != 1 || len(h.open) != 0 || h.damaged {
			t.Fatalf("cut at %d: %+v, %v", cut, h, err)
		}
	}
	bad := bytes.Clone(log)
	bad[last+12] ^= 1
	if h, err := replay(bytes.NewReader(bad)); err != nil || len(h.open) != 0 || h.damaged {
		t.Errorf("bad last record: %+v, %v", h, err)
	}
	bad = bytes.Clone(log)
	bad[12] ^= 1
	if h, err := replay(bytes.NewReader(bad)); err != nil || !h.damaged {
		t.Errorf("bad first record: %+v, %v", h, err)
	}
}

func FuzzReplay(f *testing.F) {
	f.Add(sampleLog())
	f.Add([]byte("00000000 {}\n"))
	f.Fuzz(func(t *testing.T, log []byte) {
		if _, err := replay(bytes.NewReader(log)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestKeeperTakesOverATornLog(t *testing.T) {
	takesOverATornLog(t, t.TempDir())
}

// A log that cannot be rewritten, as on a full disk, does as it is.
func TestKeeperGoesOnWithTheOldLog(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "keeper.log.new"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := takesOverATornLog(t, dir)
	if e := wait(t, start(t, c, "next", "exit 5")); e.Code != 5 {
		t.Errorf("exit %+v", e)
	}
	if err := c.Forget(t.Context(), "next"); err != nil { // which comes after its END
		t.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(dir, "keeper.log"))
	h, rerr := readHistory(dir)
	if err != nil || rerr != nil || h.damaged || h.ends["ended"] == nil || !bytes.Contains(log, []byte(`"code":5`)) {
		t.Errorf("the log has %s, %v, %+v, %v", log, err, h, rerr)
	}
}

func takesOverATornLog(t *testing.T, dir string) *Client {
	t.Helper()
	log := append(sampleLog(), "deadbeef {\"kind\":\"end\",\"id\":\"op"...)
	if err := os.WriteFile(filepath.Join(dir, "keeper.log"), log, 0o600); err != nil {
		t.Fatal(err)
	}
	c := ensure(t, dir, Options{})
	if _, err := c.Attach(t.Context(), "open"); !errors.Is(err, sandbox.ErrInterrupted) {
		t.Errorf("open: %v", err)
	}
	for _, id := range []string{"failed", "gone", "never"} {
		if _, err := c.Attach(t.Context(), id); !errors.Is(err, sandbox.ErrUnknownExec) {
			t.Errorf("%s: %v", id, err)
		}
	}
	cmd, err := c.Attach(t.Context(), "ended")
	if err != nil {
		t.Fatal(err)
	}
	if e := wait(t, cmd); e.Code != 3 {
		t.Errorf("exit %+v", e)
	}
	return c
}

// A keeper witnesses what it was asked to start, for daemon after daemon. The next keeper does not know what its
// predecessor saw and did not write down.
func TestOneWitnessPerKeeper(t *testing.T) {
	dir := t.TempDir()
	c := ensure(t, dir, Options{})
	first := c.Witness()
	start(t, c, "holds", "sleep 60")
	c.Close()
	next := ensure(t, dir, Options{})
	if got := next.Witness(); got != first || got == "" {
		t.Errorf("the witness was %q and is %q for the next daemon", first, got)
	}
	killKeeper(t, next)
	if _, err := next.Attach(t.Context(), "any"); !errors.Is(err, sandbox.ErrUnknownExec) {
		t.Fatal(err)
	}
	if got := next.Witness(); got == first || got == "" {
		t.Errorf("the witness was %q and is %q after another keeper has come", first, got)
	}
}

func TestShrink(t *testing.T) {
	dir := t.TempDir()
	j := &journal{path: filepath.Join(dir, "keeper.log")}
	if err := j.rewrite(&history{key: 7}); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		id := itoa(i)
		for _, r := range []*record{
			{Kind: recStart, ID: id},
			{Kind: recEnd, ID: id, End: &end{Code: i}},
			{Kind: recForget, ID: id},
		} {
			if i == 99 && r.Kind == recForget {
				continue
			}
			if err := j.append(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := j.length()
	if err := j.shrink(); err != nil {
		t.Fatal(err)
	}
	err := j.append(&record{Kind: recStart, ID: "after"})
	if err == nil {
		err = j.sync()
	}
	h, rerr := readHistory(dir)
	if err != nil || rerr != nil {
		t.Fatal(err, rerr)
	}
	if j.length() > before/20 || len(h.ends) != 1 || h.ends["99"].Code != 99 || len(h.open) != 1 || h.key != 7 {
		t.Errorf("%d of %d bytes, %+v", j.length(), before, h)
	}
}

func TestParseStat(t *testing.T) {
	p, ok := parseStat(7, []byte("7 (a) b (c)) S 3 7 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 2"))
	if !ok || p != (proc{pid: 7, ppid: 3, pgid: 7, sid: 5, start: 12345}) {
		t.Errorf("%+v", p)
	}
	for _, bad := range []string{"", "7 (x", "7 (x) S 1 2"} {
		if _, ok := parseStat(7, []byte(bad)); ok {
			t.Errorf("%q was parsed", bad)
		}
	}
}
