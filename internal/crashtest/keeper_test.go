package crashtest_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// processes are those of which a link below /proc points to path: cwd, or fd/*.
func processes(t *testing.T, link, path string) (pids []int) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/" + link)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err != nil || to != path {
			continue // most are gone, or not ours to read
		}
		pid, err := strconv.Atoi(strings.Split(l, "/")[2])
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// killKeeper kills the keeper of the machine's commands.
func (m *machine) killKeeper() {
	m.t.Helper()
	pids := processes(m.t, "fd/*", filepath.Join(m.Data, "keeper.log"))
	if len(pids) != 1 {
		m.t.Fatalf("the keeper's log is open in %v, want one process", pids)
	}
	if err := unix.Kill(pids[0], unix.SIGKILL); err != nil {
		m.t.Fatal(err)
	}
}

// deserters is a command like command that leaves processes outside of its session, too.
const deserters = `echo run >> runs; (setsid sleep 1000 >/dev/null 2>&1 &); sleep 1000 & until [ -e go ]; do sleep 0.05; done; echo end >> runs`

// Crash matrix 14b: the keeper dies, alone or with its daemon. Nobody knows what became of the command, and nothing of
// it lives on.
func TestKeeperIsKilled(t *testing.T) {
	t.Parallel()
	for name, both := range map[string]bool{"alone": false, "with the daemon": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlane(t, "")
			m := newMachine(t, p)
			sub := p.submit(deserters)
			m.awaitRunning()
			eventually(t, "the command's children", func() bool { return len(processes(t, "cwd", m.Root)) >= 3 })
			if both {
				m.kill()
			}
			m.killKeeper()
			if both {
				m.start()
			}
			got := p.wait(sub.GetSubmissionId())
			if got.GetOutcome() != pawlv1.Outcome_OUTCOME_COMPLETED ||
				!strings.Contains(got.GetResult().GetText(), "outcome of this command is unknown") {
				t.Errorf("settled %v: %q %v", got.GetOutcome(), got.GetResult().GetText(), got.GetError())
			}
			if left := processes(t, "cwd", m.Root); len(left) > 0 {
				t.Errorf("the processes %v live on", left)
			}
			m.release()
			next := p.submit("echo next >> runs; echo next")
			if got := p.wait(next.GetSubmissionId()); got.GetResult().GetText() != "next" {
				t.Errorf("then %v: %q", got.GetOutcome(), got.GetResult().GetText())
			}
			if runs := m.read("runs"); runs != "run\nnext\n" {
				t.Errorf("the commands left %q", runs)
			}
		})
	}
}

// limit bounds how large a file a process can make: at 0 its disk is full.
func limit(t *testing.T, pid int, bytes uint64) {
	t.Helper()
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}, nil); err != nil {
		t.Fatal(err)
	}
}

// Crash matrix 29: the executor's disk is full. What runs is not lost, what is new is refused and says why, and all is
// well when there is space again.
func TestExecutorsDiskIsFull(t *testing.T) {
	t.Parallel()
	p := newPlane(t, "")
	m := newMachine(t, p)
	sub := p.submit(command)
	m.awaitRunning()
	limit(t, m.Pid(), 0)
	m.release()
	m.once(p.wait(sub.GetSubmissionId()))
	refused := p.submit("echo refused >> runs")
	if got := p.wait(refused.GetSubmissionId()); !strings.Contains(got.GetResult().GetText(),
		"the disk of the executor's journal is full") {
		t.Errorf("settled %v: %q", got.GetOutcome(), got.GetResult().GetText())
	}
	limit(t, m.Pid(), unix.RLIM_INFINITY)
	next := p.submit("echo next")
	if got := p.wait(next.GetSubmissionId()); got.GetResult().GetText() != "next" {
		t.Errorf("then %v: %q", got.GetOutcome(), got.GetResult().GetText())
	}
	m.once(p.wait(sub.GetSubmissionId()))
}

// Crash matrix 29: control's disk is full while a command ends. Its result is committed when there is space again;
// nobody else had to.
func TestControlsDiskIsFull(t *testing.T) {
	t.Parallel()
	p := newPlane(t, "")
	m := newMachine(t, p)
	sub := p.submit(command)
	m.awaitRunning()
	limit(t, p.Pid(), 0)
	m.release()
	p.says("committing failed")
	limit(t, p.Pid(), unix.RLIM_INFINITY)
	got := p.wait(sub.GetSubmissionId())
	m.once(got)
	if got.GetAttempts() != 0 {
		t.Errorf("%d attempts were charged", got.GetAttempts())
	}
}
