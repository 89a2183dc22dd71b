package work

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

var errNoDescriptor = sandbox.ErrUnavailable.With("too many open files")

// execResult is the one result among frames.
func execResult(t *testing.T, frames []*pawlv1.ConnectRequest) *pawlv1.ExecResult {
	t.Helper()
	for _, m := range frames {
		if r := m.GetResult(); r != nil && r.GetExec() != nil {
			return r.GetExec()
		}
	}
	t.Fatalf("no result of a command: %s", brief(frames))
	return nil
}

// Output that cannot be read when a command ends, and can be a moment later, is what the result says.
func TestOutputIsReadAgain(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("a", line("sleep 1s;echo hello")))
		synctest.Wait()
		r.box.Command("a").FailReads(errNoDescriptor)
		time.Sleep(1100 * time.Millisecond)
		r.box.Command("a").FailReads(nil)
		time.Sleep(time.Second)
		x := execResult(t, r.take())
		if got := x.GetStdout(); string(got.GetHead()) != "hello\n" || got.GetError() != "" || got.GetCut() != 0 {
			t.Errorf("got %v", got)
		}
		if r.box.Command("a").Preserved() {
			t.Error("output that was read is kept as if it had not been")
		}
	})
}

// Output that cannot be read at all is never told as none.
func TestUnreadableOutputIsTold(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("a", line("sleep 1s;echo hello;warn oh;exit 3")))
		synctest.Wait()
		r.box.Command("a").FailReads(errNoDescriptor)
		time.Sleep(30 * time.Second)
		x := execResult(t, r.take())
		streams := map[string]*pawlv1.Captured{"standard output": x.GetStdout(), "standard error": x.GetStderr()}
		for name, got := range streams {
			if got.GetSize() == 0 || got.GetCut() != got.GetSize() {
				t.Errorf("%s: %v", name, got)
			}
			for _, want := range []string{name, "too many open files", "/preserved"} {
				if !strings.Contains(got.GetError(), want) {
					t.Errorf("%q does not tell of %s", got.GetError(), want)
				}
			}
		}
		if x.GetExitCode() != 3 || !r.box.Command("a").Preserved() {
			t.Errorf("exit code %d, preserved %v", x.GetExitCode(), r.box.Command("a").Preserved())
		}
	})
}

// A watcher of a running command gets what could not be read for a while.
func TestLiveOutputIsReadAgain(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("a", line("echo one;sleep 1s;echo two;sleep 1h")))
		r.want("accepted a", "output a STDOUT 0+4")
		r.box.Command("a").FailReads(errNoDescriptor)
		time.Sleep(2 * time.Second)
		r.want()
		r.box.Command("a").FailReads(nil)
		time.Sleep(time.Second)
		r.want("output a STDOUT 4+4")
	})
}

// An end that a full disk could not take is recorded when there is room, so that a restart finds it.
func TestEndIsRecordedLater(t *testing.T) {
	within(t, func(r *rig) {
		var full atomic.Bool
		r.down()
		r.jcfg.WriteAt = func(f *os.File, b []byte, off int64) (int, error) {
			if full.Load() {
				return 0, syscall.ENOSPC
			}
			return f.WriteAt(b, off)
		}
		r.up()
		r.connect()
		r.box.Gate = make(chan struct{})
		r.send(execute("a", putFile("f", "content")))
		r.want("accepted a")
		full.Store(true)
		close(r.box.Gate)
		r.want("result a file 7")
		full.Store(false)
		time.Sleep(2 * sweepEvery)
		r.restart()
		if got := r.inflight(); got != "a FINISHED" {
			t.Errorf("after a restart: %s", got)
		}
	})
}

// An acknowledgement that a full disk could not take is recorded when there is room, over the same connection.
func TestAcknowledgementIsRecordedLater(t *testing.T) {
	within(t, func(r *rig) {
		var full atomic.Bool
		r.down()
		r.jcfg.WriteAt = func(f *os.File, b []byte, off int64) (int, error) {
			if full.Load() {
				return 0, syscall.ENOSPC
			}
			return f.WriteAt(b, off)
		}
		r.up()
		r.connect()
		r.send(execute("before", line("echo one")))
		r.send(execute("while", line("sleep 1s")))
		r.take()
		full.Store(true)
		r.ack("before")
		time.Sleep(2 * time.Second)
		r.take()
		r.ack("while")
		time.Sleep(2 * ackPause)
		if got := r.inflight(); got != "before FINISHED, while FINISHED" {
			t.Errorf("while the disk is full: %s", got)
		}
		full.Store(false)
		time.Sleep(2 * ackPause)
		if got := r.inflight(); got != "" {
			t.Errorf("once it has room: %s", got)
		}
		r.restart()
		if got := r.inflight(); got != "" {
			t.Errorf("after a restart: %s", got)
		}
	})
}

// A result that the journal cannot give is asked for again, and told as lost when it stays so.
func TestResultIsReadAgain(t *testing.T) {
	for name, back := range map[string]bool{"it comes back": true, "it does not": false} {
		t.Run(name, func(t *testing.T) {
			within(t, func(r *rig) {
				r.send(execute("a", line("bytes 9000")))
				r.take()
				r.restart() // now only the journal has it
				path := filepath.Join(r.dir, "journal")
				whole, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Truncate(path, 8); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Second)
				r.want()
				if back {
					if err := os.WriteFile(path, whole, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(10 * time.Second)
				if back {
					r.want("result a exit 0")
				} else {
					r.want("result a INTERRUPTED")
				}
			})
		})
	}
}
