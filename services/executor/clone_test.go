package executor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/proctest"
)

// A data directory is copied while a command runs, and an executor starts on the copy, on the same host. It knows
// nothing of how the command goes on, says so, and leaves it alone. The original delivers the true result.
func TestCloneOfARunningExecutor(t *testing.T) {
	data, copied := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	flag := filepath.Join(t.TempDir(), "flag")
	original := execute(t, data)
	runs(t, original, "a", flag)
	copyDir(t, data, copied)

	clone := execute(t, copied)
	if clone.hello.GetJournalId() == original.hello.GetJournalId() {
		t.Error("the copy of a journal proves what the journal does")
	}
	wantInflight(t, clone, pawlv1.State_STATE_INTERRUPTED)
	clone.stop()
	finishes(t, original, flag)
}

// A data directory is set back to what it was while a command ran: the same files in the same place, or others. The
// command has ended since, with effects that the old state does not know. Its outcome is unknown, never "it did not
// run".
func TestDataDirectoryThatIsSetBack(t *testing.T) {
	for name, clear := range map[string]bool{"files are overwritten": false, "files are replaced": true} {
		t.Run(name, func(t *testing.T) {
			data, saved := t.TempDir(), filepath.Join(t.TempDir(), "saved")
			flag := filepath.Join(t.TempDir(), "flag")
			first := execute(t, data)
			runs(t, first, "a", flag)
			copyDir(t, data, saved)
			finishes(t, first, flag)
			first.stop()
			endKeeper(t, data)
			if clear {
				if err := os.RemoveAll(data); err != nil {
					t.Fatal(err)
				}
			}
			copyDir(t, saved, data)
			wantInflight(t, execute(t, data), pawlv1.State_STATE_INTERRUPTED)
		})
	}
}

// The copy is not of one moment: the keeper's log is from before the command was started, the journal from after.
func TestCopyOfSeveralMoments(t *testing.T) {
	data, saved := t.TempDir(), filepath.Join(t.TempDir(), "saved")
	flag := filepath.Join(t.TempDir(), "flag")
	first := execute(t, data)
	if err := first.command("before", "true"); err != nil {
		t.Fatal(err)
	}
	copyDir(t, data, saved)
	runs(t, first, "a", flag)
	copyFile(t, filepath.Join(data, "journal"), filepath.Join(saved, "journal"))
	finishes(t, first, flag)
	first.stop()
	endKeeper(t, data)
	copyDir(t, saved, data)
	wantInflight(t, execute(t, data), pawlv1.State_STATE_INTERRUPTED)
}

// runs begins a command that ends when there is a flag.
func runs(t *testing.T, r *real, id, flag string) {
	t.Helper()
	err := r.begin(id, "until [ -e "+flag+" ]; do sleep 0.01; done; echo done")
	if err == nil {
		err = r.until(func(m *pawlv1.ConnectRequest) bool { return m.GetAccepted().GetCallId() == id })
	}
	if err != nil {
		t.Fatal(err)
	}
}

// finishes raises the flag and wants the command's true result.
func finishes(t *testing.T, r *real, flag string) {
	t.Helper()
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var res *pawlv1.Result
	if err := r.until(func(m *pawlv1.ConnectRequest) bool { res = m.GetResult(); return res != nil }); err != nil {
		t.Fatal(err)
	}
	if x := res.GetExec(); x == nil || x.GetExitCode() != 0 || string(x.GetStdout().GetHead()) != "done\n" {
		t.Errorf("the command came to %v", res)
	}
}

// wantInflight wants one call in a Hello, in this state.
func wantInflight(t *testing.T, r *real, want pawlv1.State) {
	t.Helper()
	in := r.hello.GetInflight()
	if len(in) != 1 || in[0].GetCallId() != "a" || in[0].GetState() != want {
		t.Errorf("Hello has %v, want a %v", in, want)
	}
}

// copyDir copies files into a directory, over those that are there.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		rel, rerr := filepath.Rel(from, path)
		if err = errors.Join(err, rerr); err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		if d.Type().IsRegular() {
			copyFile(t, path, filepath.Join(to, rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func endKeeper(t *testing.T, data string) {
	t.Helper()
	if err := proctest.EndKeeper(data, time.Minute); err != nil {
		t.Fatal(err)
	}
}
