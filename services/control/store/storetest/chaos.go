package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/store"
)

// chaosCases run many replicas at once, of which some die and go on writing.
var chaosCases = []testCase{
	{"every submission settles once while owners die", func(t *testing.T, db DB) {
		const sessions, each, workers = 6, 6, 6
		var mu sync.Mutex
		var first error
		settled := map[string]int{}
		done := func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(settled) == sessions*each || first != nil
		}
		count := func(id string) { mu.Lock(); settled[id]++; mu.Unlock() }
		ids := make([]string, sessions)
		for i := range ids {
			ids[i] = queue(t, db.Store, fmt.Sprint(i)).SessionID
		}
		heir := live(t, db.Second)
		together(t, workers+2, func(n int) (err error) {
			defer func() {
				if err != nil {
					mu.Lock()
					first = err
					mu.Unlock()
				}
			}()
			s, rng := either(db, n), rand.New(rand.NewPCG(uint64(n), 1))
			switch {
			case n == workers: // admits
				for i := range sessions * (each - 1) {
					a := admission(fmt.Sprint(i % sessions))
					if _, err := s.Admit(ctx(t), a); err != nil {
						return err
					}
				}
				return nil
			case n == workers+1: // takes over from the dead
				for !done() {
					out, err := s.TakeOver(ctx(t), heir, nil, 2)
					if err != nil {
						return err
					}
					for _, l := range out.Leases {
						if err := finish(t, s, hold(s, l), false, count); err != nil {
							return err
						}
					}
					runtime.Gosched()
				}
				return nil
			}
			me := live(t, s)
			for !done() {
				out, err := s.Claim(ctx(t), me, lane.KindSession, 2)
				if err != nil {
					return err
				}
				for _, l := range out.Leases {
					h := hold(s, l)
					switch rng.IntN(4) {
					case 0: // dies, is taken over or not, and writes on
						if err := s.RemoveReplica(ctx(t), me); err != nil {
							return err
						}
						me = live(t, s)
						for range rng.IntN(20) {
							runtime.Gosched()
						}
					case 1:
						if err := s.Release(ctx(t), l.Fence, lane.Release{}); err != nil {
							if !errors.Is(err, lane.ErrFenced) {
								return err
							}
							continue
						}
					}
					if err := finish(t, s, h, rng.IntN(2) == 0, count); err != nil {
						return err
					}
				}
				runtime.Gosched()
			}
			return nil
		})
		for id, n := range settled {
			if n != 1 {
				t.Errorf("submission %s settled %d times", id, n)
			}
		}
		for _, id := range ids {
			c := consistent(t, db.Store, id)
			if c.Session.Pending != 0 || len(c.Submissions) != each {
				t.Errorf("%d of %d submissions are pending", c.Session.Pending, len(c.Submissions))
			}
			seq := map[string]int64{}
			for _, sub := range c.Submissions {
				seq[sub.ID] = sub.Seq
			}
			for i := 1; i < len(c.Entries); i++ {
				if seq[c.Entries[i].SubmissionID] < seq[c.Entries[i-1].SubmissionID] {
					t.Errorf("entry %d is of an earlier submission than entry %d", i+1, i)
				}
			}
			if _, found, err := db.Store.OwnerOf(ctx(t), id); err != nil || found {
				t.Errorf("a lane without work has an owner, %v", err)
			}
		}
	}},
}

// finish drives a lease to its end, and with continues those that follow, until it is fenced. It begins a sub-agent
// that it leaves open.
func finish(t *testing.T, s store.Store, h *holder, continues bool, settled func(id string)) error {
	for {
		for _, next := range []func() *draft{
			func() *draft { return merge(h.step(1), h.child(h.root())) }, func() *draft { return h.end(continues) },
		} {
			c := next().commit()
			out, err := s.Commit(ctx(t), c)
			if errors.Is(err, lane.ErrFenced) {
				return nil
			}
			if err != nil {
				return err
			}
			h.wrote(c)
			if c.Ending(h.id()) == nil {
				continue
			}
			settled(h.id())
			if out.Next == nil {
				return nil
			}
			h = hold(s, *out.Next)
		}
	}
}
