package keeper

import (
	"testing"

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
