package keeper

import (
	"errors"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

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
