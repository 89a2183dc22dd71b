package keeper

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

const (
	// naturalEnd is what processes get that the command left behind at a normal end, to end by themselves: the far side
	// of `> >(tee log)` has a little to write yet.
	naturalEnd = 25 * time.Millisecond
	// leftoverGrace is from TERM to KILL for those that did not.
	leftoverGrace = 100 * time.Millisecond
	// timeoutGrace is from TERM to KILL when the time of a command is up.
	timeoutGrace = 2 * time.Second
	// pipeGrace is for the last bytes when no process of the command is left; others may hold its pipe.
	pipeGrace = 100 * time.Millisecond
	// minCompact is the length of a log below which it is not rewritten.
	minCompact = 8 << 20
)

// call is a command. Fields above the blank line belong to the keeper's mu.
type call struct {
	end    *end  // finished
	watch  *conn // who hears of it
	reaped bool  // its first process is gone, and with it the claim to its pid
	status unix.WaitStatus
	// descent is the processes that were seen below the first one and are alive.
	descent map[procID]bool

	id       string
	pid      int
	tag      uint64
	born     uint64 // ticks since boot, not later than its first process
	started  int64
	timeout  time.Duration
	keep     bool
	out, err *capture
	exited   chan struct{}      // its first process was reaped
	recorded chan struct{}      // its END is on disk, or cannot be put there any more
	kill     chan time.Duration // the newest wish to end it: the grace
}

// start runs a command, or tells what is known of it if it was started before.
func (k *keeper) start(cn *conn, id string, spec *Spec) (*state, error) {
	if len(spec.Argv) == 0 {
		return nil, sandbox.ErrInvalidArg.With("no command")
	}
	c := &call{
		id: id, timeout: spec.Timeout, keep: spec.Keep, started: now(),
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
	if _, err = k.journal.append(&record{Kind: recStart, ID: c.id, At: c.started}); err == nil {
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
	attr := &syscall.ProcAttr{
		Dir: string(spec.Dir), Env: append(env, c.marker(k.key)...),
		Files: []uintptr{k.null.Fd(), uintptr(stdout), uintptr(stderr)},
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
	select {
	case k.forked <- struct{}{}:
	default:
	}
	return nil
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

// supervise takes one command from its fork to its END.
func (k *keeper) supervise(c *call) {
	e := &end{Started: c.started}
	var timeout <-chan time.Time
	if c.timeout > 0 {
		t := time.NewTimer(c.timeout)
		defer t.Stop()
		timeout = t.C
	}
	var v verdict
	kept := false
	select {
	case <-c.exited:
		if c.keep {
			v = k.remains(c)
			kept = v.left
			break
		}
		if v = k.awaitGone(c, naturalEnd); v.left {
			v = k.terminate(c, leftoverGrace)
		}
	case <-timeout:
		e.TimedOut = true
		v = k.terminate(c, timeoutGrace)
	case grace := <-c.kill:
		e.Killed = true
		v = k.terminate(c, grace)
	}
	if v.left && !kept {
		v = k.sweep(c)
	}
	e.Confirmed = !v.left && !v.doubt
	k.finish(c, e, kept)
}

// finish collects output and status, tells the daemon, and makes them durable. The daemon does not wait for the disk:
// until END is on it, a crash of the host makes the command an interrupted one, and so it would if the daemon waited.
func (k *keeper) finish(c *call, e *end, kept bool) {
	trailer := ""
	if e.TimedOut {
		trailer = "[timed out after " + strconv.FormatFloat(c.timeout.Seconds(), 'f', -1, 64) + " s]\n"
	}
	e.Stdout, e.StdoutCut, e.StdoutError = k.collect(c.out, kept, "")
	e.Stderr, e.StderrCut, e.StderrError = k.collect(c.err, kept, trailer)

	k.mu.Lock()
	status, reaped := c.status, c.reaped
	k.mu.Unlock()
	switch {
	case e.TimedOut:
		e.Code = 124
		if reaped && status.Signaled() {
			e.Signal = int(status.Signal())
		}
	case !reaped: // it does not even obey KILL, and will once the kernel lets go of it
		e.Signal = int(unix.SIGKILL)
		e.Code = 128 + e.Signal
	case status.Signaled():
		e.Signal = int(status.Signal())
		e.Code = 128 + e.Signal
	default:
		e.Code = status.ExitStatus()
	}
	e.Ended = now()
	k.mu.Lock()
	c.end = e
	cn := c.watch
	k.mu.Unlock()
	if cn != nil {
		cn.push(c, true)
	}

	k.persist(c)
	close(c.recorded)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running--
	k.settleMemory()
	if !kept {
		delete(k.owners, c.tag)
	}
	k.leaveIfEmpty()
	k.poke()
}

// persist puts output and END of a command on disk, in this order.
func (k *keeper) persist(c *call) {
	e := *c.end
	e.StdoutError = k.problem(e.StdoutError, c.out, c.out.persist())
	e.StderrError = k.problem(e.StderrError, c.err, c.err.persist())
	k.mu.Lock()
	c.end = &e
	k.mu.Unlock()
	k.record(c.id, &e)
}

// problem adds an error to what went wrong with a capture.
func (k *keeper) problem(before string, s *capture, err error) string {
	if err == nil {
		return before
	}
	k.log.Error("output could not be kept", "path", s.path, "err", err)
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	if before == "" {
		return text
	}
	return before + "; " + text
}

const (
	// burst is how many commands at once leave memory behind that is worth a look, settleAfter how long after the last
	// one that is given back.
	burst       = 64
	settleAfter = 2 * time.Second
)

// settleMemory gives the memory of a burst of commands back to the system. What is left of one are the stacks of its
// goroutines and small objects, and a process that allocates nothing more collects no garbage for minutes. The caller
// holds mu.
func (k *keeper) settleMemory() {
	if k.running > 0 {
		return
	}
	if k.most >= burst {
		time.AfterFunc(settleAfter, debug.FreeOSMemory)
	}
	k.most = 0
}

// collect ends a capture and tells what went wrong with it. For background children that are kept the pipe stays open,
// and flows.
func (k *keeper) collect(s *capture, kept bool, trailer string) (size, cut int64, problem string) {
	if !kept {
		t := time.NewTimer(pipeGrace)
		select {
		case <-s.done:
		case <-t.C:
		}
		t.Stop()
	}
	s.stop()
	<-s.done
	size, cut, err := s.finish(trailer)
	problem = k.problem("", s, err)
	if kept {
		go s.discard() // until those children end, and this process with them
	} else {
		s.r.Close()
	}
	return size, cut, problem
}

// record puts END on disk, however long a full disk takes. It gives up only when this keeper ends. The next keeper then
// counts the command as interrupted; the daemon that was told its end has recorded that itself.
func (k *keeper) record(id string, e *end) {
	for {
		seq, err := k.journal.append(&record{Kind: recEnd, ID: id, End: e})
		if err == nil {
			err = k.journal.sync(seq)
		}
		if err == nil {
			return
		}
		k.log.Error("an end could not be recorded", "id", id, "err", err)
		if k.isClosing() {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
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
	if _, err := k.journal.append(&record{Kind: recForget, ID: id}); err != nil {
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
