package platformtest_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
)

// setBack is a machine that is set back to a copy of its disk: nothing of what ran on it is left.
func (w *world) setBack(disk []byte) {
	w.Helper()
	w.m.Kill()
	w.m.Box.Crash()
	w.m.Disk.Restore(w, disk)
}

// second starts a clone of the machine, which control must refuse for the one that is there.
func (w *world) second(clone *platformtest.Machine, at *platformtest.Platform) {
	w.Helper()
	began := time.Now()
	err := clone.Refused(at)
	if err == nil || !strings.Contains(err.Error(), "another executor is connected as m") {
		w.Errorf("the clone ended with %v", err)
	}
	if took := time.Since(began); took > time.Second {
		w.Errorf("it was refused after %s", took)
	}
}

// copied is what the model and the stream are told of a call that the journal of a copy does not have.
const copied = "its data directory is not the one that it had when the call was sent"

// Row 16: the executor's data directory is set back to what it was, or its machine is replaced by an older copy.
var copyRows = []row{
	{"16", "the executor's data directory is set back to before the call", "U", func(w *world) {
		disk := w.m.Disk.Copy(w)
		id := w.submit(one)
		w.sleep(time.Second)
		w.setBack(disk)
		w.m.Start(w.a)
		w.wait(w.a, id, copied)
		w.unknown("shell")
		w.finish(w.a, "shell", "one")
	}},
	{
		"16", "the executor's data directory is set back to before the call, and its replica is killed", "U",
		func(w *world) {
			disk := w.m.Disk.Copy(w)
			id := w.submit(one)
			w.sleep(10 * time.Second) // control records what it has heard of every 5 s
			w.a.Kill()
			w.setBack(disk)
			b := w.next(w.a)
			w.m.Start(b)
			w.wait(b, id, copied)
			w.unknown("shell")
			w.finish(b, "shell", "one")
		},
	},
	{"16", "the executor's data directory is set back by several restarts", "U", func(w *world) {
		disk := w.m.Disk.Copy(w)
		for range 3 {
			w.m.Kill()
			w.m.Start(w.a)
		}
		w.m.Wire.Cut()
		id := w.submit(one)
		w.m.Wire.Mend()
		w.sleep(10 * time.Second)
		w.setBack(disk)
		w.m.Start(w.a)
		w.wait(w.a, id, copied)
		w.unknown("shell")
		w.finish(w.a, "shell", "one")
	}},
	{
		"16", "the executor's host dies, and a copy of it that was made before the call takes its place", "U",
		func(w *world) {
			clone := w.m.Clone()
			id := w.submit(one)
			w.sleep(10 * time.Second)
			w.m.Wire.Freeze() // and nobody is told
			clone.Start(w.a)
			w.wait(w.a, id, copied)
			w.unknown("shell")
			if text, _ := clone.Box.Get("effects"); text != "" {
				w.Errorf("the clone ran it again: %q", text)
			}
			w.m.Wire.Mend()
			w.sleep(time.Minute)
			clone.Stop()
			w.m.Start(w.a)
			w.finish(w.a, "shell", "one")
		},
	},
}

