package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/internal/proctest"
)

const (
	// restartAfter is how long a program that has ended by itself stays down, as under any supervisor.
	restartAfter = 200 * time.Millisecond
	// stopWithin bounds the orderly end of a program.
	stopWithin = 20 * time.Second
)

// node is a program that is kept running, until a fault wants otherwise.
type node struct {
	name string
	path string
	args []string
	dir  string // home, and log

	mu     sync.Mutex // guards what follows
	wanted bool
	frozen bool
	wake   chan struct{} // holds a token when wanted has changed
	proc   *proctest.Process
	starts int
}

func newNode(dir, name, path string, args ...string) *node {
	return &node{name: name, path: path, args: args, dir: dir, wanted: true, wake: make(chan struct{}, 1)}
}

func (n *node) logFile() string { return filepath.Join(n.dir, n.name+".log") }

// run keeps the program running until ctx ends, and then ends it.
func (n *node) run(ctx context.Context) error {
	log, err := os.OpenFile(n.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // of a log
	for ctx.Err() == nil {
		n.mu.Lock()
		wanted := n.wanted
		n.mu.Unlock()
		if !wanted {
			select {
			case <-ctx.Done():
			case <-n.wake:
			}
			continue
		}
		p, err := proctest.Start(n.path, n.args, n.dir, log)
		if err != nil {
			return err
		}
		n.mu.Lock()
		n.proc, n.frozen, n.starts = p, false, n.starts+1
		if !n.wanted {
			p.Signal(syscall.SIGKILL)
		}
		n.mu.Unlock()
		select {
		case <-p.Done():
		case <-ctx.Done():
			p.Signal(syscall.SIGCONT)
			return p.End(syscall.SIGTERM, stopWithin)
		}
		n.mu.Lock()
		n.proc = nil
		n.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(restartAfter):
		}
	}
	return nil
}

// down ends the program with a signal and keeps it down until up. A frozen one is thawed, for it could not obey.
func (n *node) down(s syscall.Signal) {
	n.mu.Lock()
	n.wanted = false
	p := n.proc
	n.mu.Unlock()
	if p == nil {
		return
	}
	if s != syscall.SIGKILL {
		p.Signal(syscall.SIGCONT)
	}
	_ = p.End(s, stopWithin) // one that has to be killed is as good
}

func (n *node) up() {
	n.mu.Lock()
	n.wanted = true
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// freeze stops the program where it is, thaw lets it go on.
func (n *node) freeze() { n.setFrozen(true, syscall.SIGSTOP) }
func (n *node) thaw()   { n.setFrozen(false, syscall.SIGCONT) }

func (n *node) setFrozen(frozen bool, s syscall.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc != nil {
		n.proc.Signal(s)
		n.frozen = frozen
	}
}

// full makes the disk full for the program, or not any more, and reports whether there was one. What it has started
// does not notice.
func (n *node) full(on bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc == nil {
		return false
	}
	limit := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if on {
		limit.Cur = 0
	}
	return unix.Prlimit(n.proc.Pid(), unix.RLIMIT_FSIZE, &limit, nil) == nil
}

// serves reports whether the program can answer, as a load balancer would find out.
func (n *node) serves() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc != nil && !n.frozen
}

// crashes are the panics and data races in the program's log.
func (n *node) crashes() (found []string) {
	b, err := os.ReadFile(n.logFile())
	if err != nil {
		return []string{err.Error()}
	}
	for _, sign := range []string{"panic: ", "fatal error: ", "WARNING: DATA RACE"} {
		if i := bytes.Index(b, []byte(sign)); i >= 0 {
			found = append(found, fmt.Sprintf("%s: %s", n.name, b[i:min(len(b), i+1500)]))
		}
	}
	return found
}

// processes calls f for every process of this host with a value of its environment or command line that holds what.
func processes(file, what string, f func(pid int, text []byte)) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc", d.Name(), file))
		if err == nil && bytes.Contains(b, []byte(what)) {
			f(pid, b)
		}
	}
}

// keepers are the processes that keep an executor's commands: theirs are the data directory and a configuration as
// arguments.
func keepers(dataDir string) (pids []int) {
	processes("cmdline", dataDir, func(pid int, cmd []byte) {
		if args := strings.Split(string(cmd), "\x00"); len(args) >= 4 && args[2] == dataDir &&
			strings.HasPrefix(args[3], "{") {
			pids = append(pids, pid)
		}
	})
	return pids
}
