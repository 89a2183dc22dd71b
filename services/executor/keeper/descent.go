package keeper

import (
	"errors"
	"time"
)

// observeEvery is how often the processes of commands that run side by side are looked at. What lives that long below a
// command's first process is known to be of that command, whatever becomes of its parents and of what it carries.
const observeEvery = time.Second

// observeAll looks at the trees of commands for the life of this process.
func (k *keeper) observeAll() {
	for range time.Tick(observeEvery) {
		k.mu.Lock()
		var all []*call
		if len(k.owners) > 1 { // an orphan of the only one is its own
			for _, c := range k.owners {
				all = append(all, c)
			}
		}
		k.mu.Unlock()
		for _, c := range all {
			if err := k.observe(c); err != nil {
				k.log.Debug("the processes of a command could not be looked at", "id", c.id, "err", err)
			}
		}
	}
}

// observe remembers what is below the first process of c now, and forgets what has ended. It takes no lock of the tree:
// a process counts when its parent is the one in whose list it was, after it was looked at.
func (k *keeper) observe(c *call) error {
	seen := map[procID]bool{}
	k.mu.Lock()
	for id := range c.descent {
		seen[id] = true
	}
	first, alive := c.pid, !c.reaped
	k.mu.Unlock()
	for id := range seen {
		p, err := readProc(id.pid)
		if errors.Is(err, errGone) || err == nil && p.id() != id {
			delete(seen, id)
		}
	}
	var err error
	if alive {
		err = below(first, seen)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if alive && !c.reaped || !alive { // or the number may have been another's meanwhile
		c.descent = seen
	}
	return err
}

// below adds the descendants of a process to seen.
func below(pid int, seen map[procID]bool) error {
	queue := []int{pid}
	for len(queue) > 0 {
		parent := queue[0]
		queue = queue[1:]
		children, err := childrenOf(parent)
		if err != nil && !errors.Is(err, errGone) {
			return err
		}
		for _, child := range children {
			if p, err := readProc(child); err == nil && p.ppid == parent {
				seen[p.id()] = true
				queue = append(queue, child)
			}
		}
	}
	return nil
}
