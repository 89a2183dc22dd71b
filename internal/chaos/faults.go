package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/pawl-dev/pawl/internal/chaos/check"
	"github.com/pawl-dev/pawl/internal/chaos/proxy"
)

// injector carries a schedule out.
type injector struct {
	cluster *cluster
	began   time.Time
	say     func(format string, args ...any)

	mu       sync.Mutex // guards what follows
	done     map[kind]int
	absences []check.Absence
}

// run injects the faults at their times, undoes each when it has lasted, and returns when none lasts any more. When ctx
// ends, those that last are undone and the others are left out.
func (in *injector) run(ctx context.Context, all []fault) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, f := range all {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(in.began.Add(f.at))):
		}
		in.say("%s", f)
		wg.Go(func() { in.inject(ctx, f) })
	}
}

func (in *injector) inject(ctx context.Context, f fault) {
	last := func() {
		select {
		case <-ctx.Done():
		case <-time.After(f.lasts):
		}
	}
	count := true
	switch c := in.cluster; f.kind {
	case replicaKill:
		kept(c.replicas[f.target].node, syscall.SIGKILL, last)
	case replicaDrain:
		kept(c.replicas[f.target].node, syscall.SIGTERM, last)
	case replicaStop:
		c.replicas[f.target].freeze()
		last()
		c.replicas[f.target].thaw()
	case executorKill:
		in.absent(c.executors[f.target], true, func() { kept(c.executors[f.target].node, syscall.SIGKILL, last) })
	case executorDrain:
		in.absent(c.executors[f.target], true, func() { kept(c.executors[f.target].node, syscall.SIGTERM, last) })
	case executorStop:
		c.executors[f.target].freeze()
		last()
		c.executors[f.target].thaw()
	case executorAway:
		x := c.executors[f.target]
		in.absent(x, false, func() {
			x.control.Set(proxy.Mode{Refuse: true})
			x.control.Cut()
			last()
			x.control.Set(proxy.Mode{})
		})
	case keeperKill:
		in.absent(c.executors[f.target], false, func() { count = killKeepers(c.executors[f.target]) })
	case bothKill:
		x := c.executors[f.target]
		in.absent(x, false, func() { kept(x.node, syscall.SIGKILL, func() { killKeepers(x); last() }) })
	case executorWipe:
		x := c.executors[f.target]
		in.absent(x, false, func() { kept(x.node, syscall.SIGKILL, func() { count = wipe(x); last() }) })
	case executorFull:
		x := c.executors[f.target]
		count = x.full(true)
		last()
		count = x.full(false) && count
	case backendsKill:
		count = in.terminateBackends(ctx)
	case clockJump:
		in.clock(f.jump)
		last()
		in.clock(0)
	case writesRefused:
		count = in.exec(ctx, "INSERT INTO chaos.refused VALUES ($1) ON CONFLICT DO NOTHING", f.rows)
		last()
		in.exec(ctx, "DELETE FROM chaos.refused") // heal does it, too
	case rowSpoilt:
		// Who owns the lane knows what is there; who comes after it has to read it.
		var owner *replica
		owner, count = in.spoil(ctx, f.rows)
		if owner == nil {
			owner = c.replicas[f.target]
		}
		kept(owner.node, syscall.SIGKILL, last)
		in.exec(ctx, "SELECT chaos.mend(false)") // heal does it, too
	case executorClone:
		x := c.executors[f.target]
		in.absent(x, false, func() { count = x.clone(last) })
	case executorOld:
		x := c.executors[f.target]
		in.absent(x, false, func() { count = x.restore(last) })
	case databaseCrash:
		if f.jump != 0 {
			in.clock(f.jump)
			defer func() { last(); in.clock(0) }()
		}
		crash, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyWithin)
		defer cancel()
		if err := c.database.Crash(crash); err != nil {
			in.say("crashing the database failed: %v", err)
			count = false
		}
	case linkCut:
		n := 0
		for _, p := range in.proxies(f) {
			n += p.Cut()
		}
		count = n > 0
	case linkHold, linkDelay:
		m := proxy.Mode{HoldUp: f.up, HoldDown: f.down}
		if f.kind == linkDelay {
			m.Delay = f.lasts / 40
		}
		for _, p := range in.proxies(f) {
			p.Set(m)
		}
		last()
		for _, p := range in.proxies(f) {
			if f.cut {
				p.Cut()
			}
			p.Set(proxy.Mode{})
		}
	}
	if count {
		in.mu.Lock()
		defer in.mu.Unlock()
		in.done[f.kind]++
	}
}

