package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// kind is a kind of fault.
type kind string

// Kinds of fault.
const (
	replicaKill   kind = "replica killed"
	replicaStop   kind = "replica frozen"
	replicaDrain  kind = "replica drained"
	executorKill  kind = "executor killed"
	executorStop  kind = "executor frozen"
	executorDrain kind = "executor drained"
	executorAway  kind = "executor away for long"
	keeperKill    kind = "keeper killed"
	bothKill      kind = "executor and keeper killed"
	executorWipe  kind = "executor's disk lost"
	executorFull  kind = "executor's disk full"
	backendsKill  kind = "backends terminated"
	databaseCrash kind = "postgres crashed"
	linkCut       kind = "connections cut"
	linkHold      kind = "connections half open"
	linkDelay     kind = "connections slow"
	clockJump     kind = "postgres' clock jumped"
	writesRefused kind = "bookkeeping refused"
	rowSpoilt     kind = "row undecodable"
	executorClone kind = "executor cloned"
	executorOld   kind = "executor restored"
)

// mix is what a run is made of.
type mix struct {
	weights map[kind]int
	every   time.Duration // between faults, on average
	aborts  int           // percent of the prompts
	tasks   int           // percent of the turns that are asked of sub-agents
	huge    int           // one in so many of the large outputs is larger than the window
	links   []link        // that are broken; nil is all
	// one in so many outages outlasts a lease, or what a cancelled call is waited for; 0 is one in four
	long int
	wide bool // commands last long
	// percent of the commands about which a rule has something to say, of the prompts that join or abort what runs, and
	// of those after which a summary is asked for
	gates, steers, interrupts, compacts int
}

// mixes by name. The whole one is for finding what nobody thinks of, the others aim.
var mixes = map[string]mix{
	"all": {
		every: 900 * time.Millisecond, aborts: 12, huge: 6, tasks: 30, gates: 20, steers: 12, interrupts: 4,
		compacts: 5,
		weights: map[kind]int{
			replicaKill: 3, replicaStop: 3, replicaDrain: 2, executorKill: 3, executorStop: 2, executorDrain: 1,
			executorAway: 1, keeperKill: 1, bothKill: 1, executorWipe: 1, executorFull: 2, backendsKill: 2,
			databaseCrash: 1, linkCut: 5, linkHold: 5, linkDelay: 3,
			clockJump: 2, writesRefused: 2, rowSpoilt: 2, executorClone: 1, executorOld: 1,
		},
	},
	"trees": {every: time.Second, aborts: 15, huge: 100, tasks: 80, weights: map[kind]int{
		replicaKill: 2, executorKill: 1,
	}},
	"gates": {every: time.Second, aborts: 15, huge: 100, tasks: 30, gates: 70, weights: map[kind]int{
		replicaKill: 3, replicaDrain: 1, executorKill: 1, backendsKill: 1, linkCut: 1,
	}},
	"inputs": {
		every: time.Second, aborts: 8, huge: 100, gates: 10, steers: 50, interrupts: 10, compacts: 15,
		weights: map[kind]int{replicaKill: 3, replicaDrain: 1, backendsKill: 1},
	},
	"clocks": {every: 2 * time.Second, aborts: 10, huge: 100, tasks: 20, weights: map[kind]int{
		clockJump: 4, databaseCrash: 1, replicaKill: 1,
	}},
	"refused": {every: time.Second, aborts: 10, huge: 100, tasks: 20, weights: map[kind]int{
		writesRefused: 3, replicaKill: 1, executorKill: 1, linkCut: 1,
	}},
	"rows": {every: 500 * time.Millisecond, aborts: 10, huge: 100, tasks: 30, weights: map[kind]int{rowSpoilt: 1}},
	"copies": {every: time.Second, aborts: 5, huge: 100, weights: map[kind]int{
		executorClone: 2, executorOld: 2, linkCut: 1,
	}},
	"owners": {
		every: time.Second, aborts: 5, huge: 100, weights: map[kind]int{replicaKill: 1, replicaStop: 4},
		long: 2, wide: true,
	},
	"handovers": {every: 500 * time.Millisecond, huge: 2, weights: map[kind]int{replicaDrain: 1}},
	"database": {
		every: 1500 * time.Millisecond, aborts: 5, huge: 100,
		weights: map[kind]int{linkHold: 3, executorKill: 2}, links: []link{linkDatabase}, long: 2,
	},
	"executors": {
		every: 700 * time.Millisecond, aborts: 5, huge: 100,
		weights: map[kind]int{executorKill: 4, linkCut: 3, linkHold: 3, replicaKill: 1}, links: []link{
			linkExecutor,
			linkDatabase,
		},
	},
	"keepers": {every: 700 * time.Millisecond, aborts: 5, huge: 100, weights: map[kind]int{keeperKill: 3, bothKill: 2}},
	"disks":   {every: time.Second, aborts: 5, huge: 100, weights: map[kind]int{executorWipe: 1}},
	"full": {every: time.Second, aborts: 30, huge: 100, weights: map[kind]int{
		executorFull: 3, executorKill: 2,
		keeperKill: 1,
	}},
	"wiped":  {every: time.Second, aborts: 60, huge: 100, weights: map[kind]int{executorWipe: 1}},
	"links":  {every: 400 * time.Millisecond, aborts: 5, huge: 100, weights: map[kind]int{linkCut: 3, linkHold: 4}},
	"aborts": {every: 3 * time.Second, aborts: 70, huge: 100, weights: map[kind]int{linkCut: 1, executorKill: 1}},
	"late":   {every: time.Second, aborts: 60, huge: 100, weights: map[kind]int{executorStop: 1}, long: 1},
}

