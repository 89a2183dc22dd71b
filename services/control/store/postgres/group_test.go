package postgres

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func once(ctx context.Context, f func(context.Context, bool) error) error { return f(ctx, false) }

// TestGroupKeepsTheOrderOfASession and never has two operations of one in flight.
func TestGroupKeepsTheOrderOfASession(t *testing.T) {
	var mu sync.Mutex
	last, flying, flushes := map[string]int{}, map[string]bool{}, 0
	all := make(chan struct{})
	g := newGroup(func(_ context.Context, ops []*op[int, int]) error {
		<-all
		mu.Lock()
		flushes++
		for _, o := range ops {
			if flying[o.session] {
				t.Errorf("session %s is in two batches", o.session)
			}
			flying[o.session] = true
		}
		mu.Unlock()
		mu.Lock()
		defer mu.Unlock()
		for _, o := range ops {
			if o.in <= last[o.session] {
				t.Errorf("session %s: %d after %d", o.session, o.in, last[o.session])
			}
			last[o.session], flying[o.session], o.out = o.in, false, -o.in
		}
		return nil
	})
	var running, callers sync.WaitGroup
	running.Go(func() { g.run(t.Context(), once) })
	for s := range 40 {
		callers.Go(func() {
			for n := 1; n <= 50; n++ {
				if out, err := g.do(t.Context(), origin{session: fmt.Sprint(s)}, n); out != -n || err != nil {
					t.Errorf("%d: %d, %v", n, out, err)
				}
			}
		})
	}
	for queued := 0; queued < 40; runtime.Gosched() {
		g.mu.Lock()
		queued = len(g.busy)
		for _, l := range g.lines {
			queued += len(l.ops)
		}
		g.mu.Unlock()
	}
	close(all)
	callers.Wait()
	g.close()
	running.Wait()
	if flushes >= 40*50 {
		t.Errorf("%d flushes: nothing was grouped", flushes)
	}
}

// TestGroupBeginsASecondFlushWhenTheFirstIsLate, and not before: what comes meanwhile is one batch.
func TestGroupBeginsASecondFlushWhenTheFirstIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, stuck := time.Now(), make(chan struct{})
		var batches []int // their sizes
		g := newGroup(func(_ context.Context, ops []*op[int, int]) error {
			batches = append(batches, len(ops))
			if len(batches) == 1 {
				<-stuck
			}
			return nil
		})
		var all sync.WaitGroup
		all.Go(func() { g.run(t.Context(), once) })
		do := func(session string) {
			if _, err := g.do(t.Context(), origin{session: session}, 1); err != nil {
				t.Error(err)
			}
		}
		all.Go(func() { do("first") })
		synctest.Wait()
		var others sync.WaitGroup
		for n := range 3 {
			others.Go(func() { do(fmt.Sprint(n)) })
		}
		others.Wait()
		if waited := time.Since(began); waited != lateAfter || !slices.Equal(batches, []int{1, 3}) {
			t.Errorf("waited %v for the second of the batches %v", waited, batches)
		}
		do("another") // the second flush is over, the first is still late
		close(stuck)
		synctest.Wait()
		g.close()
		all.Wait()
		if g.flying != 0 || g.late != 0 || len(g.busy) != 0 {
			t.Errorf("left over: %d flushes, %d late, %d sessions", g.flying, g.late, len(g.busy))
		}
	})
}

// TestGroupFindsWhatSpoilsABatch and carries out the rest.
func TestGroupFindsWhatSpoilsABatch(t *testing.T) {
	poison := errors.New("poison")
	g := newGroup(func(_ context.Context, ops []*op[int, int]) error {
		for _, o := range ops {
			if o.in == 13 || o.in == 77 {
				return poison
			}
		}
		return nil
	})
	var batch []*op[int, int]
	for n := range maxFlush {
		batch = append(batch, &op[int, int]{in: n, done: make(chan struct{})})
	}
	g.settle(t.Context(), batch, once)
	for n, o := range batch {
		<-o.done
		if want := n == 13 || n == 77; errors.Is(o.err, poison) != want {
			t.Errorf("operation %d: %v", n, o.err)
		}
	}
}

// TestGroupForgetsWhoIsGone does not carry out what nobody waits for, unless it is under way.
func TestGroupForgetsWhoIsGone(t *testing.T) {
	g := newGroup(func(context.Context, []*op[int, int]) error { return nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		if _, err := g.do(ctx, origin{session: "a"}, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v", err)
		}
	}
	if batch := g.take(); len(batch) != 0 {
		t.Errorf("took %d operations", len(batch))
	}
	g.close()
	if _, err := g.do(t.Context(), origin{session: "a"}, 1); !errors.Is(err, errClosed) {
		t.Errorf("error = %v", err)
	}
}

// TestGroupLetsTenantsTakeTurns: what one of them has waiting, and has waiting at its door, holds nobody else up; a
// batch is full all the same, and each session keeps its order.
func TestGroupLetsTenantsTakeTurns(t *testing.T) {
	g := newGroup(func(context.Context, []*op[int, int]) error { return nil })
	for n := range 1000 {
		g.add(&op[int, int]{in: n, origin: origin{"busy", fmt.Sprint(n % 700)}})
	}
	g.add(&op[int, int]{origin: origin{"b", "b"}})
	first := g.take()
	if at := slices.IndexFunc(first, func(o *op[int, int]) bool { return o.tenant == "b" }); at != 1 {
		t.Errorf("another tenant's operation is at %d of the batch", at)
	}
	if len(first) != maxFlush {
		t.Errorf("a batch of %d", len(first))
	}
	for tenants, want := range map[int]int{2: maxFlush / 2, 3: maxFlush / 3} {
		for len(g.lines) < tenants {
			name := fmt.Sprint(len(g.lines))
			for n := range 300 {
				g.add(&op[int, int]{origin: origin{name, name + fmt.Sprint(n)}})
			}
		}
		clear(g.busy)
		got := map[string]int{}
		for _, o := range g.take() {
			got[o.tenant]++
		}
		for tenant, n := range got {
			if n < want || n > want+1 {
				t.Errorf("%d of %d tenants: %s has %d in a batch", tenants, len(got), tenant, n)
			}
		}
		clear(g.busy)
		for _, l := range g.lines {
			if l.tenant != "busy" {
				l.ops = l.ops[:0]
			}
		}
		g.lines = slices.DeleteFunc(g.lines, func(l *line[int, int]) bool { return len(l.ops) == 0 })
	}
	last := map[string]int{}
	for len(g.lines) > 0 {
		clear(g.busy)
		for _, o := range g.take() {
			if before, has := last[o.session]; has && o.in < before {
				t.Errorf("session %s: %d after %d", o.session, o.in, before)
			}
			last[o.session] = o.in
		}
	}
}

// TestFullDoorIsItsTenantsOwn: callers of a tenant that has all that may wait are not in the way of others.
func TestFullDoorIsItsTenantsOwn(t *testing.T) {
	g := newGroup(func(context.Context, []*op[int, int]) error { return nil })
	busy := g.door("busy")
	for range maxQueue {
		busy.slots <- struct{}{}
	}
	var running sync.WaitGroup
	running.Go(func() { g.run(t.Context(), once) })
	if _, err := g.do(t.Context(), origin{"b", "b"}, 1); err != nil {
		t.Error(err)
	}
	g.leave("busy", busy)
	if len(g.doors) != 0 {
		t.Errorf("%d doors are left", len(g.doors))
	}
	g.close()
	running.Wait()
}
