package keeper

import (
	"errors"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// sweepLimit bounds the hunt for processes that do not die. What is left then has KILL pending and is not
	// confirmed.
	sweepLimit = 5 * time.Second
	// shutdownGrace is from TERM to KILL when the keeper itself has to end.
	shutdownGrace = 2 * time.Second
)

// verdict is what remains of a command: processes that are its own, or orphans that may be.
type verdict struct{ left, doubt bool }

// reap collects every child that dies, orphans included, and tells whose first process that was.
func (k *keeper) reap() {
	for {
		pid, err := waitPeek(0)
		if err != nil { // ECHILD: there is none, so nothing can become ours either before the next fork
			<-k.forked
			continue
		}
		k.treeMu.Lock()
		var status unix.WaitStatus
		_, err = unix.Wait4(pid, &status, unix.WNOHANG, nil)
		k.mu.Lock()
		c := k.leaders[pid]
		if c != nil && err == nil {
			c.status, c.reaped = status, true
			delete(k.leaders, pid)
			close(c.exited)
		}
		close(k.reaped)
		k.reaped = make(chan struct{})
		k.mu.Unlock()
		k.treeMu.Unlock()
		if c == nil {
			k.orphanEnded()
		}
	}
}

// orphanEnded looks whether the last process of a command that keeps children is gone.
func (k *keeper) orphanEnded() {
	k.mu.Lock()
	ending := k.retiring
	k.mu.Unlock()
	if ending {
		k.forgetEmptyOwners()
		k.mu.Lock()
		defer k.mu.Unlock()
		k.leaveIfEmpty()
	}
	k.poke()
}

func (k *keeper) nextReap() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.reaped
}

// remains looks for processes of c. Cheap when there are no orphans: no scan of /proc.
func (k *keeper) remains(c *call) verdict {
	k.treeMu.Lock()
	defer k.treeMu.Unlock()
	if c.pid != 0 && !k.isReaped(c) {
		return verdict{left: true}
	}
	if !anyChild() {
		return verdict{}
	}
	orphans, err := k.orphans()
	if err != nil {
		k.log.Error("processes could not be listed", "err", err)
		return verdict{left: true}
	}
	var v verdict
	for _, o := range orphans {
		mine, doubt := k.judge(c, o)
		v.left = v.left || mine
		v.doubt = v.doubt || doubt
	}
	return v
}

func (k *keeper) isReaped(c *call) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return c.reaped
}

// orphan is a direct child of the keeper that is nobody's first process.
type orphan struct {
	proc
	claim
}

// claim is what tells whose a process is.
type claim struct {
	owner *call // nil if there is no evidence
	fact  bool  // it cannot be another's
	stale bool  // the evidence names a command that has ended
}

func (c claim) none() bool { return c.owner == nil && !c.stale }

