// Command chaos runs the real programs, three replicas and three executors on one Postgres, under prompts and a seeded
// schedule of faults, then heals everything and checks what is left against the invariants of the design.
//
//	seed ──▶ prompts and faults ──▶ programs, proxies, clients, readers ──heal──▶ evidence ──check──▶ report, exit 1 on a violation
//
// CHAOS_SECONDS is how long faults come, CHAOS_SEED what they follow from. The schedule is the same for the same seed;
// what it meets is a matter of the machine's timing, so a violation may take a few runs of its seed to come again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/pawl-dev/pawl/internal/proctest"
)

// options of a run.
type options struct {
	seed    uint64
	length  time.Duration
	mix     string
	race    bool // the programs are built with the race detector, as the tests are
	verbose bool
	out     io.Writer
	// patience is how long nothing may settle after the last fault.
	patience time.Duration
}

func main() {
	o := options{out: os.Stdout, patience: settleWithin}
	var seed, seconds string
	mutate := flag.Bool("mutants", false, "run deliberately broken builds instead, each of which must be found out")
	only := flag.String("only", "", "with -mutants: run those whose name holds this")
	flag.StringVar(&seed, "seed", os.Getenv("CHAOS_SEED"), "what prompts and faults follow from (CHAOS_SEED); by "+
		"default another one each time")
	flag.StringVar(&seconds, "seconds", os.Getenv("CHAOS_SECONDS"), "how long faults come (CHAOS_SECONDS)")
	flag.StringVar(&o.mix, "mix", "all", "which faults: all, or one that aims")
	flag.BoolVar(&o.race, "race", os.Getenv("CHAOS_RACE") != "", "build the programs with the race detector "+
		"(CHAOS_RACE)")
	flag.BoolVar(&o.verbose, "v", false, "tell each fault")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := o.parse(seed, seconds); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(2)
	}
	run := o.chaos
	if *mutate {
		run = func(ctx context.Context) (bool, error) { return runMutants(ctx, o, *only) }
	}
	good, err := run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(2)
	}
	if !good {
		os.Exit(1)
	}
}

func (o *options) parse(seed, seconds string) (err error) {
	o.seed, o.length = uint64(rand.Uint32()), 100*time.Second
	if seed != "" {
		if o.seed, err = strconv.ParseUint(seed, 10, 64); err != nil {
			return fmt.Errorf("the seed is a number, not %q", seed)
		}
	}
	if seconds != "" {
		n, err := strconv.Atoi(seconds)
		if err != nil || n < 1 {
			return fmt.Errorf("the seconds are a number of at least 1, not %q", seconds)
		}
		o.length = time.Duration(n) * time.Second
	}
	if _, known := mixes[o.mix]; !known {
		return fmt.Errorf("there is no mix %q", o.mix)
	}
	return nil
}

// chaos builds the programs and does one run with them.
func (o *options) chaos(ctx context.Context) (good bool, err error) {
	// Not in /tmp, which may be memory; and short, for sockets live below it.
	dir, err := os.MkdirTemp("/var/tmp", "chaos-")
	if err != nil {
		return false, err
	}
	programs := filepath.Join(dir, "bin")
	if err := proctest.Programs(ctx, programs, proctest.Build{Race: o.race}, "control", "executor"); err != nil {
		return false, errors.Join(err, os.RemoveAll(dir))
	}
	r, err := o.run(ctx, filepath.Join(dir, "run"), programs)
	if err != nil {
		return false, fmt.Errorf("%w (what is left is in %s)", err, dir)
	}
	r.print(o.out)
	if len(r.violations) > 0 {
		_, _ = fmt.Fprintf(o.out, "What is left is in %s. Again: CHAOS_SEED=%d CHAOS_SECONDS=%d go run "+
			"./internal/chaos -v -mix %s\n",
			dir, o.seed, int(o.length.Seconds()), o.mix)
		return false, os.RemoveAll(programs)
	}
	return true, os.RemoveAll(dir)
}

func (o *options) say(began time.Time) func(string, ...any) {
	return func(format string, args ...any) {
		if o.verbose {
			_, _ = fmt.Fprintf(o.out, "%7.3f  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
		}
	}
}

func cores() int { return runtime.NumCPU() }
