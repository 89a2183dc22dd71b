package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/chaos/proxy"
	"github.com/pawl-dev/pawl/internal/debian"
	"github.com/pawl-dev/pawl/internal/proctest"
)

// bank is a control plane with an agent that names the tools of an example, and that example.
type bank struct {
	*testing.T
	*breakable
	example
	command []string
	dir     string // where the example runs
}

// startBank starts control, and the example that a command runs.
func startBank(t *testing.T, command ...string) *bank {
	t.Helper()
	agents := t.TempDir()
	file := "---\nmodel: offline/shell\ntools: [bash, executor/lookup, executor/transfer]\n---\n"
	if err := os.WriteFile(filepath.Join(agents, "bank.md"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &bank{T: t, breakable: startBreakable(t, "--agents", agents), command: command, dir: t.TempDir()}
	secret, stderr, err := invoke(t, "token", "create", "--data", b.data, "--executor", "tools")
	if err != nil {
		t.Fatal(err, stderr)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "token"), []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	return b
}

func (b *bank) start() {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), exampleTime)
	b.Cleanup(cancel)
	b.example = example{log: &proctest.Log{}, ctx: ctx}
	var err error
	b.Process, err = proctest.StartWith("/bin/sh", append([]string{"-c", `cd "$0" && exec "$@"`, b.dir}, b.command...),
		append(os.Environ(), "PAWL_SERVER="+b.grpc.Addr(), "PAWL_TOKEN_FILE=token"), b.log)
	if err != nil {
		b.Fatal(err)
	}
	one := b.example
	b.Cleanup(func() {
		_ = one.End(syscall.SIGKILL, exampleTime)
		if b.Failed() {
			b.Logf("the example said\n%s", one.log)
		}
	})
	b.await(b.T, "connected to ")
}

func (b *bank) kill() {
	b.Helper()
	if err := b.End(syscall.SIGKILL, exampleTime); err != nil {
		b.Fatal(err)
	}
}

// prompt begins a prompt, and returns how its answer is waited for.
func (b *bank) prompt(message string) func() string {
	said := make(chan string, 1)
	go func() {
		out, stderr, err := invoke(b.T, "prompt", "--data", b.data, "bank", message)
		if err != nil {
			out = err.Error() + "\n" + stderr
		}
		said <- out
	}()
	return func() string {
		b.Helper()
		select {
		case out := <-said:
			return strings.TrimSpace(out)
		case <-time.After(exampleTime):
			b.Fatal("the prompt has no answer")
			return ""
		}
	}
}

// hold makes transfers to an account wait.
func (b *bank) hold(account string) (release func()) {
	b.Helper()
	path := filepath.Join(b.dir, "hold-"+account)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			b.Fatal(err)
		}
	}
}

// transfers are those that were made, once there are so many.
func (b *bank) transfers(n int) (made string) {
	b.Helper()
	b.until(func() bool {
		done, err := os.ReadFile(filepath.Join(b.dir, "transfers"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			b.Fatal(err)
		}
		made = string(done)
		return strings.Count(made, "\n") >= n
	})
	return made
}

// until waits for what tells nobody that it happened.
func (b *bank) until(ok func() bool) {
	b.Helper()
	tick, late := time.NewTicker(10*time.Millisecond), time.After(exampleTime)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			b.Fatal("it does not come to that")
		}
	}
}

func (b *bank) expect(answer func() string, want string) {
	b.Helper()
	if got := answer(); !strings.Contains(got, want) {
		b.Errorf("answered %q, want %q", got, want)
	}
}

