package keeper

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

func TestRun(t *testing.T) {
	c := ensure(t, t.TempDir(), Options{})
	cmd := start(t, c, "one", "echo out; echo err >&2; exit 7")
	e := wait(t, cmd)
	if e.Code != 7 || !e.Confirmed || e.Signal != 0 {
		t.Errorf("exit %+v", e)
	}
	if got := output(t, cmd, sandbox.Stdout); got != "out\n" {
		t.Errorf("stdout %q", got)
	}
	if got := output(t, cmd, sandbox.Stderr); got != "err\n" {
		t.Errorf("stderr %q", got)
	}
}

func TestCap(t *testing.T) {
	c := ensure(t, t.TempDir(), Options{StreamCap: 8 << 10})
	for _, tt := range []struct {
		name string
		n    int
		cut  int64
	}{{"head", 4 << 10, 0}, {"all", 8 << 10, 0}, {"one", 8<<10 + 1, 1}, {"much", 1_000_000, 1_000_000 - 8<<10}} {
		line := strings.Repeat("0123456789", tt.n/10+1)[:tt.n]
		cmd := start(t, c, tt.name, "yes 0123456789 | tr -d '\\n' | head -c "+itoa(tt.n))
		e := wait(t, cmd)
		want := line
		if tt.cut > 0 {
			want = line[:4<<10] + "\n[... " + itoa(int(tt.cut)) + " bytes cut ...]\n" + line[tt.n-4<<10:]
		}
		if got := output(t, cmd, sandbox.Stdout); got != want || e.StdoutCut != tt.cut ||
			e.StdoutBytes != int64(len(want)) {
			t.Errorf("%s: %d bytes, %d cut, want %d, %d", tt.name, len(got), e.StdoutCut, len(want), tt.cut)
		}
	}
	if rings, _ := filepath.Glob(c.dir + "/calls/*/*.tail"); len(rings) > 0 {
		t.Errorf("left over: %v", rings)
	}
}

// A command sees no descriptor but its three, no signal ignored, and its own session. No pipe has a part in the
// listing: the shell holds one of its ends until it has started the reader.
func TestCommandStartsClean(t *testing.T) {
	c := ensure(t, t.TempDir(), Options{})
	cmd := start(t, c, "call", `ls -m /proc/$$/fd; grep SigIgn /proc/self/status; umask; env | sort | cut -d= -f1 | tr '\n' ' '`)
	wait(t, cmd)
	got := strings.Fields(output(t, cmd, sandbox.Stdout))
	want := strings.Fields("0, 1, 2 SigIgn: 0000000000000000 " + umask() + " LANG PATH PAWL_CALL_ID PAWL_KEEPER PWD " +
		"SHLVL _")
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %v, want %v", got, want)
	}
}

func umask() string {
	old := unix.Umask(0)
	unix.Umask(old)
	return "0" + strings.TrimSpace(octal(old))
}

func octal(n int) string {
	s := ""
	for range 3 {
		s = string(rune('0'+n%8)) + s
		n /= 8
	}
	return s
}

func TestStartErrors(t *testing.T) {
	c := ensure(t, t.TempDir(), Options{})
	s := shell("true")
	s.Dir = []byte("/missing")
	if _, err := c.Start(t.Context(), "a", s); !errors.Is(err, sandbox.ErrNotFound) {
		t.Errorf("missing directory: %v", err)
	}
	if _, err := c.Start(t.Context(), "a", shell(": "+strings.Repeat("x", 200_000))); !errors.Is(err,
		sandbox.ErrTooLarge) {
		t.Errorf("long line: %v", err)
	}
	if _, err := c.Start(t.Context(), "a", shell(": "+strings.Repeat("x", maxFrame))); !errors.Is(err,
		sandbox.ErrTooLarge) {
		t.Errorf("line beyond a frame: %v", err)
	}
	if _, err := c.Attach(t.Context(), "a"); !errors.Is(err, sandbox.ErrUnknownExec) {
		t.Errorf("after starts that failed: %v", err)
	}
	killKeeper(t, c)
	if _, err := c.Attach(t.Context(), "a"); !errors.Is(err, sandbox.ErrUnknownExec) {
		t.Errorf("after starts that failed, to the next keeper: %v", err)
	}
	if e := wait(t, start(t, c, "a", "exit 4")); e.Code != 4 {
		t.Errorf("exit %+v", e)
	}
}

// Without tag, session, or marker nobody knows whose an orphan is: it dies with the last command that may have made it.
func TestUnattributableOrphan(t *testing.T) {
	c := ensure(t, t.TempDir(), Options{})
	other := start(t, c, "other", "echo on; sleep 1000")
	awaitOutput(t, other, "on\n")
	mark := mark()
	cmd := start(t, c, "call", strings.ReplaceAll(
		`(ulimit -S -x unlimited; env -i setsid bash -c '(setsid sleep MARK >/dev/null 2>&1 </dev/null &)'); until pgrep -f '^sleep MARK'; do :; done`, "MARK", mark))
	if e := wait(t, cmd); e.Confirmed {
		t.Errorf("exit %+v: nobody can know that", e)
	}
	if n := alive(t, mark); n != 1 {
		t.Errorf("%d alive: it may be the other command's", n)
	}
	if err := other.Kill(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	if n := alive(t, mark); n != 0 {
		t.Errorf("%d alive after all that may own it", n)
	}
	if e := other.Exit(); !e.Confirmed {
		t.Errorf("exit %+v", e)
	}
}

// A command whose end is not on disk yet is not forgotten: its END would come behind its FORGET.
func TestForgetWaitsForTheEnd(t *testing.T) {
	dir := t.TempDir()
	c := &call{id: "a", end: &end{}, recorded: make(chan struct{})}
	k := &keeper{
		home:  home{dir: dir, journal: &journal{path: filepath.Join(dir, "keeper.log")}},
		table: table{calls: map[string]*call{"a": c}}, compact: minCompact,
	}
	if err := k.journal.rewrite(&history{key: testKey}); err != nil {
		t.Fatal(err)
	}
	forgotten := make(chan error, 1)
	k.forgetCall("a", func(err error) { forgotten <- err })
	k.record([]*call{c})
	select {
	case err := <-forgotten:
		t.Errorf("it was forgotten before its end was recorded: %v", err)
	default:
	}
	close(c.recorded)
	if err := <-forgotten; err != nil {
		t.Fatal(err)
	}
	if h, err := readHistory(dir); err != nil || len(h.ends) != 0 {
		t.Errorf("the log has %+v, %v", h, err)
	}
}

func TestForgetRemovesOutput(t *testing.T) {
	c := ensure(t, t.TempDir(), Options{})
	wait(t, start(t, c, "call", "echo x"))
	if _, err := os.Stat(c.dir + "/calls/call/stdout"); err != nil {
		t.Fatal(err)
	}
	if err := c.Forget(t.Context(), "call"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.dir + "/calls/call"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("output is still there: %v", err)
	}
}

func TestCloseLeavesNoGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	c := ensure(t, t.TempDir(), Options{})
	start(t, c, "call", "sleep 1000")
	killKeeper(t, c)
	c.Close()
	waitFor(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
}

func TestClosedClient(t *testing.T) {
	c := ensure(t, t.TempDir(), Options{})
	c.Close()
	if _, err := c.Start(t.Context(), "call", shell("true")); !errors.Is(err, sandbox.ErrUnavailable) {
		t.Errorf("start: %v", err)
	}
}