// kept keeps a program down while f runs.
func kept(n *node, s syscall.Signal, f func()) {
	n.down(s)
	f()
	n.up()
}

// absent notes a time in which the executor may lose outcomes.
func (in *injector) absent(x *executor, editsOnly bool, f func()) {
	from := time.Now()
	f()
	in.mu.Lock()
	defer in.mu.Unlock()
	in.absences = append(in.absences, check.Absence{
		Executor: x.id, From: from.Add(-time.Second), To: time.Now().Add(time.Second), EditsOnly: editsOnly,
	})
}

func killKeepers(x *executor) bool {
	pids := keepers(x.data)
	for _, pid := range pids {
		kill(pid)
	}
	return len(pids) > 0
}

// wipe takes an executor's host away, with everything that runs there and its disk, and gives it an empty one.
func wipe(x *executor) bool {
	killKeepers(x)
	processes("environ", "PAWL_CALL_ID=", func(pid int, _ []byte) {
		if dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err == nil && dir == x.root {
			kill(pid)
		}
	})
	return os.RemoveAll(x.data) == nil
}

func kill(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) } // it may be gone

func (in *injector) proxies(f fault) []*proxy.Proxy {
	switch f.link {
	case linkExecutor:
		return []*proxy.Proxy{in.cluster.executors[f.target].control}
	case linkPeer:
		return []*proxy.Proxy{in.cluster.replicas[f.target].peer}
	case linkDatabase:
		return []*proxy.Proxy{in.cluster.replicas[f.target].database}
	}
	r := in.cluster.replicas[f.target]
	return []*proxy.Proxy{r.frontGRPC, r.frontHTTP}
}

func (in *injector) terminateBackends(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	conn, err := in.cluster.query(ctx)
	if err == nil {
		_, err = conn.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> "+
			"pg_backend_pid() AND backend_type = 'client backend'")
		_ = conn.Close(ctx)
	}
	if err != nil {
		in.say("terminating backends failed: %v", err)
	}
	return err == nil
}

// clock moves the database's clock. How long an executor has been away is for the database to say: whoever is away at a
// jump may have been so for hours.
func (in *injector) clock(offset time.Duration) {
	if err := in.cluster.database.SetClock(offset); err != nil {
		in.say("moving the clock failed: %v", err)
	}
	for _, x := range in.cluster.executors {
		in.absent(x, false, func() {})
	}
}

// exec runs a statement of a fault, and reports whether that worked.
func (in *injector) exec(ctx context.Context, sql string, args ...any) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	conn, err := in.cluster.query(ctx)
	if err == nil {
		_, err = conn.Exec(ctx, sql, args...)
		_ = conn.Close(ctx)
	}
	if err != nil {
		in.say("%s failed: %v", sql, err)
	}
	return err == nil
}

// spoil makes a row undecodable, and reports whether there was one. It returns the replica that owns its lane, nil for
// none.
func (in *injector) spoil(ctx context.Context, what string) (owner *replica, ok bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	var done, addr *string
	conn, err := in.cluster.query(ctx)
	if err == nil {
		err = conn.QueryRow(ctx, "SELECT said, owner FROM chaos.spoil($1)", what).Scan(&done, &addr)
		_ = conn.Close(ctx)
	}
	switch {
	case err != nil:
		in.say("spoiling a row failed: %v", err)
	case done != nil:
		in.say("spoilt: %s", *done)
	}
	for _, r := range in.cluster.replicas {
		if addr != nil && r.peer.Addr() == *addr {
			owner = r
		}
	}
	return owner, err == nil && done != nil
}

// report is how many faults of each kind there were.
func (in *injector) report() (total int, byKind string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, k := range sortedKeys(in.done) {
		total += in.done[k]
		byKind += fmt.Sprintf("    %-28s %d\n", k, in.done[k])
	}
	return total, byKind
}
