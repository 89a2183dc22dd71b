package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// floorSyncs is how often a call has to be made durable: by the executor, before it runs and when its outcome is known.
// A control plane whose database is on disk does so as well: the request, and the result.
const floorSyncs = 2

// callsPerPrompt are made one after the other: each line of a message is a turn of its own.
const callsPerPrompt = 50

// toolCalls measures what a tool call costs, from one answer of the model to the next: the commit that asks for it, its
// way to the executor, the executor's journal, the process, its way back, and the commit of its result. Bare processes
// are measured in turns with the prompts, so that noise hits both.
func toolCalls(ctx context.Context, r *run) error {
	for _, where := range []string{"built-in", "separate"} {
		args := map[string][]string{"separate": {"--executor", "none"}}[where]
		p, err := r.plane(ctx, args...)
		if err != nil {
			return err
		}
		pids := []int{p.Pid()}
		if where == "separate" {
			e, err := r.executor(ctx, p)
			if err != nil {
				return err
			}
			pids = append(pids, e.Pid())
		}
		if err := r.calls(ctx, p, where, pids); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) calls(ctx context.Context, p *plane, where string, pids []int) error {
	program := strings.TrimSpace(strings.Repeat("true\n", callsPerPrompt))
	if _, err := follow(ctx, p.conn, &pawlv1.SessionKey{Agent: "shell", Instance: "warm"},
		"true\ntrue\ntrue"); err != nil {
		return err
	}
	sync, err := r.syncs()
	if err != nil {
		return err
	}
	var bare, synced, turns, trips []time.Duration
	before, err := cpu(pids...)
	if err != nil {
		return err
	}
	for n := range r.some(20, 2) {
		f, err := follow(ctx, p.conn, &pawlv1.SessionKey{Agent: "shell", Instance: fmt.Sprint("tools-", n)}, program)
		if err != nil {
			return err
		}
		if len(f.calls) != callsPerPrompt || len(f.entries) != callsPerPrompt+1 {
			return fmt.Errorf("%d calls and %d answers of the model, want %d", len(f.calls), len(f.entries),
				callsPerPrompt)
		}
		for i, at := range f.entries[1:] {
			turns = append(turns, at.Sub(f.entries[i]))
		}
		trips = append(trips, f.calls...)
		for range callsPerPrompt {
			took, err := bareCommand(ctx, "bash", "true")
			if err != nil {
				return err
			}
			bare = append(bare, took)
			if took, err = sync(floorSyncs); err != nil {
				return err
			}
			synced = append(synced, took)
		}
	}
	after, err := cpu(pids...)
	if err != nil {
		return err
	}
	durable := quantile(synced, 0.5)
	trip := quantile(bare, 0.5) + durable
	turn := trip
	if r.database != Memory {
		turn += durable
	}
	var sum time.Duration
	for _, t := range turns {
		sum += t
	}
	r.add(timed(Row{
		What: "bash true, " + where + " executor, whole turn", Rate: rate(len(turns), sum), Floor: took(turn),
		Goal: most(Over, 0.001),
	}, turns))
	r.add(timed(Row{What: "bash true, " + where + " executor, dispatch to outcome", Floor: took(trip)}, trips))
	r.add(Row{
		What: "… processor time of control and executor, each",
		P50:  took((after - before) / time.Duration(len(turns))),
	})
	return nil
}

// syncs gives what makes a page durable a number of times, and how long that took.
func (r *run) syncs() (func(times int) (time.Duration, error), error) {
	dir, err := r.newDir()
	if err != nil {
		return nil, err
	}
	f, err := os.Create(filepath.Join(dir, "synced"))
	if err != nil {
		return nil, err
	}
	r.atEnd(f.Close)
	page := make([]byte, 4096)
	return func(times int) (time.Duration, error) {
		began := time.Now()
		for range times {
			if _, err := f.Write(page); err != nil {
				return 0, err
			}
			if err := unix.Fdatasync(int(f.Fd())); err != nil {
				return 0, err
			}
		}
		return time.Since(began), nil
	}, nil
}

// bareCommand is what a command costs without any of this: fork, exec and wait.
func bareCommand(ctx context.Context, shell, line string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, shell, "-c", line)
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	began := time.Now()
	err := cmd.Run()
	return time.Since(began), err
}
