package keeper

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

const (
	fastIdle  = 50 * time.Millisecond
	slowGrace = 30 * time.Second
)

// killedDaemon runs a daemon that starts line, and kills it once the command is running.
func killedDaemon(t *testing.T, dir, line string) {
	t.Helper()
	d := exec.Command("/proc/self/exe")
	d.Env = append(os.Environ(), "PAWL_TEST_DAEMON="+dir, "PAWL_TEST_LINE="+line)
	out, err := d.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	said, _ := bufio.NewReader(out).ReadString('\n')
	d.Process.Kill()
	d.Wait()
	if said != "started\n" {
		t.Fatalf("daemon said %q", said)
	}
}

func TestDaemonKilledWhileCommandRuns(t *testing.T) {
	dir, work := t.TempDir(), t.TempDir()
	killedDaemon(t, dir, fmt.Sprintf("cd %s; echo ran >> count; echo first; until test -e go; do sleep 0.01; done; "+
		"echo second; exit 9", work))
	c := ensure(t, dir, Options{})
	cmd, err := c.Attach(t.Context(), "call")
	if err != nil {
		t.Fatal(err)
	}
	awaitOutput(t, cmd, "first\n")
	touch(t, work+"/go")
	if e := wait(t, cmd); e.Code != 9 || e.Interrupted || !e.Confirmed {
		t.Errorf("exit %+v", e)
	}
	if got := output(t, cmd, sandbox.Stdout); got != "first\nsecond\n" {
		t.Errorf("stdout %q", got)
	}
	start(t, c, "call", "echo again >> "+work+"/count") // attaches
	if b, _ := os.ReadFile(work + "/count"); string(b) != "ran\n" {
		t.Errorf("it ran %q", b)
	}
}

func TestCommandEndsWhileNoDaemonIsThere(t *testing.T) {
	dir, work := t.TempDir(), t.TempDir()
	killedDaemon(t, dir, fmt.Sprintf("until test -e %s/go; do sleep 0.01; done; echo out; exit 9", work))
	touch(t, work+"/go")
	waitFor(t, "the keeper to end once it holds nothing", func() bool { held, _ := locked(dir); return !held })
	c := ensure(t, dir, Options{})
	cmd, err := c.Attach(t.Context(), "call")
	if err != nil {
		t.Fatal(err)
	}
	if e := wait(t, cmd); e.Code != 9 || output(t, cmd, sandbox.Stdout) != "out\n" {
		t.Errorf("exit %+v", e)
	}
}

func TestTimeoutWhileNoDaemonIsThere(t *testing.T) {
	dir := t.TempDir()
	c, err := serving(t.Context(), dir, Options{Idle: fastIdle, OrphanGrace: slowGrace})
	if err != nil {
		t.Fatal(err)
	}
	s := shell("echo partial; sleep 1000")
	s.Timeout = 2 * time.Second
	awaitOutput(t, startSpec(t, c, "call", s), "partial\n")
	c.Close()
	waitFor(t, "the keeper to end", func() bool { held, _ := locked(dir); return !held })
	c = ensure(t, dir, Options{})
	cmd, err := c.Attach(t.Context(), "call")
	if err != nil {
		t.Fatal(err)
	}
	if e := wait(t, cmd); e.Code != 124 || !e.TimedOut || output(t, cmd, sandbox.Stdout) != "partial\n" {
		t.Errorf("exit %+v", e)
	}
}

