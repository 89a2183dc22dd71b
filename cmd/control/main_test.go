package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/client"
	"github.com/pawl-dev/pawl/internal/proctest"
	"github.com/pawl-dev/pawl/services/executor/keeper"
)

func TestMain(m *testing.M) {
	if keeper.Invoked() {
		os.Exit(keeper.Main())
	}
	if os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// asProgram makes the test's binary the program itself.
const asProgram = "PAWL_TEST_AS_PROGRAM"

// invoke runs the program to its end.
func invoke(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	c := command()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&errs)
	err = cli.Execute(t.Context(), c)
	return out.String(), errs.String(), err
}

// server is a control plane that runs.
type server struct {
	data, said string
	here       client.Addresses
	stop       func() error
	log        bytes.Buffer // to be read once it has stopped
}

// start runs a control plane until it is stopped or the test ends.
func start(t *testing.T, data string, args ...string) *server {
	t.Helper()
	c := command()
	c.SetArgs(append([]string{
		"--data", data, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--root", t.TempDir(),
	}, args...))
	said := make(announcement, 1)
	c.SetOut(said)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s := &server{data: data, stop: func() error { cancel(); err := <-done; done <- nil; return err }}
	c.SetErr(&s.log)
	go func() { done <- cli.Execute(ctx, c) }()
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("control ended with %v", err)
		}
		if err := proctest.EndKeeper(filepath.Join(data, "executor"), time.Minute); err != nil {
			t.Error(err)
		}
	})
	select {
	case s.said = <-said:
	case err := <-done:
		done <- nil
		t.Fatalf("control did not start: %v", err)
	}
	here, ok, err := client.ReadAddresses(data)
	if !ok || err != nil {
		t.Fatalf("%v, %v", ok, err)
	}
	s.here = here
	return s
}

// announcement takes what a control plane says once it is ready.
type announcement chan string

// Write implements io.Writer.
func (a announcement) Write(b []byte) (int, error) {
	a <- string(b)
	return len(b), nil
}

func TestQuickstart(t *testing.T) {
	data := filepath.Join(t.TempDir(), "it's here")
	s := start(t, data)
	for _, want := range []string{s.here.HTTP, s.here.GRPC, filepath.Join(data, "token")} {
		if !strings.Contains(s.said, want) {
			t.Errorf("%s is not in %s", want, s.said)
		}
	}
	_, line, _ := strings.Cut(s.said, "Try it:\n")
	if said, err := exec.CommandContext(t.Context(), "sh", "-c", line).CombinedOutput(); err != nil ||
		!strings.Contains(string(said), `"text":"hello from `) {
		t.Errorf("%s gave %v, %s", line, err, said)
	}
	out, trace, err := invoke(t, "prompt", "--data", data, "shell", "seq 3 && pwd >&2")
	if err != nil || !strings.Contains(out, "1\n2\n3\n") || !strings.Contains(trace,
		"[bash on builtin] seq 3 && pwd >&2\n") {
		t.Errorf("%v, %q, %q", err, out, trace)
	}
	if out, stderr, err := invoke(t, "prompt", "--data", data, "shell", "fail: no way"); err == nil ||
		!strings.Contains(stderr, "no way") {
		t.Errorf("%v, %q, %q", err, out, stderr)
	}
	checkFiles(t, data)
	checkInterrupt(t, data)
	if _, stderr, err := invoke(t, "--data", data, "--agents", data, "--http", "127.0.0.1:0", "--grpc",
		"127.0.0.1:0"); err == nil || !strings.Contains(stderr, "another control plane uses the data directory") {
		t.Errorf("a second one: %v, %s", err, stderr)
	}
	checkTokens(t, data)
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if _, ok, err := client.ReadAddresses(data); ok || err != nil {
		t.Errorf("the addresses are left: %v, %v", ok, err)
	}
	checkTokens(t, data) // now in the database
}

