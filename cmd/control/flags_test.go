package main

import (
	"bytes"
	"errors"
	"iter"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pawl-dev/pawl/internal/cli"
)

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

// foreignKinds are placeholders of values that say nothing of them.
var foreignKinds = regexp.MustCompile(`--[a-z-]+ (STRING\w*|BOOL|INT\d*|FLOAT\w*)\b`)

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
		if found := foreignKinds.FindString(out); found != "" {
			t.Errorf("%v: %s is the library's word for a kind of value", path, found)
		}
		for _, flag := range []string{"--database", "--no-row-security", "--data"} {
			alone := []string{"tls", "import", "check", "schema", "graph"} // they need no state
			if uses := len(path) == 0 || path[0] == "token" || flag == "--data" && !slices.Contains(alone,
				path[0]); uses !=
				strings.Contains(out, flag+" ") && !c.HasSubCommands() {
				t.Errorf("%v: uses %s: %v; help:\n%s", path, flag, uses, out)
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

// What examples show can be typed: commands that are there, with flags and arguments that they take.
func TestExamplesOfEveryCommand(t *testing.T) {
	quoted, others := regexp.MustCompile(`"[^"]*"|'[^']*'`), regexp.MustCompile(` [>|#] .*`)
	for line := range examples(command()) {
		args, ok := strings.CutPrefix(line, "control ")
		if !ok {
			continue
		}
		args = others.ReplaceAllString(" "+quoted.ReplaceAllString(args, "TEXT"), "")
		found, rest, err := command().Find(strings.Fields(args))
		if err == nil {
			err = found.ParseFlags(rest)
		}
		if err == nil && found.HasSubCommands() && len(found.Flags().Args()) > 0 {
			err = errors.New("no such command")
		}
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// examples are the lines of the examples of a command and all below it.
func examples(c *cobra.Command) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range strings.Lines(c.Example) {
			if !yield(strings.TrimSpace(line)) {
				return
			}
		}
		for _, sub := range c.Commands() {
			for line := range examples(sub) {
				if !yield(line) {
					return
				}
			}
		}
	}
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
		`a.md:3:1: foo: unknown key`:                                               {"--agents", bad},
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
		"--http 0.0.0.0:1 can be reached from other hosts, and tokens would travel in the clear: give --tls-cert " +
			"FILE and --tls-key FILE, or listen on 127.0.0.1": {"--http", "0.0.0.0:1"},
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
		`TLS needs both a certificate and a key: give`:      {"--tls-cert", file},
		`reading the TLS certificate`:                       {"--tls-cert", file, "--tls-key", file},
		"unknown flag: --foo: see `control --help`":         {"--foo"},
		"there is no command \"foo\": see `control --help`": {"foo"},
		`control plane runs on`: {
			"prompt",
			"shell", "hi",
		},
		`give one of --executor`: {
			"token",
			"create", "--operator", "--role", "user",
		},
		`only a client's token has limits`: {
			"token",
			"create", "--operator", "--agent", "a",
		},
		`an executor's id begins with`: {
			"token",
			"create", "--executor", "a b",
		},
		`cannot expire in the past`: {
			"token",
			"create", "--operator", "--expires-in", "-1h",
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
		"--expires-in is a duration such as 90s, 30m or 24h, not \"x\": see `control token create --help`": {
			"token",
			"create", "--expires-in", "x",
		},
		"give one of --executor ID, --role ROLE and --operator: see `control token create --help`": {
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
		"--allow-label and --shared are for an executor's token: add --executor ID": {
			"token",
			"create", "--role", "user", "--allow-label", "gpu=a",
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
		lines := 1
		if slices.Contains(args, bad) { // which has two faults
			lines = 2
		}
		if err == nil || stdout != "" || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != lines ||
			strings.Count("\n"+stderr, "\ncontrol: ") != lines {
			t.Errorf("%v: %v, %q, %q, want %q", args, err, stdout, stderr, want)
		}
		if strings.Contains(stderr, "hunter2") {
			t.Errorf("%s tells a password", stderr)
		}
	}
}

// What is wrong with the command line is told with what would be right, and ends with the code for that.
func TestWrongUsage(t *testing.T) {
	for want, args := range map[string][]string{
		"--http 127.0.0.1:99999: a port is a number from 0 to 65535": {"--http", "127.0.0.1:99999"},
		"--grpc :99999: a port is a number from 0 to 65535":          {"--grpc", ":99999"},
		"--advertise h:99999: a port is a number from 0 to 65535":    {"--advertise", "h:99999"},
		"--server h:x: a port is a number from 0 to 65535":           {"agents", "list", "--server", "h:x"},
		"--log-level is debug, info, warn or error, not":             {"--log-level", "loud"},
		"--log-format is text or json, not":                          {"--log-format", "xml"},
		"TLS needs both a certificate and a key: give":               {"--tls-cert", "x"},
		"TLS needs both a certificate and a key:":                    {"--tls-key", "x"},
		"--database: \"x\" is no database: use memory,":              {"--database", "x"},
		"--database: a direct address is for Postgres":               {"--database-direct", "postgres://u@h:1/x"},
		"--disconnect-grace is a duration such as 90s, 30m":          {"--disconnect-grace", "60"},
		"--limit is a whole number, not \"x\": see":                  {"agents", "list", "--limit", "x"},
		"--limit is too large a number: \"99999999999999999999\"": {
			"agents", "list", "--limit", "99999999999999999999",
		},
		"--timeout is a duration such as 90s, 30m or 24h, not":         {"wait", "x", "--timeout", "60"},
		"--rate is a number, not \"x\"":                                {"token", "create", "--rate", "x"},
		"--tls is true or false, not \"maybe\"":                        {"agents", "list", "--tls=maybe"},
		"unknown flag: --htpp (did you mean --http?): see `control":    {"--htpp", "127.0.0.1:1"},
		"give one of --steer and --interrupt: see `control prompt":     {"prompt", "a", "b", "--steer", "--interrupt"},
		"there is no command \"promt\" (did you mean \"prompt\"?)":     {"promt", "shell", "x"},
		"there is no command \"lsit\" (did you mean \"list\"?): see":   {"agents", "lsit"},
		"there is no command \"xyz\": see `control agents --help`":     {"agents", "xyz"},
		"give --label KEY=VALUE, --remove KEY or --metadata JSON: see": {"sessions", "label", "shell/a"},
		"--state is one of all, open, approved, denied, expired":       {"approvals", "list", "--state", "opne"},
	} {
		if strings.HasPrefix(args[0], "--") {
			data := filepath.Join(t.TempDir(), "data")
			args = append([]string{"--data", data, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"}, args...)
		}
		stdout, stderr, err := invoke(t, args...)
		if cli.Code(err) != cli.Usage || stdout != "" || !strings.HasPrefix(stderr, "control: "+want) ||
			strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: code %d, %q, want %q", args, cli.Code(err), stderr, want)
		}
	}
}

// What ends a start is a line for each fault and an exit code, seen from outside.
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
		"a.md:3:1: foo: unknown key":                    {"--agents", agents},
		"providers.yaml:3:13: local.base_url: must be":  {"--providers", providers},
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
			strings.Count("\n"+said, "\ncontrol: ") != strings.Count(said, "\n") || strings.Contains(said, "hunter2") {
			t.Errorf("%v: %v, %q, %q, want %q", args, err, &stdout, said, want)
		}
	}
}