func TestOrphanGrace(t *testing.T) {
	dir := t.TempDir()
	c, err := serving(t.Context(), dir, Options{Idle: fastIdle, OrphanGrace: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	start(t, c, "call", "sleep 1000")
	mark := mark()
	kept := shell("sleep " + mark + " & true")
	kept.Keep = true
	wait(t, startSpec(t, c, "kept", kept))
	c.Close()
	waitFor(t, "the keeper to end", func() bool { held, _ := locked(dir); return !held })
	if n := alive(t, mark); n != 0 {
		t.Errorf("%d kept children are alive", n)
	}
	c = ensure(t, dir, Options{})
	cmd, err := c.Attach(t.Context(), "call")
	if err != nil {
		t.Fatal(err)
	}
	if e := wait(t, cmd); !e.Killed || !e.Confirmed {
		t.Errorf("exit %+v", e)
	}
}

// escapees leaves processes in a session of their own without parent, environment, or descriptors.
const escapees = `
sleep MARK &
(setsid sleep MARK >/dev/null 2>&1 &)
setsid bash -c '(env -i /usr/bin/setsid sleep MARK </dev/null >/dev/null 2>&1 &) ; exit 0'
until test $(pgrep -cf '^sleep MARK') = 3; do :; done
echo ready
`

func TestKeeperKilled(t *testing.T) {
	dir := t.TempDir()
	c := ensure(t, dir, Options{})
	done := start(t, c, "done", "echo kept; exit 3")
	wait(t, done)
	mark := mark()
	cmd := start(t, c, "call", strings.ReplaceAll(escapees, "MARK", mark)+"sleep 1000")
	awaitOutput(t, cmd, "ready\n")
	killKeeper(t, c)
	if e := wait(t, cmd); !e.Interrupted || e.Code != -1 || e.Confirmed {
		t.Errorf("exit %+v", e)
	}
	if _, err := c.Attach(t.Context(), "call"); !errors.Is(err, sandbox.ErrInterrupted) {
		t.Errorf("attach: %v", err)
	}
	if _, err := c.Start(t.Context(), "call", shell("true")); !errors.Is(err, sandbox.ErrInterrupted) {
		t.Errorf("start: %v", err)
	}
	if n := alive(t, mark); n != 0 {
		t.Errorf("%d processes are alive", n)
	}
	again, err := c.Attach(t.Context(), "done")
	if err != nil {
		t.Fatal(err)
	}
	if e := wait(t, again); e.Code != 3 || output(t, again, sandbox.Stdout) != "kept\n" {
		t.Errorf("exit %+v", e)
	}
	if e := wait(t, start(t, c, "next", "exit 5")); e.Code != 5 {
		t.Errorf("exit %+v", e)
	}
}

// killKeeper kills the keeper of c, and returns when c has noticed.
// A keeper on a copy of the data directory, on the same host, does not take the commands of the original for what a
// dead keeper left.
func TestKeeperOfACopy(t *testing.T) {
	dir, other := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	c := ensure(t, dir, Options{})
	cmd := start(t, c, "call", "echo ready; until [ -e "+filepath.Join(dir, "go")+" ]; do sleep 0.01; done; exit 3")
	awaitOutput(t, cmd, "ready\n")
	if out, err := exec.Command("cp", "-a", dir, other).CombinedOutput(); err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	copied := ensure(t, other, Options{})
	if _, err := copied.Attach(t.Context(), "call"); !errors.Is(err, sandbox.ErrInterrupted) {
		t.Errorf("attaching to it at the copy: %v", err)
	}
	if e := wait(t, start(t, copied, "next", "exit 5")); e.Code != 5 {
		t.Errorf("at the copy: exit %+v", e)
	}
	touch(t, filepath.Join(dir, "go"))
	if e := wait(t, cmd); e.Interrupted || e.Code != 3 {
		t.Errorf("exit %+v", e)
	}
}

func killKeeper(t *testing.T, c *Client) {
	t.Helper()
	c.mu.Lock()
	l := c.link
	c.mu.Unlock()
	if err := unix.Kill(l.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := c.current(t.Context(), l); err != nil {
		t.Fatal(err)
	}
}

func TestStartsWhileKeepersDie(t *testing.T) {
	dir, work := t.TempDir(), t.TempDir()
	c := ensure(t, dir, Options{})
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			id := "c" + strconv.Itoa(i)
			cmd, err := c.Start(t.Context(), id, shell("echo x >> "+filepath.Join(work, id)))
			switch {
			case errors.Is(err, sandbox.ErrInterrupted):
			case err != nil:
				t.Errorf("%s: %v", id, err)
			default:
				if e := wait(t, cmd); !e.Interrupted && e.Code != 0 {
					t.Errorf("%s: %+v", id, e)
				} else if b, _ := os.ReadFile(filepath.Join(work, id)); !e.Interrupted && string(b) != "x\n" {
					t.Errorf("%s says it ran, and did %q", id, b)
				}
			}
			if b, _ := os.ReadFile(filepath.Join(work, id)); len(b) > 2 {
				t.Errorf("%s ran twice", id)
			}
		})
	}
	for range 3 {
		killKeeper(t, c)
	}
	wg.Wait()
}

