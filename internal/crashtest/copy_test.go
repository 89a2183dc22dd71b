package crashtest_test

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/internal/proctest"
)

// copyDir copies a directory as a backup does, sockets and all, while it is in use. A file that goes while the copy is
// made, as the keeper's log does when it is rewritten, is not part of it.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	const gone = "No such file or directory"
	out, err := exec.Command("cp", "-a", from, to).CombinedOutput()
	if err == nil {
		return
	}
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, gone) {
			t.Fatalf("copying %s: %v, %s", from, err, out)
		}
	}
	if _, err := os.Stat(filepath.Join(to, "journal.lock")); err != nil {
		t.Fatalf("copying %s: %v, %s", from, err, out)
	}
}

// replaceDir puts a copy of a directory in the place of another one.
func replaceDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	copyDir(t, from, to)
}

// restoreDir gives the files of a directory the content that they had, as the snapshot of a disk does: they are the
// same files.
func restoreDir(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(to, path)
		if err != nil {
			return err
		}
		was, err := os.ReadFile(filepath.Join(from, name))
		if err != nil || !d.Type().IsRegular() {
			return os.Remove(path) // it was not there
		}
		return os.WriteFile(path, was, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A data directory is set back to a backup of before the command, as a machine is that is restored. The daemon knows
// nothing of the command then, and control knows that this proves nothing: the command is not run again.
func TestRestoredDataDirectory(t *testing.T) {
	t.Parallel()
	const other, older = "it has another data directory than before", "its data directory is a copy, or an older state"
	for name, c := range map[string]struct {
		restart bool
		restore func(t *testing.T, from, to string)
		says    string
	}{
		"while control runs":                   {false, replaceDir, other}, // a journal that was copied is another one
		"and control is killed, too":           {true, replaceDir, other},
		"in place":                             {false, restoreDir, older},
		"in place, and control is killed, too": {true, restoreDir, older},
	} {
		restart := c.restart
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			p := newPlane(t, url)
			m := newMachine(t, p)
			backup := m.Data + ".backup"
			copyDir(t, m.Data, backup)
			sub := p.submit(command)
			m.awaitRunning()
			// What control has not heard of when a machine dies, it cannot know of: a state of before that passes then.
			eventually(t, "control to record how many calls the executor has begun", func() bool {
				return ask[int](t, url, "SELECT begun FROM executors WHERE executor_id = 'm1'") == 1
			})
			if restart {
				p.kill()
			}
			m.kill()
			m.killKeeper()
			for _, pid := range processes(t, "cwd", m.Root) {
				_ = syscall.Kill(pid, syscall.SIGKILL) // may be gone by now
			}
			c.restore(t, backup, m.Data)
			if restart {
				p.start()
			}
			m.start()
			got := p.wait(sub.GetSubmissionId())
			if text := got.GetResult().GetText(); !strings.Contains(text, "outcome of this command is unknown") ||
				!strings.Contains(text, "data directory is not the one") {
				t.Errorf("settled %v: %q %v", got.GetOutcome(), text, got.GetError())
			}
			if runs := m.read("runs"); runs != "run\n" {
				t.Errorf("the command left %q", runs)
			}
			p.says(c.says)
		})
	}
}

// A machine is cloned while its executor runs a command. The clone ends and says why, the command goes on where it is.
func TestClonedMachine(t *testing.T) {
	t.Parallel()
	p := newPlane(t, "")
	m := newMachine(t, p)
	sub := p.submit(command)
	m.awaitRunning()
	clone := *m.Executor
	clone.Data = filepath.Join(t.TempDir(), "clone")
	copyDir(t, m.Data, clone.Data)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := clone.Start(ctx)
		cancel()
		if err == nil {
			watch(t, clone.Process, clone.Log)
			t.Fatal("the clone is connected")
		}
		select {
		case <-clone.Done():
		case <-time.After(patience):
			t.Fatal("the clone runs on")
		}
		if said := clone.Log.String(); clone.ExitCode() != 1 || !strings.Contains(said, "another executor is "+
			"connected as m1") ||
			!strings.Contains(said, "give this one a name and a token of its own") {
			t.Errorf("the clone ended with %d and said %s", clone.ExitCode(), said)
		}
	}
	m.release()
	m.once(p.wait(sub.GetSubmissionId()))
	if connected := strings.Count(m.Log.String(), "connected to control"); connected != 1 {
		t.Errorf("the executor was connected %d times", connected)
	}
}

// Two replicas have one host name and one path for their data, as two containers have. Neither takes the other one for
// its predecessor.
func TestReplicasWithOnePath(t *testing.T) {
	t.Parallel()
	programs, err := built()
	if err != nil {
		t.Fatal(err)
	}
	url, dir := pgtest.URL(t), t.TempDir()
	link := filepath.Join(dir, "data")
	var all []*plane
	for _, name := range []string{"one", "two"} {
		home := filepath.Join(dir, name)
		if err := os.Mkdir(home, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := os.Symlink(home, link); err != nil {
			t.Fatal(err)
		}
		c, err := proctest.NewControl(programs, dir, url, "--executor", "none")
		if err != nil {
			t.Fatal(err)
		}
		c.Data = link
		p := &plane{t: t, Control: c}
		p.start()
		p.Data = home // for who asks for its token later
		all = append(all, p)
	}
	// A lease that was ended is missed at its next renewal. Each is renewed twice.
	const leases = "SELECT min(extract(epoch FROM expires))::float8 FROM replicas"
	began := ask[float64](t, url, leases)
	eventually(t, "both leases to be renewed", func() bool { return ask[float64](t, url, leases) > began+5 })
	for _, p := range all {
		if got := p.wait(p.submit("say: it works").GetSubmissionId()); got.GetResult().GetText() != "it works" {
			t.Errorf("settled %v: %q %v", got.GetOutcome(), got.GetResult().GetText(), got.GetError())
		}
	}
	if n := ask[int](t, url, "SELECT count(*) FROM replicas"); n != 2 {
		t.Errorf("there were %d incarnations of two replicas", n)
	}
	for _, p := range all {
		if said := p.Log.String(); strings.Contains(said, "lease was lost") {
			t.Errorf("a replica took the other one for its predecessor: %s", said)
		}
	}
}
