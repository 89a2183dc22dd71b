// Package local is the sandbox that is this host: its files as the executor's user sees them, and commands that a
// keeper runs.
//
//	file verbs ──▶ the file system        commands ──▶ keeper.Client ──▶ keeper ──▶ bash -c
//
// Invariants:
//   - Of the host's environment a command sees the 14 variables of hostenv.Names, as they were when the sandbox was
//     made. It also sees hostenv.Defaults, and the variables that the sandbox and the call were given.
//   - No verb waits on a pipe, a socket or a device.
package local

import (
	"bytes"
	"context"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pawl-dev/pawl/internal/hostenv"
	"github.com/pawl-dev/pawl/services/executor/keeper"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// Options of New.
type Options struct {
	// Root is the working directory; "" is this process's. It must exist.
	Root string
	// Data is the executor's data directory, which Remove leaves; "" is none.
	Data string
	// Keeper owns the commands; sandboxes of one executor share it.
	Keeper *keeper.Client
	// Env is set for every command, over what the host's environment and hostenv.Defaults give. nil removes a name.
	Env map[string]*string
}

// Sandbox is this host.
type Sandbox struct {
	root   string
	data   string
	home   string
	shell  string
	umask  fs.FileMode
	env    map[string]string
	keeper *keeper.Client
}

var _ sandbox.Sandbox = (*Sandbox)(nil)

// New makes the sandbox.
func New(o Options) (*Sandbox, error) {
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return nil, sandbox.ErrInvalidArg.With("working directory: %v", err)
	}
	if root, err = filepath.EvalSymlinks(root); err != nil {
		return nil, typed(o.Root, err)
	}
	if st, err := os.Stat(root); err != nil {
		return nil, typed(root, err)
	} else if !st.IsDir() {
		return nil, sandbox.ErrNotDir.With("%s: not a directory", root)
	}
	s := &Sandbox{root: root, data: o.Data, umask: umask(), env: map[string]string{}, keeper: o.Keeper}
	for _, name := range hostenv.Names {
		if v, ok := os.LookupEnv(name); ok {
			s.env[name] = v
		}
	}
	maps.Copy(s.env, hostenv.Defaults)
	if err := overlay(s.env, o.Env); err != nil {
		return nil, err
	}
	if s.shell, err = findShell(); err != nil {
		return nil, err
	}
	s.home = homeOf(s.env)
	return s, nil
}

// homeOf is what a shell takes ~ for.
func homeOf(env map[string]string) string {
	if home := env["HOME"]; filepath.IsAbs(home) {
		return home
	}
	if u, err := user.Current(); err == nil && filepath.IsAbs(u.HomeDir) {
		return u.HomeDir
	}
	return "/"
}

// Root implements sandbox.Sandbox.
func (s *Sandbox) Root() string { return s.root }

// Home implements sandbox.Sandbox.
func (s *Sandbox) Home() string { return s.home }

func findShell() (string, error) {
	for _, name := range []string{"bash", "/bin/bash", "sh", "/bin/sh"} {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", sandbox.ErrUnavailable.With("this host has no shell: neither bash nor sh")
}

func overlay(env map[string]string, over map[string]*string) error {
	for name, v := range over {
		if name == "" || strings.ContainsAny(name, "=\x00") || v != nil && strings.Contains(*v, "\x00") {
			return sandbox.ErrInvalidArg.With("environment variable %q: the name is empty or holds =, or there is a "+
				"NUL", name)
		}
		if v == nil {
			delete(env, name)
		} else {
			env[name] = *v
		}
	}
	return nil
}

// Start implements sandbox.Sandbox.
func (s *Sandbox) Start(ctx context.Context, id string, cmd sandbox.Command) (sandbox.Exec, error) {
	if strings.Contains(cmd.Line, "\x00") {
		return nil, sandbox.ErrInvalidArg.With("a command line cannot hold a NUL")
	}
	switch {
	case len(cmd.Input) > sandbox.MaxInput:
		return nil, sandbox.ErrTooLarge.With("the input of a command has %d bytes, at most %d are possible",
			len(cmd.Input), sandbox.MaxInput)
	case len(cmd.Input) > 0 && cmd.Stdin != nil:
		return nil, sandbox.ErrInvalidArg.With("a command has one input")
	}
	if cmd.Timeout < 0 {
		return nil, sandbox.ErrInvalidArg.With("timeout %v is negative", cmd.Timeout)
	}
	cwd := s.root
	if cmd.Cwd != "" {
		var err error
		if cwd, err = s.resolve(cmd.Cwd); err != nil {
			return nil, err
		}
	}
	if err := s.checkCwd(cwd); err != nil {
		return nil, err
	}
	env := maps.Clone(s.env)
	if err := overlay(env, cmd.Env); err != nil {
		return nil, err
	}
	spec := keeper.Spec{
		Argv: shellArgs(s.shell, cmd.Line), Dir: []byte(cwd), Timeout: cmd.Timeout, Keep: cmd.Keep, Tied: cmd.Tied,
		Input: cmd.Input,
	}
	for k, v := range env {
		spec.Env = append(spec.Env, []byte(k+"="+v))
	}
	slices.SortFunc(spec.Env, bytes.Compare)
	if cmd.Stdin != nil {
		return s.startFed(ctx, id, spec, cmd.Stdin)
	}
	return execOrError(s.keeper.Start(ctx, id, spec))
}

// maxArgument is less than the kernel's limit for one argument, which is 32 pages.
const maxArgument = 120 << 10

// shellArgs runs a command line, which may begin as an option does. One that is too long for an argument comes in
// pieces, as positional parameters, and takes itself for $0, $#, exit codes and errors as one in one piece does.
func shellArgs(shell, line string) [][]byte {
	args := [][]byte{[]byte(shell), []byte("-c"), []byte("--")}
	if len(line) <= maxArgument {
		return append(args, []byte(line))
	}
	var pieces [][]byte
	script := `eval "set --;`
	for len(line) > 0 {
		n := min(maxArgument, len(line))
		for n < len(line) && !utf8.RuneStart(line[n]) && n > maxArgument-utf8.UTFMax {
			n--
		}
		pieces = append(pieces, []byte(line[:n]))
		script += "${" + strconv.Itoa(len(pieces)) + "}"
		line = line[n:]
	}
	args = append(args, []byte(script+`"`), []byte(shell))
	return append(args, pieces...)
}

// checkCwd tells a missing directory from a missing shell, which the kernel does not.
func (s *Sandbox) checkCwd(cwd string) error {
	st, err := os.Stat(cwd)
	if err != nil {
		if _, gone := os.Stat(s.root); os.IsNotExist(gone) {
			return sandbox.ErrGone.With("the working directory %s is gone", s.root)
		}
		return typed(cwd, err)
	}
	if !st.IsDir() {
		return sandbox.ErrNotDir.With("%s: not a directory", cwd)
	}
	return nil
}

// Attach implements sandbox.Sandbox.
func (s *Sandbox) Attach(ctx context.Context, id string) (sandbox.Exec, error) {
	return execOrError(s.keeper.Attach(ctx, id))
}

// execOrError keeps a nil *Cmd from becoming an Exec that is not nil.
func execOrError(cmd *keeper.Cmd, err error) (sandbox.Exec, error) {
	if err != nil {
		return nil, err
	}
	return cmd, nil
}

// Forget implements sandbox.Sandbox.
func (s *Sandbox) Forget(ctx context.Context, id string) error { return s.keeper.Forget(ctx, id) }
