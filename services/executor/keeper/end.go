package keeper

import (
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
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
	// gather is how long ENDs gather before one sync is made for all of them. It is not made at once because the daemon
	// is on its way to control with what it was told, and control's commits and the begin of the next command wait for
	// the same disk: that takes a few milliseconds, after which control has the result.
	gather = 5 * time.Millisecond
)

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
			v, e.Leftovers = k.terminate(c, leftoverGrace)
		}
	case <-timeout:
		e.TimedOut = true
		v, _ = k.terminate(c, timeoutGrace)
	case grace := <-c.kill:
		e.Killed = true
		v, _ = k.terminate(c, grace)
	}
	if v.left && !kept {
		v = k.sweep(c)
	}
	e.Confirmed = !v.left && !v.doubt
	k.finish(c, e, kept)
}

// finish collects output and status, tells the daemon, and has them made durable. The daemon does not wait for the
// disk: until END is on it, a crash of the host makes the command an interrupted one, and so it would if the daemon
// waited.
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
	if !kept {
		delete(k.owners, c.tag)
	}
	cn := c.watch
	k.ended = append(k.ended, c)
	first := len(k.ended) == 1
	k.mu.Unlock()
	if cn != nil {
		cn.push(c, true)
	}
	if first {
		k.wg.Go(func() {
			time.Sleep(gather)
			k.persist()
		})
	}
}

// persist puts on disk the output of the commands that have ended, then their ENDs, and lets go of them.
func (k *keeper) persist() {
	k.mu.Lock()
	ended := k.ended
	k.ended = nil
	k.mu.Unlock()
	for _, c := range ended {
		e := *c.end
		e.StdoutError = k.problem(e.StdoutError, c.out, c.out.persist())
		e.StderrError = k.problem(e.StderrError, c.err, c.err.persist())
		k.mu.Lock()
		c.end = &e
		k.mu.Unlock()
	}
	k.record(ended)
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range ended {
		close(c.recorded)
	}
	k.running -= len(ended)
	k.settleMemory()
	k.leaveIfEmpty()
	k.wake.Set()
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

// record puts ENDs on disk, however long a full disk takes. It gives up only when this keeper ends. The next keeper
// then counts the commands as interrupted; the daemon that was told their ends has recorded those itself.
func (k *keeper) record(ended []*call) {
	for _, c := range ended {
		end := &record{Kind: recEnd, ID: c.id, End: c.end}
		k.insist(func() error { return k.journal.append(end) })
	}
	k.insist(k.journal.sync)
}

// insist tries until it is done, or this keeper ends.
func (k *keeper) insist(try func() error) {
	for err := try(); err != nil && !k.isClosing(); err = try() {
		k.log.Error("ends of commands could not be recorded, trying again", "err", err)
		time.Sleep(200 * time.Millisecond)
	}
}