// orphans lists the living ones. The caller holds treeMu.
func (k *keeper) orphans() ([]orphan, error) {
	pids, err := childPIDs()
	if err != nil {
		return nil, err
	}
	var out []orphan
	var children map[int][]proc
	for _, pid := range pids {
		if k.leader(pid) != nil {
			continue
		}
		p, err := readProc(pid)
		if errors.Is(err, errGone) || err == nil && p.dead {
			continue
		}
		if err != nil {
			return nil, err
		}
		o := orphan{proc: p}
		if o.claim, err = k.evidence(p); err == nil && o.none() {
			o.claim, children, err = k.evidenceBelow(p, children)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

// evidenceBelow is what the descendants of p tell of it. It lists all processes unless the caller has.
func (k *keeper) evidenceBelow(p proc, children map[int][]proc) (claim, map[int][]proc, error) {
	if children == nil {
		procs, err := allProcs()
		if err != nil {
			return claim{}, nil, err
		}
		children = byParent(procs)
	}
	for _, d := range subtree(p, children)[1:] {
		if found, err := k.evidence(d); err != nil || !found.none() {
			return found, children, err
		}
	}
	return claim{}, children, nil
}

func (k *keeper) leader(pid int) *call {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.leaders[pid]
}

// evidence tells whose p is, by where it was seen and by what it carries itself.
func (k *keeper) evidence(p proc) (claim, error) {
	t, tagged, err := tagOf(p.pid)
	marker := ""
	if err == nil && !tagged {
		marker, err = environ(p.pid, "PAWL_CALL_ID")
	}
	if errors.Is(err, errGone) {
		err = nil // without a tag, then
	}
	if err != nil {
		return claim{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var named, proven *call
	for _, c := range k.owners {
		switch {
		case c.descent[p.id()], c.pid == p.sid && c.born <= p.start && (proven == nil || proven.born < c.born):
			proven = c // a session's number may have been that of an earlier command's, whose kept children live
		case tagged && c.tag == t, !tagged && marker != "" && marker == c.id:
			named = c
		}
	}
	switch {
	case proven != nil:
		return claim{owner: proven, fact: true}, nil
	case named != nil && named.born <= p.start:
		return claim{owner: named}, nil
	case named != nil: // it is older than the command whose tag it has
		return claim{}, nil
	}
	return claim{stale: tagged && t>>32 == tag(k.key, 0)>>32}, nil
}

// judge decides whether an orphan goes with c, and whether it may be of c although it goes with another command.
// Without evidence it goes with the last command that it may be of.
func (k *keeper) judge(c *call, o orphan) (mine, doubt bool) {
	switch {
	case o.owner == c, o.stale:
		return true, false
	case o.fact:
		return false, false
	case o.owner != nil:
		return false, c.born <= o.start
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	others := false
	for _, d := range k.owners {
		others = others || d != c && d.born <= o.start
	}
	if !others {
		return true, false
	}
	return false, c.born <= o.start
}

// members is every living process of c, parents before children. The caller holds treeMu.
func (k *keeper) members(c *call) ([]proc, error) {
	procs, err := allProcs()
	if err != nil {
		return nil, err
	}
	orphans, err := k.orphans()
	if err != nil {
		return nil, err
	}
	children := byParent(procs)
	var out []proc
	add := func(root proc) {
		for _, p := range subtree(root, children) {
			if !p.dead {
				out = append(out, p)
			}
		}
	}
	for _, p := range children[os.Getpid()] {
		if k.leader(p.pid) == c {
			add(p)
		}
	}
	for _, o := range orphans {
		if mine, _ := k.judge(c, o); mine {
			add(o.proc)
		}
	}
	return out, nil
}

// awaitGone waits until nothing remains of c, at most for d. A new wish to kill may shorten that.
func (k *keeper) awaitGone(c *call, d time.Duration) verdict {
	deadline := time.Now().Add(d)
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		reaped := k.nextReap() // before the look, so that no death falls between
		v := k.remains(c)
		if !v.left {
			return v
		}
		select {
		case <-reaped:
		case grace := <-c.kill:
			if at := time.Now().Add(grace); at.Before(deadline) {
				deadline = at
				timer.Reset(grace)
			}
		case <-timer.C:
			return v
		}
	}
}

// terminate asks the processes of c to end and gives them grace to do so.
func (k *keeper) terminate(c *call, grace time.Duration) verdict {
	// What is below its first process now is its own, and is known as that when the first process is gone.
	if err := k.observe(c); err != nil {
		k.log.Debug("the processes of a command could not be looked at", "id", c.id, "err", err)
	}
	k.treeMu.Lock()
	group := 0
	if !k.isReaped(c) { // its number is its own
		group = c.pid
		unix.Kill(-group, unix.SIGTERM) // at once, so that no fork slips through
	}
	members, err := k.members(c)
	if err != nil {
		k.log.Error("processes could not be listed", "err", err)
	}
	for _, p := range members {
		if p.pgid != group {
			p.signal(unix.SIGTERM)
		}
	}
	k.treeMu.Unlock()
	return k.awaitGone(c, grace)
}

// sweep kills what is left of c until nothing is.
func (k *keeper) sweep(c *call) verdict {
	deadline := time.Now().Add(sweepLimit)
	for {
		k.killMembers(c)
		v := k.awaitGone(c, min(100*time.Millisecond, time.Until(deadline)))
		if !v.left || time.Now().After(deadline) {
			return v
		}
	}
}

// killMembers stops them all before it kills the first, so that none can fork away meanwhile.
func (k *keeper) killMembers(c *call) {
	k.treeMu.Lock()
	defer k.treeMu.Unlock()
	members, err := freeze(func() ([]proc, error) { return k.members(c) })
	if err != nil {
		k.log.Error("processes could not be listed", "err", err)
	}
	for _, p := range members {
		p.signal(unix.SIGKILL)
	}
}

// freeze stops what list finds until it finds nothing new. A fork that happened during one listing is in the next.
// After an error what was found before it is returned: it proves nothing about what is left.
func freeze(list func() ([]proc, error)) (members []proc, err error) {
	stopped := map[int]uint64{}
	for range 20 {
		found, err := list()
		if err != nil {
			return members, err
		}
		members = found
		fresh := false
		for _, p := range members {
			if stopped[p.pid] != p.start {
				p.signal(unix.SIGSTOP)
				stopped[p.pid] = p.start
				fresh = true
			}
		}
		if !fresh {
			break
		}
	}
	return members, nil
}

// endKept ends the children that a finished command kept.
func (k *keeper) endKept(c *call, grace time.Duration) {
	if k.terminate(c, grace).left {
		k.sweep(c)
	}
	k.forgetEmptyOwners()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.leaveIfEmpty()
	k.poke()
}

// forgetEmptyOwners lets go of finished commands whose kept children have ended.
func (k *keeper) forgetEmptyOwners() {
	k.mu.Lock()
	var ended []*call
	for _, c := range k.owners {
		if c.end != nil {
			ended = append(ended, c)
		}
	}
	k.mu.Unlock()
	for _, c := range ended {
		if !k.remains(c).left {
			k.mu.Lock()
			delete(k.owners, c.tag)
			k.mu.Unlock()
		}
	}
}

// killEverything ends all commands, kept children too, and returns when that is recorded.
func (k *keeper) killEverything() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.owners {
		if c.end != nil {
			k.wg.Go(func() { k.endKept(c, shutdownGrace) })
		}
	}
	for _, c := range k.calls {
		if c.end == nil {
			c.askToEnd(shutdownGrace)
		}
	}
}

// sweepPredecessor kills what a dead keeper with this key left behind, wherever it hangs now. What has shed tag and
// marker is not found: no end of a command whose keeper died is confirmed.
func (k *keeper) sweepPredecessor(key uint32) {
	hex := strconv.FormatUint(uint64(key), 16)
	k.sweepAll(func() ([]proc, error) { return predecessors(key, hex) })
}

// sweepAll kills what list finds until it finds nothing. A list that cannot be had is no proof of anything.
func (k *keeper) sweepAll(list func() ([]proc, error)) bool {
	deadline := time.Now().Add(sweepLimit)
	for {
		members, err := freeze(list)
		if err == nil && len(members) == 0 {
			return true
		}
		if time.Now().After(deadline) {
			k.log.Error("processes of a dead keeper do not end", "count", len(members), "err", err)
			return false
		}
		for _, p := range members {
			p.signal(unix.SIGKILL)
		}
		time.Sleep(time.Millisecond) // not our children: nobody tells us of their end
	}
}

func predecessors(key uint32, hex string) ([]proc, error) {
	procs, err := allProcs()
	if err != nil {
		return nil, err
	}
	children := byParent(procs)
	var out []proc
	seen := map[int]bool{os.Getpid(): true}
	for _, p := range procs {
		if seen[p.pid] {
			continue
		}
		ours, err := carries(p.pid, key, hex)
		if err != nil {
			return nil, err
		}
		if !ours {
			continue
		}
		for _, d := range subtree(p, children) {
			if !seen[d.pid] && !d.dead {
				out = append(out, d)
			}
			seen[d.pid] = true
		}
	}
	return out, nil
}

// carries reports whether a process has a tag or the marker of the keeper with this key.
func carries(pid int, key uint32, hex string) (bool, error) {
	t, tagged, err := tagOf(pid)
	if err == nil && tagged && t>>32 == tag(key, 0)>>32 {
		return true, nil
	}
	marker := ""
	if err == nil {
		marker, err = environ(pid, "PAWL_KEEPER")
	}
	if errors.Is(err, errGone) {
		return false, nil
	}
	return marker == hex, err
}
