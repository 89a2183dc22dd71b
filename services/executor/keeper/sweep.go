package keeper

import (
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
		if _, err := waitPeek(0); err != nil {
			<-k.forked // ECHILD: there is none, so nothing can become ours either before the next fork
			continue
		}
		if k.reapDead() {
			k.orphanEnded()
		}
	}
}

// reapDead collects all children that are dead now: those that die together are then looked after by one scan. It tells
// whether one of them was an orphan.
func (k *keeper) reapDead() (orphans bool) {
	k.treeMu.Lock()
	defer k.treeMu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err != nil || pid == 0 {
			break
		}
		k.deaths++
		c := k.leaders[pid]
		if c == nil {
			orphans = true
			continue
		}
		c.status, c.reaped, c.died = status, true, k.deaths
		delete(k.leaders, pid)
		close(c.exited)
	}
	close(k.reaped)
	k.reaped = make(chan struct{})
	return orphans
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
	k.wake.Set()
}

func (k *keeper) nextReap() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.reaped
}

// remains looks for processes of c. Cheap when there are no orphans: no scan of /proc, and one look at the children for
// all commands whose first processes died before it.
func (k *keeper) remains(c *call) verdict {
	k.treeMu.Lock()
	defer k.treeMu.Unlock()
	switch reaped, died := k.death(c); {
	case c.pid != 0 && !reaped:
		return verdict{left: true}
	case reaped && died <= k.noOrphans, !anyChild():
		return verdict{} // what c left behind then is gone, and makes nothing new
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
	reaped, _ := k.death(c)
	return reaped
}

// death tells whether the first process of c was reaped, and how many were by then.
func (k *keeper) death(c *call) (reaped bool, died int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return c.reaped, c.died
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

// terminate asks the processes of c to end, gives them grace to do so, and tells how many it has asked.
func (k *keeper) terminate(c *call, grace time.Duration) (v verdict, asked int) {
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
	return k.awaitGone(c, grace), len(members)
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
	if v, _ := k.terminate(c, grace); v.left {
		k.sweep(c)
	}
	k.forgetEmptyOwners()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.leaveIfEmpty()
	k.wake.Set()
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