func TestTwoClients(t *testing.T) {
	dir := t.TempDir()
	first, err := serving(t.Context(), dir, Options{Idle: fastIdle})
	if err != nil {
		t.Fatal(err)
	}
	start(t, first, "call", "sleep 1000")
	if _, err := serving(t.Context(), dir, Options{StartTimeout: 100 * time.Millisecond}); !errors.Is(err,
		sandbox.ErrUnavailable) {
		t.Fatalf("a second client beside the first: %v", err)
	}
	type result struct {
		c   *Client
		err error
	}
	second := make(chan result)
	go func() {
		c, err := serving(t.Context(), dir, Options{})
		second <- result{c, err}
	}()
	first.Close()
	r := <-second
	if r.err != nil {
		t.Fatal(r.err)
	}
	defer r.c.Close()
	cmd, err := r.c.Attach(t.Context(), "call")
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Kill(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestASecondKeeperGivesWay(t *testing.T) {
	dir := t.TempDir()
	first, err := serving(t.Context(), dir, Options{Idle: slowGrace, Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := spawn(t.Context(), dir, Options{}.withDefaults()); err != nil {
		t.Errorf("the second: %v", err)
	}
	pid := pidOf(first)
	first.Close()
	c := ensure(t, dir, Options{Version: "1"})
	serves := pidOf(c)
	defer unix.Kill(serves, unix.SIGTERM)
	if serves != pid {
		t.Errorf("keeper %d serves, want %d", serves, pid)
	}
}

func TestOtherVersionReplacesAnEmptyKeeper(t *testing.T) {
	dir := t.TempDir()
	old, err := serving(t.Context(), dir, Options{Version: "1", Idle: slowGrace})
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	start(t, old, "call", "until test -e "+work+"/go; do sleep 0.01; done; exit 6")
	old.Close()
	c := ensure(t, dir, Options{Version: "2"})
	cmd, err := c.Attach(t.Context(), "call")
	if err != nil {
		t.Fatal(err)
	}
	if e := wait(t, start(t, c, "beside", "exit 7")); e.Code != 7 {
		t.Errorf("exit %+v", e)
	}
	if v := version(c); v != "1" {
		t.Errorf("keeper %q, want the old one while it holds a command", v)
	}
	touch(t, work+"/go")
	if e := wait(t, cmd); e.Code != 6 {
		t.Errorf("exit %+v", e)
	}
	waitFor(t, "the new keeper", func() bool { return version(c) == "2" })
	if e := wait(t, start(t, c, "after", "exit 8")); e.Code != 8 {
		t.Errorf("exit %+v", e)
	}
}

// pidOf is the keeper that a client is connected to. The client's own goroutine notes it.
func pidOf(c *Client) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link.PID
}

func version(c *Client) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == nil {
		return ""
	}
	return c.link.Version
}

func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	c := ensure(t, dir, Options{})
	if e := wait(t, start(t, c, "call", "exit 2")); e.Code != 2 {
		t.Errorf("exit %+v", e)
	}
	if st, err := os.Stat(filepath.Join(dir, "keeper.sock")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", st, err)
	}
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// mark is a number of seconds that no other test on this host sleeps.
func mark() string { return strconv.Itoa(1e8 + rand.IntN(9e8)) }

func alive(t *testing.T, mark string) int {
	t.Helper()
	procs, err := allProcs()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, p := range procs {
		b, _ := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/cmdline")
		if !p.dead && string(b) == "sleep\x00"+mark+"\x00" {
			n++
		}
	}
	return n
}
