package keeper

import (
	"errors"
	"os"
	"slices"
)

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
	pids = slices.DeleteFunc(pids, func(pid int) bool { return k.leader(pid) != nil })
	if len(pids) == 0 {
		k.noOrphans = k.deaths
	}
	var out []orphan
	var children map[int][]proc
	for _, pid := range pids {
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
