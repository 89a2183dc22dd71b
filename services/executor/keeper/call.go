package keeper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// call is a command. Its fields live and die with it; those above the blank line belong to the keeper's mu.
type call struct {
	end    *end  // finished
	watch  *conn // who hears of it
	reaped bool  // its first process is gone, and with it the claim to its pid
	died   int64 // of keeper.deaths, with it
	status unix.WaitStatus
	// descent is the processes that were seen below the first one and are alive.
	descent map[procID]bool

	id string
	origin
	started  int64
	timeout  time.Duration
	keep     bool
	tied     bool // to the daemon that started it
	out, err *capture
	exited   chan struct{}      // its first process was reaped
	recorded chan struct{}      // its END is on disk, or cannot be put there any more
	kill     chan time.Duration // the newest wish to end it: the grace
}

// origin is what tells the processes of a command from others.
type origin struct {
	pid  int    // of its first process
	tag  uint64 // which its processes inherit
	born uint64 // ticks since boot, not later than its first process
}

// start runs a command, or tells what is known of it if it was started before.
func (k *keeper) start(cn *conn, id string, spec *Spec) (*state, error) {
	if len(spec.Argv) == 0 {
		return nil, sandbox.ErrInvalidArg.With("no command")
	}
	c := &call{
		id: id, timeout: spec.Timeout, keep: spec.Keep, tied: spec.Tied, started: now(),
		exited: make(chan struct{}), recorded: make(chan struct{}), kill: make(chan time.Duration, 1),
	}
	k.mu.Lock()
	if known := k.calls[id]; known != nil {
		k.mu.Unlock()
		return k.attach(cn, id)
	}
	if k.closing {
		k.mu.Unlock()
		return nil, sandbox.ErrUnavailable.With("the keeper is ending")
	}
	c.watch = cn
	k.calls[id] = c
	k.running++
	k.most = max(k.most, k.running)
	c.tag = randomTag(k.key, func(t uint64) bool { return k.owners[t] != nil })
	k.mu.Unlock()

	err := k.launch(c, spec)
	if err != nil {
		k.mu.Lock()
		delete(k.calls, id)
		k.running--
		k.leaveIfEmpty()
		k.mu.Unlock()
		return nil, err
	}
	return &state{ID: id}, nil
}

// launch journals the start, forks, and sets the goroutines of c to work. On an error nothing ran.
func (k *keeper) launch(c *call, spec *Spec) error {
	dir := filepath.Join(k.dir, "calls", c.id)
	outR, outW, err := outputPipe()
	if err != nil {
		return sandbox.ErrUnavailable.With("starting the command: %v", err)
	}
	errR, errW, err := outputPipe()
	if err != nil {
		outR.Close()
		unix.Close(outW)
		return sandbox.ErrUnavailable.With("starting the command: %v", err)
	}
	grew := func() { k.touch(c) }
	c.out = newCapture(outR, filepath.Join(dir, "stdout"), k.StreamCap, grew)
	c.err = newCapture(errR, filepath.Join(dir, "stderr"), k.StreamCap, grew)
	if err = k.journal.append(&record{Kind: recStart, ID: c.id, At: c.started}); err == nil {
		err = k.fork(c, spec, outW, errW)
		if err != nil {
			k.journal.append(&record{Kind: recFail, ID: c.id}) // without it the id counts as interrupted, no more
		}
	}
	unix.Close(outW)
	unix.Close(errW)
	if err != nil {
		outR.Close()
		errR.Close()
		return startError(err, spec)
	}
	k.wg.Go(c.out.pump)
	k.wg.Go(c.err.pump)
	k.wg.Go(func() { k.supervise(c) })
	return nil
}

func (k *keeper) fork(c *call, spec *Spec, stdout, stderr int) error {
	args := make([]string, len(spec.Argv))
	for i, a := range spec.Argv {
		args[i] = string(a)
	}
	env := make([]string, 0, len(spec.Env)+2)
	for _, kv := range spec.Env {
		env = append(env, string(kv))
	}
	stdin, err := k.input(spec)
	if err != nil {
		return err
	}
	defer stdin.Close()
	attr := &syscall.ProcAttr{
		Dir: string(spec.Dir), Env: append(env, c.marker(k.key)...),
		Files: []uintptr{stdin.Fd(), uintptr(stdout), uintptr(stderr)},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	k.treeMu.Lock()
	defer k.treeMu.Unlock()
	c.born = bootTicks()
	if err := setTag(c.tag); err != nil {
		k.log.Debug("commands carry no tag here", "err", err)
	}
	pid, err := syscall.ForkExec(args[0], args, attr)
	if err != nil {
		return err
	}
	c.pid = pid
	k.mu.Lock()
	k.leaders[pid] = c
	k.owners[c.tag] = c
	k.mu.Unlock()
	k.forked.Set()
	return nil
}

// input opens what a command reads. It does not wait for a pipe whose other end is gone.
func (k *keeper) input(spec *Spec) (*os.File, error) {
	if len(spec.Input) > 0 {
		return inMemory(spec.Input)
	}
	path := os.DevNull
	if len(spec.Stdin) > 0 {
		path = string(spec.Stdin)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, false); err != nil { // the command waits for its input
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), path), nil
}

