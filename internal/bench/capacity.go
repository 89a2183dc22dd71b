package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/ident"
)

const (
	// callsAtOnce is how many calls one turn asks for; an agent may ask for 128.
	callsAtOnce = 125
	// newcomersEvery takes 40 % of 64 slots with calls of a second.
	newcomersEvery = 39 * time.Millisecond
)

// capacity measures calls of a second, many more or as many as their executor has slots, and what others get beside
// them.
func capacity(ctx context.Context, r *run) error {
	if err := r.slots(ctx, 64, 500, most(P50, 9)); err != nil {
		return err
	}
	return r.slots(ctx, 1000, 1000, most(P50, 1.6))
}

// slots has calls of a second done in so many slots. If they have to wait, they do it once more beside newcomers.
func (r *run) slots(ctx context.Context, slots, calls int, goal Goal) error {
	p, err := r.plane(ctx, "--executor", "none")
	if err != nil {
		return err
	}
	if _, err := r.executor(ctx, p, "--slots", fmt.Sprint(slots)); err != nil {
		return err
	}
	if _, err := p.sleep(ctx, 1); err != nil { // connections, statements
		return err
	}
	idle, err := memory(p.Pid(), "VmRSS")
	if err != nil {
		return err
	}
	whole, err := p.crowd(ctx, calls)
	if err != nil {
		return err
	}
	rounds := (calls + slots - 1) / slots
	floor := time.Duration(rounds) * time.Second
	if rounds == 1 { // a second each, and what it takes to start so many
		if floor, err = bareCrowd(ctx, calls); err != nil {
			return err
		}
	}
	what := fmt.Sprintf("%d × sleep 1 in %d slots", calls, slots)
	r.add(Row{What: what, P50: took(whole), Floor: took(floor), Goal: goal})
	if rounds == 1 {
		rss, err := p.atRest(ctx)
		if err != nil {
			return err
		}
		r.add(Row{
			What: "… RSS of control after it, at rest", P50: bytes(rss), Floor: bytes(idle), Goal: most(Over, 20e6),
		})
		return nil
	}
	beside, times, err := p.besideNewcomers(ctx, calls)
	if err != nil {
		return err
	}
	taken := float64(time.Second/newcomersEvery) / float64(slots)
	left := float64(calls) / (float64(slots) * (1 - taken))
	r.add(Row{
		What: "… beside newcomers that take 40 % of the slots", P50: took(beside), Floor: Quantity{left, Seconds},
		Goal: most(Ratio, 1.1),
	})
	r.add(timed(Row{What: "… sleep 1 of the newcomers", Floor: took(time.Second), Goal: most(P99, 1.2)}, times))
	return nil
}

// sleep prompts a new session that asks for so many calls of a second at once, and tells how long it took.
func (p *plane) sleep(ctx context.Context, calls int) (time.Duration, error) {
	began := time.Now()
	f, err := follow(ctx, p.conn, &pawlv1.SessionKey{Agent: "shell", Instance: ident.New()},
		"sleep 1"+strings.Repeat("\n& sleep 1", calls-1))
	if err == nil && len(f.calls) != calls {
		err = fmt.Errorf("%d calls, want %d", len(f.calls), calls)
	}
	return time.Since(began), err
}

// crowd has so many calls made by as few sessions as that takes.
func (p *plane) crowd(ctx context.Context, calls int) (time.Duration, error) {
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for calls > 0 {
		n := min(calls, callsAtOnce)
		calls -= n
		g.Go(func() error { _, err := p.sleep(ctx, n); return err })
	}
	err := g.Wait()
	return time.Since(began), err
}

// bareCrowd is what so many commands of a second cost without any of this: fork, exec and wait, several at a time.
func bareCrowd(ctx context.Context, calls int) (time.Duration, error) {
	began := time.Now()
	starting := make(chan struct{}, 16)
	g, ctx := errgroup.WithContext(ctx)
	for range calls {
		starting <- struct{}{}
		g.Go(func() error {
			cmd := exec.CommandContext(ctx, "bash", "-c", "sleep 1")
			cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
			err := cmd.Start()
			<-starting
			if err != nil {
				return err
			}
			return cmd.Wait()
		})
	}
	err := g.Wait()
	return time.Since(began), err
}

// besideNewcomers is crowd while new sessions come all the time, each with one call.
func (p *plane) besideNewcomers(
	ctx context.Context, calls int,
) (whole time.Duration, times []time.Duration, err error) {
	g, ctx := errgroup.WithContext(ctx)
	ended := make(chan struct{})
	g.Go(func() (err error) {
		defer close(ended)
		whole, err = p.crowd(ctx, calls)
		return err
	})
	var mu sync.Mutex // guards times
	every := time.NewTicker(newcomersEvery)
	defer every.Stop()
	for {
		select {
		case <-ended:
			err := g.Wait()
			return whole, slices.Clone(times), err
		case <-every.C:
			g.Go(func() error {
				took, err := p.sleep(ctx, 1)
				mu.Lock()
				defer mu.Unlock()
				times = append(times, took)
				return err
			})
		}
	}
}
