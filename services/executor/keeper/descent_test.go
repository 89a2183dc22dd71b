package keeper

import (
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// A process that takes on the tag and the marker of another command does not make its own look as if nothing were left
// of it.
func TestForgedTag(t *testing.T) {
	c := ensure(t, t.TempDir(), Options{})
	other := start(t, c, "other", "echo $$; sleep 1000")
	pid := strings.TrimSpace(awaitLine(t, other))
	mark := mark()
	cmd := start(t, c, "call", strings.NewReplacer("MARK", mark, "PID", pid).Replace(`
		tag=$(awk '/Max file locks/ { print $4 }' /proc/PID/limits)
		(ulimit -S -x $tag && PAWL_CALL_ID=other setsid bash -c '(setsid sleep MARK >/dev/null 2>&1 </dev/null &)')
		until pgrep -f '^sleep MARK'; do :; done`))
	if e := wait(t, cmd); e.Code != 0 || e.Confirmed {
		t.Errorf("exit %+v: a process of it runs", e)
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
}

// A tag that belongs to a command which was started later than the process is no evidence.
func TestTagOfALaterCommand(t *testing.T) {
	k, p := forger(t)
	k.owners[2] = &call{id: "later", origin: origin{tag: tag(7, 2), born: p.start + 100}}
	forge(t, p, tag(7, 2))
	if got, err := k.evidence(p); err != nil || !got.none() {
		t.Errorf("%+v, %v", got, err)
	}
}

// What was seen below a command's first process is of that command, whatever it carries and whoever its parent is.
func TestDescentIsRemembered(t *testing.T) {
	k, p := forger(t)
	mine := &call{id: "mine", origin: origin{tag: tag(7, 1), pid: os.Getpid()}}
	other := &call{id: "other", origin: origin{tag: tag(7, 2), pid: 1 << 30}}
	k.owners[1], k.owners[2] = mine, other
	if err := k.observe(mine); err != nil {
		t.Fatal(err)
	}
	forge(t, p, other.tag)
	mine.pid, mine.reaped = 1<<30+1, true // its first process is gone
	if err := k.observe(mine); err != nil {
		t.Fatal(err)
	}
	got, err := k.evidence(p)
	if err != nil || got.owner != mine || !got.fact {
		t.Fatalf("%+v, %v", got, err)
	}
	if left, doubt := k.judge(other, orphan{proc: p, claim: got}); left || doubt {
		t.Errorf("of the other: %v, perhaps %v", left, doubt)
	}
	if err := unix.Kill(p.pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the process to end", func() bool { _, err := readProc(p.pid); return err != nil })
	if err := k.observe(mine); err != nil || mine.descent[p.id()] {
		t.Errorf("what has ended is remembered: %v", err)
	}
}

// One look at the children serves all commands whose first processes had died before it, and no other.
func TestOneLookForAllThatDied(t *testing.T) {
	k, p := forger(t)
	pids, err := childPIDs()
	if err != nil {
		t.Fatal(err)
	}
	k.leaders = map[int]*call{}
	for _, pid := range pids {
		k.leaders[pid] = &call{} // p is the first process of a command that runs
	}
	dead := func(deaths int64) *call { return &call{origin: origin{pid: 1 << 30}, reaped: true, died: deaths} }
	k.deaths = 2
	if v := k.remains(dead(1)); v.left {
		t.Errorf("something is left of the first: %+v", v)
	}
	delete(k.leaders, p.pid) // it is an orphan now
	if v := k.remains(dead(2)); v.left {
		t.Errorf("something is left of one that died before the look: %+v", v)
	}
	if v := k.remains(dead(3)); !v.left {
		t.Errorf("nothing is left of one that died after the look: %+v", v)
	}
}

// forger is a keeper in memory and a process in a session of its own.
func forger(t *testing.T) (*keeper, proc) {
	t.Helper()
	cmd := exec.Command("sleep", mark())
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	p, err := readProc(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return &keeper{key: 7, table: table{owners: map[uint64]*call{}}, log: slog.New(slog.DiscardHandler)}, p
}

func forge(t *testing.T, p proc, tag uint64) {
	t.Helper()
	var lim unix.Rlimit
	err := unix.Prlimit(p.pid, unix.RLIMIT_LOCKS, nil, &lim)
	if err == nil {
		lim.Cur = tag
		err = unix.Prlimit(p.pid, unix.RLIMIT_LOCKS, &lim, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Without descriptors nobody knows which processes there are, and no list says that there are none.
func TestNoDescriptorsNoList(t *testing.T) {
	_, p := forger(t)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	_, one := readProc(p.pid)
	_, all := allProcs()
	_, children := childPIDs()
	_, left := predecessors(7, "7")
	p.signal(unix.SIGKILL)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{"one": one, "all": all, "children": children, "predecessors": left} {
		if err == nil || err == errGone {
			t.Errorf("%s: %v", name, err)
		}
	}
	waitFor(t, "a signal to arrive", func() bool { _, err := readProc(p.pid); return err != nil })
}

// Tags of commands have no order.
func TestTagsAreRandom(t *testing.T) {
	seen := map[uint64]bool{}
	for range 100 {
		seen[randomTag(7, func(t uint64) bool { return seen[t] })] = true
	}
	for t1 := range seen {
		if t1>>32 != tag(7, 0)>>32 {
			t.Errorf("%x has another key", t1)
		}
		if seen[t1+1] {
			t.Errorf("%x and the next number", t1)
		}
	}
}

// awaitLine waits for the first line of a command's output.
func awaitLine(t *testing.T, cmd *Cmd) string {
	t.Helper()
	var line string
	waitFor(t, "a line", func() bool {
		buf := make([]byte, 100)
		n, err := cmd.ReadOutput(sandbox.Stdout, buf, 0)
		if err != nil {
			t.Fatal(err)
		}
		line = string(buf[:n])
		return strings.HasSuffix(line, "\n")
	})
	return line
}
