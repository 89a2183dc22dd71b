// Package programs builds the real programs and runs them as processes, for tests and measurements that are about processes: signals,
// crashes, memory, time to start. It never sleeps: a program is ready when it says so.
//
//	Build ─▶ Programs ─Start─▶ Process ─End(signal)─▶ gone, waited for
//	             ├── Control, which can be started again at the same addresses and data
//	             └── Executor, likewise
//
// Invariant: a Process that was started is waited for; whoever starts one ends it.
package programs

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Programs is a directory with the built programs.
type Programs struct{ dir string }

// Build builds control and executor into dir. flags are those of go build.
func Build(ctx context.Context, dir string, flags ...string) (Programs, error) {
	args := append([]string{"build"}, flags...)
	args = append(args, "-o", dir+string(filepath.Separator), "github.com/pawl-dev/pawl/cmd/control", "github.com/pawl-dev/pawl/cmd/executor")
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return Programs{}, fmt.Errorf("building the programs: %w\n%s", err, out)
	}
	return Programs{dir: dir}, nil
}

// Process is a program that runs, or has run.
type Process struct {
	cmd  *exec.Cmd
	log  *log
	done chan struct{}
}

// Start starts a program. It sees PATH and an environment of env, nothing else, and no signal of this process's terminal.
func (p Programs) Start(program string, args, env []string) (*Process, error) {
	cmd := exec.Command(filepath.Join(p.dir, program), args...)
	l := &log{grown: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = l, l
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	proc := &Process{cmd: cmd, log: l, done: make(chan struct{})}
	go func() {
		defer close(proc.done)
		_ = cmd.Wait() // how it ended is in Ended
		l.grow(nil)    // whoever waits for a line looks again
	}()
	return proc, nil
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended is how the process ended. Only after Done.
func (p *Process) Ended() *os.ProcessState { return p.cmd.ProcessState }

// Said is what the process has written to standard output and error so far.
func (p *Process) Said() string { return p.log.String() }

// Signal sends a signal and does not wait. A process that has ended takes any.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// End sends a signal and waits until the process has ended. When ctx ends first, the process is killed and that is an error.
func (p *Process) End(ctx context.Context, s syscall.Signal) error {
	p.Signal(s)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-p.done:
		return nil
	default:
	}
	p.Signal(syscall.SIGKILL)
	<-p.done
	return fmt.Errorf("%s does not end after %v: %w", p.cmd.Path, s, context.Cause(ctx))
}

// AwaitSaid waits until the process has written text.
func (p *Process) AwaitSaid(ctx context.Context, text string) error {
	for {
		grown, ok := p.log.contains(text)
		if ok {
			return nil
		}
		select {
		case <-p.done:
			if _, ok := p.log.contains(text); ok {
				return nil
			}
			return fmt.Errorf("%s has ended (%v) before it said %q; it said:\n%s", p.cmd.Path, p.Ended(), text, p.Said())
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to say %q: %w; it said:\n%s", p.cmd.Path, text, context.Cause(ctx), p.Said())
		case <-grown:
		}
	}
}

// FreeAddr is a loopback address that nobody listens on. Somebody may, by the time it is used; it is needed where an address must be
// known before the program starts, and stay the same.
func FreeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
