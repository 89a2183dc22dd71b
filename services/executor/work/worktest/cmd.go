package worktest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// Cmd is a command. Its line is statements between semicolons:
//
//	echo TEXT     a line on stdout        warn TEXT    a line on stderr
//	bytes N       N bytes on stdout       sleep D      wait
//	write F TEXT  make a file             add F TEXT   append to one
//	exit N        end                     trap         ignore Kill until its grace is over
//	cat           its input on stdout     exec ...     what Box.Serve does
type Cmd struct {
	b       *Box
	kill    chan struct{} // capacity 1
	started time.Time

	mu      sync.Mutex
	out     [3][]byte
	changed chan struct{}
	done    chan struct{}
	trapped bool
	exit    sandbox.Exit
	fail    error // of ReadOutput
	saved   bool
}

// FailReads makes ReadOutput fail with err, until it is nil.
func (c *Cmd) FailReads(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = err
}

// Preserved reports whether Preserve was called.
func (c *Cmd) Preserved() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.saved
}

// Preserve implements sandbox.Exec.
func (c *Cmd) Preserve() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.saved = true
	return "/preserved", nil
}

func (c *Cmd) run(cmd sandbox.Command) {
	var timeout <-chan time.Time
	if cmd.Timeout > 0 {
		t := time.NewTimer(cmd.Timeout)
		defer t.Stop()
		timeout = t.C
	}
	for s := range strings.SplitSeq(cmd.Line, ";") {
		verb, arg, _ := strings.Cut(strings.TrimSpace(s), " ")
		switch verb {
		case "echo":
			c.write(sandbox.Stdout, arg+"\n")
		case "warn":
			c.write(sandbox.Stderr, arg+"\n")
		case "bytes":
			n, _ := strconv.Atoi(arg)
			c.write(sandbox.Stdout, string(Pattern(n)))
		case "env":
			value := ""
			if v, given := cmd.Env[arg]; v != nil {
				value = *v
			} else if given {
				value = "(removed)"
			}
			c.write(sandbox.Stdout, fmt.Sprintf("%s=%s in %s\n", arg, value, cmd.Cwd))
		case "cat":
			in := cmd.Input
			if cmd.Stdin != nil {
				in, _ = io.ReadAll(cmd.Stdin)
			}
			c.write(sandbox.Stdout, string(in))
		case "write", "add":
			c.file(verb, arg)
		case "exec":
			c.serve(cmd.Stdin)
			return
		case "trap":
			c.mu.Lock()
			c.trapped = true
			c.mu.Unlock()
		case "exit":
			n, _ := strconv.Atoi(arg)
			c.finish(sandbox.Exit{Code: n, Confirmed: true})
			return
		case "sleep":
			d, _ := time.ParseDuration(arg)
			t := time.NewTimer(d)
			select {
			case <-t.C:
			case <-c.done:
				t.Stop()
				return
			case <-c.kill:
				t.Stop()
				c.finish(sandbox.Exit{Code: 143, Signal: 15, Killed: true, Confirmed: true})
				return
			case <-timeout:
				t.Stop()
				c.write(sandbox.Stderr, fmt.Sprintf("[timed out after %v s]\n", cmd.Timeout.Seconds()))
				c.finish(sandbox.Exit{Code: 124, TimedOut: true, Confirmed: true})
				return
			}
		}
	}
	c.finish(sandbox.Exit{Confirmed: true})
}

// serve runs Box.Serve until it is killed, or its input ends.
func (c *Cmd) serve(in io.Reader) {
	here, there := io.Pipe()
	over := make(chan struct{})
	go func() { // whoever writes to a command that has ended is not held up; whoever has started it ends the input
		_, _ = io.Copy(there, in)
		_ = there.Close()
		_, _ = io.Copy(io.Discard, in)
	}()
	go func() {
		defer close(over)
		c.b.Serve(here, output{c})
	}()
	exit := sandbox.Exit{Confirmed: true}
	select {
	case <-over:
	case <-c.done:
	case <-c.kill:
		exit = sandbox.Exit{Code: 143, Signal: 15, Killed: true, Confirmed: true}
	}
	_ = here.Close()
	c.finish(exit)
	<-over
}

// output is the standard output of a command.
type output struct{ c *Cmd }

func (o output) Write(p []byte) (int, error) {
	o.c.write(sandbox.Stdout, string(p))
	return len(p), nil
}

// Pattern is n bytes that differ from place to place.
func Pattern(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%07d\n", i)
	}
	return b.Bytes()[:n]
}

func (c *Cmd) file(verb, arg string) {
	name, text, _ := strings.Cut(arg, " ")
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if verb == "write" {
		c.b.files[abs(name)] = nil
	}
	c.b.files[abs(name)] = append(c.b.files[abs(name)], text+"\n"...)
}

func (c *Cmd) write(s sandbox.Stream, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out[s] = append(c.out[s], text...)
	c.turn()
}

func (c *Cmd) turn() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Cmd) over() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// finish ends the command unless it has ended.
func (c *Cmd) finish(x sandbox.Exit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over() {
		return
	}
	x.StdoutBytes, x.StderrBytes = int64(len(c.out[sandbox.Stdout])), int64(len(c.out[sandbox.Stderr]))
	x.Started, x.Ended = c.started, time.Now()
	c.exit = x
	close(c.done)
	c.turn()
}

func (c *Cmd) found() (sandbox.Exec, error) {
	if c.over() && c.exit.Interrupted {
		return nil, sandbox.ErrInterrupted
	}
	return c, nil
}

// ReadOutput implements sandbox.Exec.
func (c *Cmd) ReadOutput(s sandbox.Stream, p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		return 0, c.fail
	}
	if off >= int64(len(c.out[s])) {
		if c.over() {
			return 0, io.EOF
		}
		return 0, nil
	}
	return copy(p, c.out[s][off:]), nil
}

// Size implements sandbox.Exec.
func (c *Cmd) Size(s sandbox.Stream) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(len(c.out[s]))
}

// Changed implements sandbox.Exec.
func (c *Cmd) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// Done implements sandbox.Exec.
func (c *Cmd) Done() <-chan struct{} { return c.done }

// Exit implements sandbox.Exec.
func (c *Cmd) Exit() sandbox.Exit {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exit
}

// Kill implements sandbox.Exec.
func (c *Cmd) Kill(ctx context.Context, grace time.Duration) error {
	c.mu.Lock()
	trapped := c.trapped
	c.mu.Unlock()
	if trapped {
		select {
		case <-time.After(grace):
		case <-ctx.Done():
			return sandbox.ErrCancelled
		}
	}
	select {
	case c.kill <- struct{}{}:
	default:
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return sandbox.ErrCancelled
	}
}