// link is a class of connections.
type link int

// Classes of connections: an executor's to control, a replica's to its peers and to the database, clients' to a
// replica.
const (
	linkExecutor link = iota
	linkPeer
	linkDatabase
	linkClient
)

var linkNames = [...]string{"executor", "peer", "database", "client"}

// fault is one item of the schedule.
type fault struct {
	at     time.Duration
	kind   kind
	link   link // of the link kinds
	target int
	lasts  time.Duration // then it is undone
	up     bool          // hold what the dialler sends
	down   bool          // hold what it is sent
	cut    bool          // at the end; else what was held comes late
	jump   time.Duration // of the database's clock
	rows   string        // the table that is refused, or what of a row is spoilt
}

func (f fault) String() string {
	s := fmt.Sprintf("%7.3f s  %s", f.at.Seconds(), f.kind)
	switch f.kind {
	case backendsKill:
		return s
	case databaseCrash, clockJump:
		if f.jump != 0 {
			s += fmt.Sprintf(" (by %v)", f.jump.Round(time.Second))
		}
	case writesRefused, rowSpoilt:
		s += fmt.Sprintf(" (%s, %d)", f.rows, f.target)
	case linkCut, linkHold, linkDelay:
		s += fmt.Sprintf(" (%s %d)", linkNames[f.link], f.target)
	default:
		s += fmt.Sprintf(" (%d)", f.target)
	}
	if f.lasts > 0 {
		s += fmt.Sprintf(" for %.1f s", f.lasts.Seconds())
	}
	if f.kind == linkHold {
		s += fmt.Sprintf(" (up %v, down %v, then cut %v)", f.up, f.down, f.cut)
	}
	return s
}

