// Package proctest builds the real programs and runs them as processes that can be signalled, killed and started again:
// for tests and measurements that are about processes.
//
//	Programs ─▶ Start ─▶ Process ─End─▶ gone, and waited for
//	              ├── Control, which starts again at the same addresses and data, and is ready when it says so
//	              └── Executor, likewise
package proctest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
)

// Build says how programs are built. With the race detector, as the tests are built, they share the tests' build cache.
type Build struct {
	Race    bool
	Static  bool   // as a release is built: without C, stripped
	Overlay string // a file for go build -overlay; "" is none
	Dir     string // of the module; "" is the working directory's
}

// Programs builds the named commands of this module into dir.
func Programs(ctx context.Context, dir string, b Build, names ...string) error {
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	if b.Race {
		args = append(args, "-race")
	}
	if b.Static {
		args = append(args, "-trimpath", "-ldflags=-s -w")
	}
	if b.Overlay != "" {
		args = append(args, "-overlay", b.Overlay)
	}
	for _, n := range names {
		args = append(args, "github.com/pawl-dev/pawl/cmd/"+n)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.Dir
	if b.Static {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %v: %w\n%s", names, err, out)
	}
	return nil
}

// Process is a program that was started.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// Start runs a program with nothing of this process's environment but PATH, home as its home, and log for all that it
// says.
func Start(path string, args []string, home string, log io.Writer) (*Process, error) {
	return StartWith(path, args, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home}, log)
}

// StartWith is Start with all of the environment given.
func StartWith(path string, args, env []string, log io.Writer) (*Process, error) {
	p := &Process{cmd: exec.Command(path, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = log, log, env
	// a terminal's ^C is for who runs the tests, who ends the rest in order
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // how it ended is for the log to say
	}()
	return p, nil
}

// Pid is the process's id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode is what a process ended with that is Done, -1 after a signal.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// Signal sends a signal. To a process that has ended it does nothing.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// End sends a signal and waits until the process has ended; one that does not in time is killed, which is an error.
func (p *Process) End(s syscall.Signal, within time.Duration) error {
	p.Signal(s)
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case <-p.done:
		return nil
	case <-t.C:
	}
	p.Signal(syscall.SIGKILL)
	<-p.done
	return fmt.Errorf("%s has not ended %v after %v", filepath.Base(p.cmd.Path), within, s)
}

// Linux gives the ports from 32768 on to whoever names none. A port below them stays free until somebody asks for it.
const firstPort, ports = 20_000, 12_000

// nextPort is where FreeAddr goes on: other processes of tests begin elsewhere, and none gets a port twice.
var nextPort atomic.Int64

func init() { nextPort.Store(rand.Int64N(ports)) }

// FreeAddr is an address of this host where nothing listens now. No other call returns it.
func FreeAddr() (string, error) {
	for range ports {
		addr := fmt.Sprintf("127.0.0.1:%d", firstPort+nextPort.Add(1)%ports)
		if l, err := net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", errors.New("finding a free port: none can be listened on")
}
