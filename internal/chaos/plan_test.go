package main

import (
	"reflect"
	"testing"
	"time"
)

// The seed alone decides what is asked for and what is broken when.
func TestScheduleFollowsFromTheSeed(t *testing.T) {
	for name, m := range mixes {
		a, b := schedule(7, time.Minute, m), schedule(7, time.Minute, m)
		if len(a) == 0 || !reflect.DeepEqual(a, b) {
			t.Errorf("%s: %d faults, %d the second time", name, len(a), len(b))
		}
		if reflect.DeepEqual(a, schedule(8, time.Minute, m)) {
			t.Errorf("%s: another seed gives the same faults", name)
		}
		x, y := newAuthor(7, 1, "/e", m), newAuthor(7, 1, "/e", m)
		for range 50 {
			if p, q := x.next(), y.next(); !reflect.DeepEqual(p, q) {
				t.Fatalf("%s: %+v, %+v the second time", name, p, q)
			}
		}
	}
}

// Each kind of fault comes, and one replica is always left.
func TestScheduleIsWhole(t *testing.T) {
	seen := map[kind]bool{}
	for seed := range uint64(20) {
		busy := map[int]time.Duration{}
		for _, f := range schedule(seed, 2*time.Minute, mixes["all"]) {
			seen[f.kind] = true
			if f.kind != replicaKill && f.kind != replicaStop && f.kind != replicaDrain {
				continue
			}
			others := 0
			for i, until := range busy {
				if i != f.target && until > f.at {
					others++
				}
			}
			if others >= replicas-1 {
				t.Errorf("seed %d: no replica is left at %s", seed, f)
			}
			busy[f.target] = f.at + f.lasts
		}
	}
	for k := range mixes["all"].weights {
		if !seen[k] {
			t.Errorf("there is never a fault of the kind %q", k)
		}
	}
}