// schedule is the faults of a run that lasts length.
func schedule(seed uint64, length time.Duration, m mix) []fault {
	r := rand.New(rand.NewPCG(seed, 0))
	kinds := make([]kind, 0, len(m.weights))
	for k := range m.weights {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	var lots []kind
	for _, k := range kinds {
		for range m.weights[k] {
			lots = append(lots, k)
		}
	}
	busy := map[string]time.Duration{}
	var all []fault
	for at := time.Second; at < length; at += time.Duration(r.ExpFloat64()*float64(m.every)) + 50*time.Millisecond {
		f := draw(r, lots[r.IntN(len(lots))], at, length, m)
		if what := f.subject(); busy[what] <= at && !(strings.HasPrefix(what, "replica") &&
			others(busy, at) >= replicas-1) {
			busy[what] = at + f.lasts + 500*time.Millisecond
			all = append(all, f)
		}
	}
	slices.SortStableFunc(all, func(a, b fault) int { return cmp.Compare(a.at, b.at) })
	return all
}

// others is how many replicas something happens to: one has to be left, or nothing happens at all.
func others(busy map[string]time.Duration, at time.Duration) (n int) {
	for what, until := range busy {
		if strings.HasPrefix(what, "replica") && until > at {
			n++
		}
	}
	return n
}

// subject is what two faults may not meet at.
func (f fault) subject() string {
	switch f.kind {
	case replicaKill, replicaStop, replicaDrain, rowSpoilt:
		return fmt.Sprint("replica ", f.target)
	case executorKill, executorStop, executorDrain, executorWipe, executorFull, keeperKill, bothKill, executorClone,
		executorOld:
		return fmt.Sprint("executor ", f.target)
	case writesRefused:
		return string(f.kind)
	case executorAway:
		return fmt.Sprint(linkExecutor, f.target)
	case linkCut, linkHold, linkDelay:
		return fmt.Sprint(f.link, f.target)
	}
	return "database"
}

// grace is how long executors may be away before their calls count as lost.
const grace = 30 * time.Second

// leap is how far a clock jumps, ahead or back: by seconds, or by hours.
func leap(r *rand.Rand) time.Duration {
	d := between(r, 2*time.Second, 90*time.Second)
	if r.IntN(2) == 0 {
		d = between(r, time.Hour, 3*time.Hour)
	}
	if r.IntN(2) == 0 {
		return -d
	}
	return d
}

// draw is one fault. Once in a while one outlasts a lease.
func draw(r *rand.Rand, k kind, at, length time.Duration, m mix) fault {
	f := fault{at: at, kind: k}
	short := between(r, 100*time.Millisecond, 4*time.Second)
	long, outlasts := between(r, 15500*time.Millisecond, 20*time.Second), r.IntN(cmp.Or(m.long, 4)) == 0
	switch k {
	case replicaKill, replicaStop:
		f.target, f.lasts = r.IntN(replicas), short
		if outlasts {
			f.lasts = long
		}
	case replicaDrain:
		f.target, f.lasts = r.IntN(replicas), between(r, 0, time.Second)
	case executorKill, executorDrain, executorWipe, executorFull, keeperKill, bothKill, executorClone, executorOld:
		f.target, f.lasts = r.IntN(executors), short
	case executorStop:
		f.target, f.lasts = r.IntN(executors), short
		if outlasts && m.long > 0 {
			f.lasts = long - 2*time.Second
		}
	case executorAway:
		f.target, f.lasts = r.IntN(executors), grace+between(r, 4*time.Second, 8*time.Second)
		if length < 2*f.lasts {
			return draw(r, linkCut, at, length, m)
		}
	case backendsKill:
	case databaseCrash:
		f.lasts = 2 * time.Second
		if r.IntN(2) == 0 {
			f.jump, f.lasts = leap(r), between(r, 4*time.Second, 8*time.Second)
		}
	case clockJump:
		f.jump, f.lasts = leap(r), between(r, time.Second, 8*time.Second)
	case writesRefused:
		f.rows = []string{"executors", "replicas", "wakes"}[r.IntN(3)]
		f.lasts = between(r, time.Second, 8*time.Second)
		if f.rows == "replicas" && outlasts {
			f.lasts = long
		}
	case rowSpoilt:
		f.rows = []string{"input", "usage", "usage", "entry"}[r.IntN(4)]
		f.target, f.lasts = r.IntN(replicas), between(r, 500*time.Millisecond, 2500*time.Millisecond)
	case linkCut, linkHold, linkDelay:
		among := m.links
		if among == nil {
			among = []link{linkExecutor, linkPeer, linkDatabase, linkClient}
		}
		f.link, f.target = among[r.IntN(len(among))], r.IntN(replicas)
		if f.link == linkExecutor {
			f.target = r.IntN(executors)
		}
		if k == linkCut {
			break
		}
		f.lasts = between(r, 300*time.Millisecond, 6*time.Second)
		way := r.IntN(3)
		f.up, f.down, f.cut = way != 0, way != 1, r.IntN(2) == 0
		if k == linkHold && f.link == linkDatabase && outlasts {
			f.lasts, f.up, f.cut = long, true, false // what it sent while it owned something arrives when others do
		}
	}
	return f
}