// inMemory is a file without a name that holds some bytes.
func inMemory(content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("stdin", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "stdin")
	if _, err = f.Write(content); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// endTied ends and forgets a command whose daemon is gone.
func (k *keeper) endTied(id string, c *call) {
	k.mu.Lock()
	if c.end == nil {
		c.askToEnd(0)
	}
	k.mu.Unlock()
	<-c.recorded
	if err := k.forget(id, c); err != nil {
		k.log.Error("a command whose daemon is gone could not be forgotten", "id", id, "err", err)
	}
}

func startError(err error, spec *Spec) error {
	var no syscall.Errno
	if !errors.As(err, &no) {
		return err
	}
	what := fmt.Sprintf("starting %s in %s: %v", spec.Argv[0], spec.Dir, no)
	switch no {
	case syscall.ENOENT:
		return sandbox.ErrNotFound.With("%s", what)
	case syscall.ENOTDIR:
		return sandbox.ErrNotDir.With("%s", what)
	case syscall.EACCES, syscall.EPERM:
		return sandbox.ErrPermission.With("%s", what)
	case syscall.ENOSPC, syscall.EDQUOT:
		return sandbox.ErrNoSpace.With("%s", what)
	case syscall.E2BIG:
		return sandbox.ErrTooLarge.With("starting %s: command line and environment are too long for this system (1 "+
			"MiB of both is possible as a rule): write the script to a file first", spec.Argv[0])
	case syscall.EINVAL:
		return sandbox.ErrInvalidArg.With("%s", what)
	}
	return sandbox.ErrUnavailable.With("%s", what)
}

// attach tells what is known of id, and makes cn hear of what follows.
func (k *keeper) attach(cn *conn, id string) (*state, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.calls[id]
	if c == nil {
		return nil, sandbox.ErrUnknownExec.With("command %s was never started here", id)
	}
	c.watch = cn
	return c.stateLocked(), nil
}

// stateLocked is for holders of the keeper's mu.
func (c *call) stateLocked() *state {
	s := &state{ID: c.id, End: c.end}
	if c.end == nil && c.out != nil {
		s.Stdout, s.Stderr = c.out.visible.Load(), c.err.visible.Load()
	}
	return s
}

// touch tells the daemon that output grew.
func (k *keeper) touch(c *call) {
	k.mu.Lock()
	cn := c.watch
	k.mu.Unlock()
	if cn != nil {
		cn.push(c, false)
	}
}

// forgetCall drops a finished command once its END is on disk, and calls done.
func (k *keeper) forgetCall(id string, done func(error)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.calls[id]
	switch {
	case c == nil:
		done(nil)
	case c.end == nil:
		done(sandbox.ErrInvalidArg.With("command %s is still running", id))
	default:
		k.wg.Go(func() {
			<-c.recorded
			done(k.forget(id, c))
		})
	}
}

func (k *keeper) forget(id string, c *call) error {
	// The record first: a forgotten command without output is nothing, a known one without output is a loss.
	if err := k.journal.append(&record{Kind: recForget, ID: id}); err != nil {
		return sandbox.ErrUnavailable.With("forgetting command %s: %v", id, err)
	}
	if err := k.removeFiles(id, c.end); err != nil {
		k.log.Error("output could not be removed, the next keeper does it", "id", id, "err", err)
	}
	k.mu.Lock()
	delete(k.calls, id)
	k.mu.Unlock()
	k.compactJournal()
	return nil
}

// killCall asks for the end of a command; of one that has ended, for the end of the children that it kept. done is
// called when the wish is on its way, or fulfilled in the second case.
func (k *keeper) killCall(id string, grace time.Duration, done func(error)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.calls[id]
	switch {
	case c == nil:
		done(sandbox.ErrUnknownExec.With("command %s was never started here", id))
	case c.end == nil:
		c.askToEnd(grace)
		done(nil)
	case k.owners[c.tag] == c:
		k.wg.Go(func() {
			k.endKept(c, grace)
			done(nil)
		})
	default:
		done(nil)
	}
}

// askToEnd never blocks: a newer wish replaces one that was not heard yet.
func (c *call) askToEnd(grace time.Duration) {
	for {
		select {
		case c.kill <- grace:
			return
		default:
		}
		select {
		case <-c.kill:
		default:
		}
	}
}

// minCompact is the length of a log below which it is not rewritten.
const minCompact = 8 << 20

// compactJournal drops the forgotten once they are most of the log.
func (k *keeper) compactJournal() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.journal.length() < k.compact {
		return
	}
	if err := k.journal.shrink(); err != nil {
		k.log.Error("the log could not be rewritten", "err", err)
		return
	}
	k.compact = max(minCompact, 2*k.journal.length())
}

// marker is the part of the environment by which processes of a call are known.
func (c *call) marker(key uint32) []string {
	return []string{"PAWL_CALL_ID=" + c.id, "PAWL_KEEPER=" + strconv.FormatUint(uint64(key), 16)}
}
