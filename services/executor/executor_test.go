package executor

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/pawl-dev/pawl/services/executor/journal"
	"github.com/pawl-dev/pawl/services/executor/work/worktest"
)

// Slots are capped by the limit of open files, with a word. The test runs itself with a low one.
func TestSlotsAreCapped(t *testing.T) {
	const inside = "PAWL_TEST_SLOTS"
	if os.Getenv(inside) == "" {
		line := `ulimit -n 256 && exec "$0" -test.run='^TestSlotsAreCapped$' -test.v`
		cmd := exec.Command("/bin/sh", "-c", line, "/proc/"+strconv.Itoa(os.Getpid())+"/exe")
		cmd.Env = append(os.Environ(), inside+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Fatalf("%v:\n%s", err, out)
		}
		return
	}
	for asked, want := range map[int]int{0: 32, 10: 10, 32: 32, 700: 32} {
		var log bytes.Buffer
		cfg := Config{Slots: asked, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		if err := cfg.capSlots(); err != nil || cfg.Slots != want {
			t.Errorf("%d slots of %d, %v", cfg.Slots, asked, err)
		}
		if said := strings.Contains(log.String(), "ulimit"); said != (asked == 0 || asked > want) {
			t.Errorf("of %d it says %q", asked, log.String())
		}
	}
}

// An executor whose journal can no longer be written ends and says why, so that it is started anew; it does not stay to
// refuse.
func TestEndsWithItsJournal(t *testing.T) {
	dir := t.TempDir()
	j, err := journal.Open(dir, journal.Config{})
	if err != nil {
		t.Fatal(err)
	}
	// An acknowledged command that the sandbox may still hold is forgotten soon, which begins with a sync.
	b := journal.Begin{CallID: "a", LaneID: "s", Epoch: 1, Exec: true}
	if _, err := j.End(b, journal.Finished, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Ack("a"); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		box := worktest.New()
		defer box.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		err := Run(ctx, Config{
			ID: "e", DataDir: dir, Sandbox: box,
			Dial:    func(context.Context) (*grpc.ClientConn, error) { return nil, errors.New("control is away") },
			Journal: journal.Config{Fsync: func(*os.File) error { return syscall.EIO }},
		})
		if !errors.Is(err, journal.ErrFailed) || ctx.Err() != nil {
			t.Fatalf("Run: %v", err)
		}
		if n := strings.Count(err.Error(), "journal"); n != 1 {
			t.Errorf("the error says it %d times: %v", n, err)
		}
	})
}

// Executors spread over the addresses of control, and each tries all of them in turn.
func TestTargetsInTurn(t *testing.T) {
	firsts := map[string]int{}
	for range 300 {
		cfg := Config{Targets: []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}}
		dial, seen := cfg.dialer(), map[string]int{}
		for i := range 6 {
			cc, err := dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				firsts[cc.Target()]++
			}
			seen[cc.Target()]++
			if i == 2 && len(seen) != 3 {
				t.Fatalf("three attempts went to %v", seen)
			}
			if err := cc.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, target := range []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"} {
		if firsts[target] < 30 {
			t.Errorf("of 300 executors began at %v", firsts)
		}
	}
}