// checkFiles writes a file of a session and reads it back, there and at its executor.
func checkFiles(t *testing.T, data string) {
	t.Helper()
	content := strings.Repeat("a\x00b\xff", 100_000)
	c := command()
	var said bytes.Buffer
	c.SetArgs([]string{"files", "put", "--data", data, "shell/cli", "dir/f"})
	c.SetIn(strings.NewReader(content))
	c.SetErr(&said)
	if err := cli.Execute(t.Context(), c); err != nil ||
		!regexp.MustCompile(`^400000 bytes, sha256 [0-9a-f]{64}, on builtin\n$`).MatchString(said.String()) {
		t.Errorf("put: %v, %q", err, said.String())
	}
	for _, target := range []string{"shell/cli", "shell/cli/other", "builtin"} {
		if out, stderr, err := invoke(t, "files", "get", "--data", data, target, "dir/f"); err != nil ||
			out != content {
			t.Errorf("%s: %d bytes, %v, %q", target, len(out), err, stderr)
		}
	}
	for target, want := range map[string]string{
		"shell/cli": "no such file", "nobody": "no such executor: nobody",
		"nobody/cli": `no such agent: "nobody"`,
	} {
		if out, stderr, err := invoke(t, "files", "get", "--data", data, target, "missing"); err == nil || out != "" ||
			!strings.Contains(stderr, want) {
			t.Errorf("%s: %q, %v, %q, want %q", target, out, err, stderr, want)
		}
	}
}

// Who is interrupted while standard input says nothing is not held up by it.
func checkInterrupt(t *testing.T, data string) {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	in, hold := io.Pipe()
	defer hold.Close() //nolint:errcheck // of a test
	c := command()
	var said bytes.Buffer
	c.SetArgs([]string{"files", "put", "--data", data, "shell/cli", "never"})
	c.SetIn(in)
	c.SetErr(&said)
	done := make(chan error, 1)
	go func() { done <- cli.Execute(ctx, c) }()
	if _, err := hold.Write([]byte("x")); err != nil { // is taken once it reads
		t.Fatal(err)
	}
	interrupt()
	if err := <-done; err == nil || said.String() != "control: interrupted\n" {
		t.Errorf("%v, %q", err, said.String())
	}
}

// checkTokens makes, lists and revokes a token.
func checkTokens(t *testing.T, data string) {
	t.Helper()
	secret, told, err := invoke(t, "token", "create", "--data", data, "--role", "viewer",
		"--agent", "shell", "--agent", "b",
		"--name", "ci", "--expires-in", "720h", "--instance-prefix", "p", "--rate", "10")
	if err != nil || !regexp.MustCompile(`^pawl_c_[A-Za-z0-9]{43}_[A-Za-z0-9]{6}\n$`).MatchString(secret) {
		t.Fatalf("%v, %q, %q", err, secret, told)
	}
	if strings.Contains(told, strings.TrimSpace(secret)) {
		t.Error("the secret is told twice")
	}
	id := strings.Fields(told)[1]
	list, _, err := invoke(t, "token", "list", "--data", data)
	row := id + ` +default +viewer of shell, b in instances p\* at 10/s, 10 at once +ci .*expires`
	if err != nil || !regexp.MustCompile(row).MatchString(list) ||
		strings.Contains(list, strings.TrimSpace(secret)) {
		t.Errorf("%v, %s", err, list)
	}
	if _, _, err := invoke(t, "token", "revoke", "--data", data, id); err != nil {
		t.Error(err)
	}
	if _, stderr, err := invoke(t, "token", "revoke", "--data", data, "x"); err == nil ||
		!strings.Contains(stderr, `no such token: "x"`) {
		t.Errorf("%v, %q", err, stderr)
	}
	if list, _, err = invoke(t, "token", "list", "--data", data); err != nil ||
		!regexp.MustCompile(id+`.*revoked`).MatchString(list) {
		t.Errorf("%v, %s", err, list)
	}
}