// Rows 18 and 19: another executor of the same name, an executor that is slow, and a database that cannot record that
// one has left.
var cloneRows = []row{
	{"18", "the executor is restarted again and again while control is away", "R", func(w *world) {
		id := w.submit(one)
		w.sleep(10 * time.Second)
		w.m.Tap(func(f platformtest.Frame) platformtest.Fate {
			if f.Kind == "Welcome" {
				return platformtest.Drop
			}
			return platformtest.Pass
		})
		for range 5 {
			w.m.Kill()
			w.m.Run(w.a)
			w.sleep(time.Second)
		}
		w.m.Tap(nil)
		w.m.Kill()
		w.m.Start(w.a)
		w.wait(w.a, id, truth)
		w.finish(w.a, "shell", "one")
	}},
	{"18", "a clone of the executor's machine connects while the executor is connected", "R", func(w *world) {
		id := w.submit(one)
		w.sleep(10 * time.Second)
		clone := w.m.Clone()
		for range 3 {
			w.second(clone, w.a)
		}
		w.wait(w.a, id, truth)
		if n := w.count("Hello", ""); n != 1 {
			w.Errorf("the executor has connected %d times", n)
		}
		w.output("shell", truth+"\n")
		w.finish(w.a, "shell", "one")
	}},
	{"18", "a clone of the executor's machine connects to another replica", "R", func(w *world) {
		b := w.c.Start("b", nil)
		id := w.submit(one)
		w.sleep(10 * time.Second)
		clone := w.m.Clone()
		for range 3 {
			w.second(clone, b)
		}
		w.wait(w.a, id, truth)
		if n := w.count("Hello", ""); n != 1 {
			w.Errorf("the executor has connected %d times", n)
		}
		w.output("shell", truth+"\n")
		w.finish(w.a, "shell", "one")
	}},
	{"18", "the executor is slow to say Hello when it reconnects", "R", func(w *world) {
		id := w.submit(one)
		w.sleep(5 * time.Second)
		var slow atomic.Bool
		slow.Store(true)
		w.m.Tap(func(f platformtest.Frame) platformtest.Fate {
			if f.Kind == "Hello" && slow.Swap(false) {
				w.sleep(11 * time.Second)
			}
			return platformtest.Pass
		})
		w.m.Wire.Cut()
		w.m.Wire.Mend()
		w.m.Welcomed()
		w.wait(w.a, id, truth)
		w.finish(w.a, "shell", "one")
	}},
	{"19", "the executor's host is lost while the database cannot record it", "U", func(w *world) {
		id := w.submit(one)
		w.sleep(10 * time.Second)
		w.a.DB.Strike(func(s platformtest.Step) error {
			if s.Op == "Disconnect" {
				return errors.New("disk full")
			}
			return nil
		})
		w.m.Wire.Cut()
		w.sleep(30 * time.Second)
		w.a.DB.Strike(nil)
		began := time.Now()
		w.wait(w.a, id, "unknown")
		if took := time.Since(began); took > 3*time.Minute {
			w.Errorf("it settled after %s, with a grace of 2 minutes", took)
		}
		w.unknown("shell")
		w.m.Wire.Mend()
		w.sleep(time.Minute)
		w.finish(w.a, "shell", "one")
	}},
	{"19", "the executor's host is lost while the database cannot record it for hours", "U", func(w *world) {
		b := w.c.Start("b", nil)
		w.a.DB.Strike(func(s platformtest.Step) error {
			if s.Op == "Disconnect" {
				return errors.New("disk full")
			}
			return nil
		})
		id := w.submit(one)
		w.sleep(10 * time.Second)
		w.m.Wire.Cut()
		began := time.Now()
		w.wait(b, id, "unknown")
		if took := time.Since(began); took > 4*time.Minute {
			w.Errorf("it settled after %s, with a grace of 2 minutes", took)
		}
		w.unknown("shell")
		next := w.submit("echo never")
		w.sleep(time.Minute)
		w.abort(b, next)
		began = time.Now()
		w.aborted([]string{next}, w.a, b)
		if took := time.Since(began); took > time.Minute {
			w.Errorf("it took %s to end", took)
		}
		w.a.DB.Strike(nil)
		w.m.Wire.Mend()
		w.sleep(time.Minute)
		w.finish(w.a, "shell", "one")
	}},
}

// A result that comes late, when nobody runs the session, is kept without the agent's secrets.
func TestLateReplyHasNoSecrets(t *testing.T) {
	t.Setenv("PAWL_TEST_SECRET", "hunter2hunter2")
	synctest.Test(t, func(t *testing.T) {
		def := agent.Shell()
		def.Env = agent.Env{"TOKEN": new("${PAWL_TEST_SECRET}")}
		w := &world{T: t}
		w.c = platformtest.New(t, platformtest.Options{Models: models{&w.asking}, Agents: []agent.Definition{def}})
		w.a = w.c.Start("a", nil)
		w.m = w.c.Machine(w.a, "m")
		w.m.Start(w.a)
		id := w.submit("sleep 1m;env TOKEN")
		w.sleep(10 * time.Second)
		w.m.Wire.Cut()
		w.sleep(5 * time.Minute)
		w.m.Wire.Mend()
		if _, err := w.tryWait(w.a, id); err != nil {
			t.Fatal(err)
		}
		w.sleep(time.Minute)
		calls := w.calls(w.sessionID("shell"))
		if len(calls) != 1 || len(calls[0].LateReply) == 0 {
			t.Fatalf("the calls are %+v", calls)
		}
		reply, err := builtin.Tools().Decode(calls[0].Tool, calls[0].LateReply)
		if err != nil {
			t.Fatal(err)
		}
		x, ok := reply.(tool.ExecReply)
		if !ok || string(x.Stdout.Head) != "TOKEN=[redacted] in .\n" {
			t.Errorf("%+v is kept", reply)
		}
	})
}
