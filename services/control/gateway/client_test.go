package gateway_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/debian"
	"github.com/pawl-dev/pawl/services/control/gateway"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
)

// The public client of Flue 0.10.2 works as it is. What it does is in testdata/client.mjs.
func TestPublicClient(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	node, err := debian.Find(ctx, "nodejs", "node", "nodejs")
	if err != nil {
		t.Fatal(err)
	}
	f := withFlows(t, nil)
	failed := withFlows(t, func(d *gateway.Deps) {
		p := planetest.New(t, failing("no"))
		d.Agents, d.Service = p.Agents, p.Submissions
	})
	const vendored = "../../../third_party/"
	cmd := exec.CommandContext(ctx, node, "testdata/client.mjs", vendored+"flue/sdk.mjs", vendored+"ws/ws.mjs",
		f.URL, "op", failed.URL)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if last = lines.Text(); last == "gate" {
			close(f.gate)
		}
	}
	if err := cmd.Wait(); err != nil || last != "done" {
		t.Errorf("%v after %q", err, last)
	}
}
