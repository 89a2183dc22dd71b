package local

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/executor/keeper"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
	"github.com/pawl-dev/pawl/services/executor/sandbox/sandboxtest"
)

func TestMain(m *testing.M) {
	if keeper.Invoked() {
		os.Exit(keeper.Main())
	}
	os.Exit(m.Run())
}

func open(t *testing.T, o Options) *Sandbox {
	t.Helper()
	if o.Root == "" {
		o.Root = t.TempDir()
	}
	if o.DataDir == "" {
		o.DataDir = t.TempDir()
	}
	o.KeeperOptions.Idle, o.KeeperOptions.OrphanGrace = 20*time.Millisecond, 100*time.Millisecond
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		keeperEnded(t, o.DataDir)
	})
	return s
}

// keeperEnded waits until the keeper has let go of its directory, so that this can be removed.
func keeperEnded(t *testing.T, dir string) {
	sock := filepath.Join(dir, "keeper.sock")
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-time.After(5 * time.Millisecond) {
		if _, err := os.Lstat(sock); err != nil {
			return
		}
	}
	t.Error("the keeper does not end")
}

func TestSandbox(t *testing.T) {
	sandboxtest.Run(t, func(t *testing.T) sandbox.Sandbox { return open(t, Options{}) })
}
