package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/client"
	"github.com/pawl-dev/pawl/internal/pgtest"
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

// A life without trouble leaves nothing but informative lines, on either database: at the start the built-in executor
// may come before the replica is registered, and at the end it loses its connection.
func TestTheLogOfALifeWithoutTrouble(t *testing.T) {
	for name, args := range map[string][]string{"sqlite": nil, "postgres": {"--database", pgtest.URL(t)}} {
		t.Run(name, func(t *testing.T) {
			s := start(t, filepath.Join(t.TempDir(), "data"), append(args, "--log-format", "json")...)
			if _, stderr, err := invoke(t, "prompt", "--data", s.data, "shell", "echo hello"); err != nil {
				t.Errorf("%v, %q", err, stderr)
			}
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			log := s.log.String()
			for line := range strings.Lines(log) {
				if !strings.Contains(line, `"level":"INFO"`) || strings.Contains(line, "cannot be reached") ||
					strings.Contains(line, "was lost") {
					t.Errorf("%s", line)
				}
			}
			for _, want := range []string{
				"replica registered", "executor connected", "submission settled",
				"executor disconnected",
			} {
				if strings.Count(log, `"msg":"`+want+`"`) != 1 {
					t.Errorf("%q is not there once:\n%s", want, log)
				}
			}
		})
	}
}

// Replicas find each other without being told how.
func TestReplicasCanBeDialled(t *testing.T) {
	s := start(t, t.TempDir(), "--executor", "none", "--database", pgtest.URL(t))
	if want := "\n  peers   dial " + s.here.GRPC + "\n"; !strings.Contains(s.said, want) {
		t.Errorf("it says\n%swant %q", s.said, want)
	}
	for addr, want := range map[string]string{"0.0.0.0:7": "host:7", "[::]:7": "host:7", "127.0.0.1:7": "127.0.0.1:7"} {
		at, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := dialable(at, "host"); got != want {
			t.Errorf("%s is dialled at %s, want %s", addr, got, want)
		}
	}
}

// The whole program works behind a pooler that shares sessions, with the commands that reach the database by
// themselves.
func TestControlBehindAPooler(t *testing.T) {
	server, data := pgtest.URL(t), t.TempDir()
	flags := []string{"--data", data, "--database", pgtest.Pooled(t, server), "--database-direct", server}
	if _, stderr, err := invoke(t, append([]string{"token", "create", "--operator"}, flags...)...); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	start(t, data, flags[2:]...)
	stdout, stderr, err := invoke(t, "prompt", "--data", data, "shell", "echo done")
	if err != nil || !strings.Contains(stdout, "done") {
		t.Errorf("prompting: %q, %v\n%s", stdout, err, stderr)
	}
}

func TestHelpNamesEveryFlagAndVariable(t *testing.T) {
	out, _, err := invoke(t, "--help")
	if err != nil {
		t.Fatal(err)
	}
	c := command()
	for _, set := range []*pflag.FlagSet{c.Flags(), c.PersistentFlags()} {
		set.VisitAll(func(f *pflag.Flag) {
			if !strings.Contains(out, "--"+f.Name) || !strings.Contains(out, "["+cli.Variable(f.Name)+"]") {
				t.Errorf("--%s or its variable is not in the help", f.Name)
			}
		})
	}
}

// The help of every command fits into 80 columns, and has what it needs.
func TestHelpOfEveryCommand(t *testing.T) {
	var visit func(c *cobra.Command, path []string)
	visit = func(c *cobra.Command, path []string) {
		out, _, err := invoke(t, append(path, "--help")...)
		if err != nil {
			t.Errorf("%v: %v", path, err)
		}
		for line := range strings.Lines(out) {
			if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 80 {
				t.Errorf("%v: %q", path, line)
			}
		}
		if c.HasParent() && !c.Parent().HasParent() && !strings.Contains(out, "\nExamples:\n") &&
			c.Name() != "completion" && c.Name() != "help" {
			t.Errorf("%v has no example", path)
		}
		for _, sub := range c.Commands() {
			visit(sub, append(slices.Clone(path), sub.Name()))
		}
	}
	visit(command(), nil)
}

