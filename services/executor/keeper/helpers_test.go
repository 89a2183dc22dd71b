package keeper

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// patience bounds every wait of these tests; nothing waits for as long when it works.
const patience = 20 * time.Second

func testEnv() []string { return []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"} }

func shell(line string) Spec {
	s := Spec{Argv: [][]byte{[]byte("/bin/bash"), []byte("-c"), []byte(line)}, Dir: []byte("/")}
	for _, kv := range testEnv() {
		s.Env = append(s.Env, []byte(kv))
	}
	return s
}

// serving is Open, and waits until the keeper serves.
func serving(ctx context.Context, dir string, o Options) (*Client, error) {
	c, err := Open(dir, o)
	if err != nil {
		return nil, err
	}
	if _, err := c.current(ctx, nil); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// ensure connects to a keeper of dir that goes away soon after the test.
func ensure(t testing.TB, dir string, o Options) *Client {
	t.Helper()
	if o.Idle == 0 {
		o.Idle = 50 * time.Millisecond
	}
	if o.OrphanGrace == 0 {
		o.OrphanGrace = 2 * time.Second
	}
	c, err := serving(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		waitFor(t, "the keeper to end", func() bool {
			reapSpawned()
			held, err := locked(dir)
			return err == nil && !held
		})
		if t.Failed() {
			out, _ := os.ReadFile(dir + "/keeper.out")
			t.Logf("keeper.out:\n%s", out)
		}
	})
	return c
}

func start(t testing.TB, c *Client, id, line string) *Cmd {
	t.Helper()
	return startSpec(t, c, id, shell(line))
}

func startSpec(t testing.TB, c *Client, id string, s Spec) *Cmd {
	t.Helper()
	cmd, err := c.Start(context.Background(), id, s)
	if err != nil {
		t.Fatalf("start %s: %v", id, err)
	}
	return cmd
}

func wait(t testing.TB, cmd *Cmd) sandbox.Exit {
	t.Helper()
	select {
	case <-cmd.Done():
	case <-time.After(patience):
		t.Fatalf("command %s does not end", cmd.id)
	}
	return cmd.Exit()
}

// output reads a whole stream of a finished command.
func output(t testing.TB, cmd *Cmd, s sandbox.Stream) string {
	t.Helper()
	var all []byte
	buf := make([]byte, 32<<10)
	for {
		n, err := cmd.ReadOutput(s, buf, int64(len(all)))
		all = append(all, buf[:n]...)
		if err == io.EOF {
			return string(all)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// awaitOutput waits until a running command has written want to stdout.
func awaitOutput(t testing.TB, cmd *Cmd, want string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		changed := cmd.Changed()
		buf := make([]byte, 4096)
		n, err := cmd.ReadOutput(sandbox.Stdout, buf, 0)
		if string(buf[:n]) == want {
			return
		}
		if err != nil {
			t.Fatalf("waiting for %q: have %q, %v", want, buf[:n], err)
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("waiting for %q: have %q", want, buf[:n])
		}
	}
}

// waitFor is for what tells nobody that it happened.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick, deadline := time.NewTicker(2*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waiting for %s", what)
		}
	}
}