// offersTools has a model call the tools of an example, and breaks what can break.
func (b *bank) offersTools() {
	b.expect(b.prompt(`tool lookup: {"account": "a"}`), "The balance of a is 100.")
	b.expect(b.prompt(`tool transfer: {"account": "a"}`), "amount: is required")
	b.expect(b.prompt(`tool transfer: {"account": "a", "amount": 1}`), "1 transferred to a.")
	b.expect(b.prompt(`bash ls`), "no shell and no files")

	// The connection is lost while a tool runs, and its result arrives over the next one.
	release := b.hold("b")
	answer := b.prompt(`tool transfer: {"account": "b", "amount": 2}`)
	b.transfers(2)
	b.grpc.Cut()
	b.await(b.T, "the connection has ended")
	release()
	b.expect(answer, "2 transferred to b.")

	// A result that was not acknowledged outlives the process.
	release = b.hold("c")
	answer = b.prompt(`tool transfer: {"account": "c", "amount": 3}`)
	b.transfers(3)
	b.grpc.Set(proxy.Mode{HoldUp: true})
	release()
	b.until(func() bool { return strings.Count(b.log.String(), "transfer has ended") == 3 })
	b.kill()
	b.grpc.Cut()
	b.grpc.Set(proxy.Mode{})
	b.start()
	b.expect(answer, "3 transferred to c.")

	// A call that was cut off may have done anything: nobody says more, and nobody does it again.
	b.hold("d")
	answer = b.prompt(`tool transfer: {"account": "d", "amount": 4}`)
	b.transfers(4)
	b.kill()
	b.start()
	b.expect(answer, "The outcome of this call is unknown")
	if got, want := b.transfers(4), "1 to a\n2 to b\n3 to c\n4 to d\n"; got != want {
		b.Errorf("the transfers are %q, want %q", got, want)
	}
	b.expect(b.prompt(`tool lookup: {"account": "e"}`), "The balance of e is 100.")

	// A tool is told to stop when its prompt is aborted.
	b.hold("f")
	answer = b.prompt(`tool transfer: {"account": "f", "amount": 5}`)
	b.transfers(5)
	if _, stderr, err := invoke(b.T, "abort", "--data", b.data, "bank/cli"); err != nil {
		b.Error(err, stderr)
	}
	b.expect(answer, "abort")
	b.until(func() bool { return strings.Contains(b.log.String(), "transfer has ended") })
}

func TestExampleToolsNode(t *testing.T) {
	dir := exampleOfNode(t, "tools-node")
	startBank(t, "node", filepath.Join(dir, "tools.mjs")).offersTools()
}

func TestExampleToolsPython(t *testing.T) {
	file, err := filepath.Abs("../../examples/tools-python/tools.py")
	if err != nil {
		t.Fatal(err)
	}
	startBank(t, pythonWithGRPC(t), "-B", file).offersTools()
}

// pythonWithGRPC is a Python that can speak gRPC, with what it needs to read .proto files.
func pythonWithGRPC(t *testing.T) string {
	t.Helper()
	imports := func() (string, bool) {
		for _, python := range []string{"python3", "/usr/bin/python3"} {
			if exec.CommandContext(t.Context(), python, "-c", "import grpc, google.protobuf").Run() == nil {
				return python, true
			}
		}
		return "", false
	}
	python, err := debian.Install(t.Context(), "python3-grpcio", imports, errors.New("python3 has no module grpc: run "+
		"pip install grpcio grpcio-tools (Debian: apt-get install python3-grpcio)"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := debian.Find(t.Context(), "protobuf-compiler", "protoc"); err != nil {
		t.Fatal(err)
	}
	const imported = "/usr/include/google/protobuf/timestamp.proto" // where Debian's protoc looks for it
	there := func() (string, bool) { _, err := os.Stat(imported); return imported, err == nil }
	if _, err := debian.Install(t.Context(), "libprotobuf-dev", there, errors.New(imported+" is missing: install it "+
		"(Debian: apt-get install libprotobuf-dev)")); err != nil {
		t.Fatal(err)
	}
	return python
}

// exampleOfNode is a copy of an example, away from the tree, which stays as it is, with what it depends on.
func exampleOfNode(t *testing.T, name string) string {
	t.Helper()
	top := t.TempDir()
	dir := filepath.Join(top, "examples", name)
	for to, from := range map[string]string{
		dir: "../../examples/" + name, filepath.Join(top, "proto"): "../../proto",
		filepath.Join(top, "third_party"): "../../third_party",
	} {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	npmInstall(t, dir)
	return dir
}
