package keeper

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// As many commands as the limit of open files allows run at once, however much they write, and none misses a
// descriptor.
func TestCapacityIsEnough(t *testing.T) {
	const limit = 256
	if got := Capacity(limit); got != 32 {
		t.Fatalf("%d commands", got)
	}
	if few, many := Capacity(10), Capacity(1<<63); few != 1 || many < 1<<20 {
		t.Errorf("%d of few, %d of many", few, many)
	}
	dir, work := t.TempDir(), t.TempDir()
	c := ensure(t, dir, Options{StreamCap: 4 << 10})
	allow(t, c, limit)
	line := "seq 5000; seq 5000 >&2; until test -e " + work + "/go; do sleep 0.05; done; echo end"
	var cmds []*Cmd
	for i := range Capacity(limit) {
		cmds = append(cmds, start(t, c, fmt.Sprint("c", i), line))
	}
	var wg sync.WaitGroup
	for i, cmd := range cmds {
		wg.Go(func() {
			waitFor(t, "the command to write", func() bool { return cmd.Size(sandbox.Stderr) >= 2<<10 })
			if i == 0 {
				touch(t, work+"/go")
			}
			if e := wait(t, cmd); e.Code != 0 || e.StdoutError != "" || e.StderrError != "" || !e.Confirmed {
				t.Errorf("%s: %+v", cmd.id, e)
			}
			if got := output(t, cmd, sandbox.Stdout); !strings.HasSuffix(got, "5000\nend\n") {
				t.Errorf("%s: %q", cmd.id, got[max(0, len(got)-20):])
			}
		})
	}
	wg.Wait()
}