func TestVariables(t *testing.T) {
	for name, test := range map[string]struct {
		env  map[string]string
		args []string
		http string
		data string
	}{
		"defaults": {nil, nil, "127.0.0.1:3000", ".pawl"},
		"variable": {
			map[string]string{"PAWL_HTTP": "127.0.0.1:1", "PAWL_DATA": "d"},
			nil, "127.0.0.1:1",
			"d",
		},
		"flag over variable": {
			map[string]string{"PAWL_HTTP": "127.0.0.1:1"},
			[]string{"--http", "127.0.0.1:2"},
			"127.0.0.1:2", ".pawl",
		},
		"port": {map[string]string{"PORT": "7"}, nil, "127.0.0.1:7", ".pawl"},
		"variable over port": {
			map[string]string{"PORT": "7", "PAWL_HTTP": "127.0.0.1:1"},
			nil, "127.0.0.1:1",
			".pawl",
		},
		"flag over everything": {
			map[string]string{"PORT": "7", "PAWL_HTTP": "127.0.0.1:1"},
			[]string{"--http", "127.0.0.1:2"},
			"127.0.0.1:2", ".pawl",
		},
		"port of a host":        {map[string]string{"PORT": "7"}, []string{"--http", "0.0.0.0"}, "0.0.0.0:7", ".pawl"},
		"port of a v6 host":     {map[string]string{"PORT": "7", "PAWL_HTTP": "[::]"}, nil, "[::]:7", ".pawl"},
		"an open port":          {map[string]string{"PORT": "7"}, []string{"--http", "0.0.0.0:"}, "0.0.0.0:7", ".pawl"},
		"a host alone":          {nil, []string{"--http", "localhost"}, "localhost:3000", ".pawl"},
		"several in a variable": {map[string]string{"PAWL_HOST": "a,b"}, nil, "127.0.0.1:3000", ".pawl"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range test.env {
				t.Setenv(k, v)
			}
			c, o := command(), &options{}
			c.ResetFlags()
			o.flags(c)
			if err := c.ParseFlags(test.args); err != nil {
				t.Fatal(err)
			}
			if err := o.fromEnvironment(c); err != nil {
				t.Fatal(err)
			}
			if got := o.http; got != test.http {
				t.Errorf("http %s", got)
			}
			if got := c.Flag("data").Value.String(); got != test.data {
				t.Errorf("data %s", got)
			}
		})
	}
	// What a subcommand does is not for the environment to say: PAWL_EXECUTOR is the server's.
	t.Setenv("PAWL_EXECUTOR", "none")
	if _, stderr, err := invoke(t, "--data", t.TempDir(), "token", "create"); err == nil ||
		!strings.Contains(stderr, "give one of --executor") {
		t.Errorf("%s", stderr)
	}
}

