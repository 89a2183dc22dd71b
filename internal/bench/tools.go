package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

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
	var bare, turns, trips []time.Duration
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
		}
	}
	after, err := cpu(pids...)
	if err != nil {
		return err
	}
	floor := took(quantile(bare, 0.5))
	goal := Goal{}
	if where == "separate" {
		goal = most(Over, 0.003)
	}
	var sum time.Duration
	for _, t := range turns {
		sum += t
	}
	r.add(timed(Row{
		What: "bash true, " + where + " executor, whole turn", Rate: rate(len(turns), sum), Floor: floor,
		Goal: goal,
	}, turns))
	r.add(timed(Row{What: "bash true, " + where + " executor, dispatch to outcome", Floor: floor}, trips))
	r.add(Row{
		What: "… processor time of control and executor, each",
		P50:  took((after - before) / time.Duration(len(turns))),
	})
	return nil
}

// bareCommand is what a command costs without any of this: fork, exec and wait.
func bareCommand(ctx context.Context, shell, line string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, shell, "-c", line)
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	began := time.Now()
	err := cmd.Run()
	return time.Since(began), err
}