func TestRefusals(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close() //nolint:errcheck // of a test
	dir := t.TempDir()
	file, bad, data := filepath.Join(dir, "file"), filepath.Join(dir, "bad"), filepath.Join(dir, "data")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(bad, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bad, "a.md"), []byte("---\nmodel: offline/shell\nfoo: 1\nbar: 2\n---\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		`is taken: stop what listens there, or choose another address with --http`: {"--http", taken.Addr().String()},
		`choose another address with --grpc`:                                       {"--grpc", taken.Addr().String()},
		`a.md:3: foo: unknown key`:                                                 {"--agents", bad},
		`--data: making the data directory`: {
			"--data",
			filepath.Join(file, "x"),
		},
		`--database: the database cannot be reached`: {
			"--database",
			"postgres://u:hunter2@127.0.0.1:1/x",
		},
		`"foo" is no database`: {"--database", "foo"},
		`a direct address is for Postgres behind a pooler`: {
			"--database-direct",
			"postgres://u@127.0.0.1:1/x",
		},
		`--http 0.0.0.0:1 can be reached from other hosts, and tokens would travel in the clear: give --tls-cert FILE and --tls-key FILE, or listen on 127.0.0.1`: {"--http", "0.0.0.0:1"},
		`--grpc :1 can be reached from other hosts, and tokens`: {
			"--grpc",
			":1",
		},
		`--retain-events is at least 1m`: {"--retain-events", "59s"},
		`--http [::]:1 can be reached from other hosts: use --auth token`: {
			"--http",
			"[::]:1", "--auth", "none", "--tls-cert", "x", "--tls-key", "x",
		},
		`--http is HOST:PORT`: {
			"--http",
			"3000",
		},
		`--advertise is HOST:PORT, as other replicas dial it, not "foo"`: {"--advertise", "foo"},
		`--advertise is HOST:PORT, as other replicas dial it, not ":1"`:  {"--advertise", ":1"},
		`--origin is SCHEME://HOST or SCHEME://HOST:PORT in lower case, as browsers send it, not "*"`: {
			"--origin",
			"*",
		},
		`as browsers send it, not "https://console.example/"`: {
			"--origin",
			"https://console.example/",
		},
		`as browsers send it, not "console.example"`: {
			"--origin",
			"console.example",
		},
		`--auth is token or none, not "x"`: {
			"--auth",
			"x",
		},
		`--executor is builtin or none`:     {"--executor", "x"},
		`--disconnect-grace must be longer`: {"--disconnect-grace", "0s"},
		`--log-level is debug, info`:        {"--log-level", "x"},
		`--log-format is text or json`:      {"--log-format", "x"},
		`is not a directory`: {
			"--root",
			file,
		},
		`TLS needs both a certificate and a key`:            {"--tls-cert", file},
		`reading the TLS certificate`:                       {"--tls-cert", file, "--tls-key", file},
		"unknown flag: --foo: see `control --help`":         {"--foo"},
		"there is no command \"foo\": see `control --help`": {"foo"},
		`control plane runs on`: {
			"prompt",
			"shell", "hi",
		},
		`give one of --executor`: {
			"token",
			"create", "--operator", "--client",
		},
		`--agent limits a client's token`: {
			"token",
			"create", "--operator", "--agent", "a",
		},
		`an executor's id begins with`: {
			"token",
			"create", "--executor", "a b",
		},
		`cannot expire in the past`: {
			"token",
			"create", "--operator", "--expires", "-1h",
		},
		`a database in memory keeps no tokens`: {
			"token",
			"list", "--database", "memory",
		},
		"control token revoke takes ID; arguments given: 0: see `control token revoke --help`": {
			"token",
			"revoke",
		},
		"control agents get takes NAME; arguments given: 0: see `control agents get --help`": {
			"agents",
			"get",
		},
		"\"x\" is no session: use AGENT/INSTANCE, AGENT/INSTANCE/SESSION or a session's id": {
			"sessions",
			"get", "x", "--server", "127.0.0.1:1",
		},
		"--output is table or json, not \"yaml\": see `control agents list --help`": {
			"agents",
			"list", "-o", "yaml",
		},
		"nothing listens at 127.0.0.1:1: ": {
			"agents",
			"list", "--server", "127.0.0.1:1",
		},
		"--server is HOST:PORT, the gRPC listener of a control plane, not \"x\"": {
			"agents",
			"list", "--server", "x",
		},
		"--server pawl.example:1 is not on this host, and the token would travel in the clear: add --tls": {
			"prompt",
			"a", "b", "--server", "pawl.example:1",
		},
		"reading the token: open nowhere": {
			"agents",
			"list", "--server", "127.0.0.1:1", "--token-file", "nowhere",
		},
		"control prompt takes AGENT MESSAGE; arguments given: 3: see `control prompt --help`": {
			"prompt",
			"a", "b", "c",
		},
		"control token list takes no arguments, not \"x\": see `control token list --help`": {
			"token",
			"list", "x",
		},
		"\"a\\xff\" is not UTF-8 text: see `control prompt --help`": {
			"prompt",
			"shell", "x", "--instance", "a\xff",
		},
		"\"a\\xffb\" is not UTF-8 text: see `control prompt --help`": {
			"prompt",
			"shell", "a\xffb",
		},
		"\"a//b\" names nothing: use AGENT/INSTANCE, AGENT/INSTANCE/SESSION or the id of an executor": {
			"files",
			"get", "a//b", "x",
		},
		"there is no command \"make\": see `control token --help`": {
			"token",
			"make",
		},
		"for \"--expires\" flag: time: invalid duration \"x\": see `control token create --help`": {
			"token",
			"create", "--expires", "x",
		},
		"give one of --executor ID, --client and --operator: see `control token create --help`": {
			"token",
			"create",
		},
		`--allow-label is KEY=VALUE, not "gpu"`: {
			"token",
			"create", "--executor", "x", "--allow-label", "gpu",
		},
		"--allow-label gpu is given twice: use one value with * in it": {
			"token",
			"create", "--executor", "x", "--allow-label", "gpu=a", "--allow-label", "gpu=b",
		},
		"--allow-label is for an executor's token: add --executor ID": {
			"token",
			"create", "--client", "--allow-label", "gpu=a",
		},
		"an allowed label: a label's key begins with a letter or digit": {
			"token",
			"create", "--executor", "x", "--allow-label", "=a",
		},
	} {
		args = append([]string{"--data", data, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"}, args...)
		if slices.Contains([]string{"token", "prompt", "files", "agents", "sessions"}, args[6]) {
			args = append(args[6:], "--data", data)
		}
		stdout, stderr, err := invoke(t, args...)
		if err == nil || stdout != "" || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 ||
			!strings.HasPrefix(stderr, "control: ") {
			t.Errorf("%v: %v, %q, %q, want %q", args, err, stdout, stderr, want)
		}
		if strings.Contains(stderr, "hunter2") {
			t.Errorf("%s tells a password", stderr)
		}
	}
}

// What ends a start is one line and an exit code, seen from outside.
func TestRefusalsOfTheProgram(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close() //nolint:errcheck // of a test
	dir := t.TempDir()
	file := write(t, "", dir, "file")
	agents := filepath.Dir(write(t, "---\nmodel: offline/shell\nfoo: 1\n---\n", dir, "agents", "a.md"))
	providers := write(t, "local:\n  api: openai\n  base_url: here\n", dir, "providers.yaml")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"--http " + taken.Addr().String() + " is taken": {"--http", taken.Addr().String()},
		"--data: making the data directory":             {"--data", filepath.Join(file, "x")},
		"a.md:3: foo: unknown key":                      {"--agents", agents},
		"providers.yaml:3: local.base_url: must be":     {"--providers", providers},
		"127.0.0.1:1 as u, database x: connection":      {"--database", "postgres://u:hunter2@127.0.0.1:1/x"},
		"unknown flag: --foo":                           {"--foo"},
	} {
		c := exec.CommandContext(t.Context(), program, append([]string{
			"--data", filepath.Join(dir, "data"), "--http",
			"127.0.0.1:0", "--grpc", "127.0.0.1:0",
		}, args...)...)
		c.Env = append(os.Environ(), asProgram+"=1")
		var stdout, stderr bytes.Buffer
		c.Stdout, c.Stderr = &stdout, &stderr
		err := c.Run()
		said := stderr.String()
		code := cli.Failed
		if strings.HasPrefix(want, "unknown flag") {
			code = cli.Usage
		}
		if c.ProcessState.ExitCode() != code || stdout.Len() > 0 || !strings.Contains(said, want) ||
			strings.Count(said, "\n") != 1 || strings.Contains(said, "hunter2") {
			t.Errorf("%v: %v, %q, %q, want %q", args, err, &stdout, said, want)
		}
	}
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
	secret, told, err := invoke(t, "token", "create", "--data", data, "--client", "--agent", "shell", "--agent", "b",
		"--name", "ci", "--expires", "720h")
	if err != nil || !regexp.MustCompile(`^pawl_client_[A-Za-z0-9_-]{43}\n$`).MatchString(secret) {
		t.Fatalf("%v, %q, %q", err, secret, told)
	}
	if strings.Contains(told, strings.TrimSpace(secret)) {
		t.Error("the secret is told twice")
	}
	id := strings.Fields(told)[1]
	list, _, err := invoke(t, "token", "list", "--data", data)
	if err != nil || !regexp.MustCompile(id+` +client of shell, b +ci .*expires`).MatchString(list) ||
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

// What a killed control plane left behind leads nobody astray.
func TestStaleAddresses(t *testing.T) {
	data := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := (client.Addresses{GRPC: addr}).Write(data); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "token"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	checkTokens(t, data)
}

// Only a token that is made before the first start makes a database.
func TestTokensOfNoDatabase(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for _, args := range [][]string{{"list"}, {"revoke", "x"}} {
		for _, where := range [][]string{{"--data", data}, {"--data", data, "--database", "sqlite:" +
			filepath.Join(data, "other.db")}} {
			_, stderr, err := invoke(t, slices.Concat([]string{"token"}, args, where)...)
			if err == nil || !strings.Contains(stderr, "there is no database at "+data) ||
				!strings.Contains(stderr, "--data or --database") {
				t.Errorf("%s: %v, %q", args, err, stderr)
			}
		}
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("the data directory was made")
	}
	checkTokens(t, data)
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t, dir)
	s := start(t, filepath.Join(dir, "data"), "--http", "0.0.0.0:0", "--tls-cert", cert, "--tls-key", key, "--host",
		"pawl.example", "--executor", "none")
	if !strings.HasPrefix(s.here.HTTP, "https://") || !strings.Contains(s.said, "--cacert") {
		t.Errorf("%s", s.said)
	}
	checkTokens(t, s.data)
	checkRemoteTLS(t, s, cert)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.here.HTTP, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	pemBytes, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots.AppendCertsFromPEM(pemBytes)
	web := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", "127.0.0.1:"+port)
		},
	}}
	res, err := web.Get(fmt.Sprintf("https://pawl.example:%s/healthz", port)) //nolint:noctx // of a test
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || string(body) != "ok\n" || res.ProtoMajor != 2 {
		t.Errorf("%v, %s, %s", err, res.Proto, body)
	}
	_ = res.Body.Close()
	web.CloseIdleConnections()
}

// checkRemoteTLS asks a control plane as one elsewhere, over TLS and in ways that do not fit.
func checkRemoteTLS(t *testing.T, s *server, cert string) {
	t.Helper()
	token := filepath.Join(s.data, "token")
	if _, stderr, err := invoke(t, "agents", "list", "--server", s.here.GRPC, "--ca", cert, "--token-file",
		token); err != nil {
		t.Errorf("%v, %q", err, stderr)
	}
	web := "127.0.0.1:" + s.here.HTTP[strings.LastIndex(s.here.HTTP, ":")+1:]
	for want, args := range map[string][]string{
		"add --tls, and --ca FILE": {"--server", s.here.GRPC},
		"authority":                {"--server", s.here.GRPC, "--tls"},
		"is a port for HTTP":       {"--server", web, "--ca", cert},
	} {
		_, stderr, err := invoke(t, append([]string{"agents", "list", "--token-file", token}, args...)...)
		if cli.Code(err) != cli.Unreachable || !strings.Contains(stderr, want) {
			t.Errorf("%v: code %d, %q, want %q", args, cli.Code(err), stderr, want)
		}
	}
}

// certificate makes one for pawl.example, signed by itself.
func certificate(t *testing.T, dir string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pawl.example"}, DNSNames: []string{"pawl.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: cert},
		keyFile:  {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func TestWithoutTokens(t *testing.T) {
	s := start(t, t.TempDir(), "--auth", "none", "--database", "memory")
	if !strings.Contains(s.said, "--auth none: every user") || strings.Contains(s.said, "Bearer") {
		t.Errorf("%s", s.said)
	}
	res, err := http.Post(s.here.HTTP+"/agents/shell/me", "application/json", strings.NewReader(`{"message":"echo hello"}`)) //nolint:noctx // of a test
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // of a test
	if body, err := io.ReadAll(res.Body); err != nil || !strings.Contains(string(body), `"text":"hello"`) {
		t.Errorf("%v, %s", err, body)
	}
}
