package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

const (
	// turnsPerPrompt and promptsPerSession are 1,000 turns, each of which makes outputPerTurn: 10 MB in all.
	turnsPerPrompt    = 100
	promptsPerSession = 10
	outputPerTurn     = 10 << 10
)

// deepAgent has a window of a few dozen turns, so that its conversation is summarised again and again.
const deepAgent = `---
model: offline/shell
compaction: {window: 48000, reserve: 12000, keep: 4000}
limits: {turns: 1000}
---
Run the message.
`

// stage is what a hundred turns of a long session have cost.
type stage struct {
	turns   []time.Duration
	written int64 // per turn
	memory  int64
}

// longSession measures one session of 1,000 turns with 10 MB of output of tools and three sub-agents, whose
// conversation is summarised on the way: the last hundred turns cost what the second hundred did.
func longSession(ctx context.Context, r *run) error {
	p, err := r.newControl(ctx)
	if err != nil {
		return err
	}
	agents := filepath.Join(p.Data, "agents")
	if err := errors.Join(os.MkdirAll(agents, 0o700),
		os.WriteFile(filepath.Join(agents, "deep.md"), []byte(deepAgent), 0o600), p.start(ctx)); err != nil {
		return err
	}
	written, err := r.writes(ctx, p)
	if err != nil {
		return err
	}
	var stages []stage
	for n := range r.some(promptsPerSession, 3) {
		s, err := r.stage(ctx, p, written, n == 1)
		if err != nil {
			return err
		}
		stages = append(stages, s)
	}
	// The first hundred turns make the database and the process ready: the second are the measure.
	first, last := stages[1], stages[len(stages)-1]
	what := fmt.Sprintf("session of %d turns of 10 KiB of output, summarised", len(stages)*turnsPerPrompt)
	r.add(timed(Row{
		What: what + ": time of a turn, last hundred beside second", Floor: took(quantile(first.turns, 0.5)),
		Goal: flat,
	}, last.turns))
	r.add(Row{What: "… written per turn, likewise", P50: bytes(last.written), Floor: bytes(first.written), Goal: flat})
	r.add(Row{What: "… RSS of control, likewise", P50: bytes(last.memory), Floor: bytes(first.memory), Goal: flat})
	return nil
}

// stage is one prompt of a hundred turns; three of them are sub-agents', if tasks are wanted.
func (r *run) stage(
	ctx context.Context, p *plane, written func(context.Context) (int64, error), tasks bool,
) (s stage, err error) {
	lines := make([]string, turnsPerPrompt)
	for i := range lines {
		lines[i] = fmt.Sprintf("head -c %d /dev/urandom | base64 -w0 | head -c %[1]d", outputPerTurn)
		if tasks && i%30 == 29 {
			lines[i] = "task: " + lines[i]
		}
	}
	before, err := written(ctx)
	if err != nil {
		return s, err
	}
	f, err := follow(ctx, p.conn, &pawlv1.SessionKey{Agent: "deep", Instance: "long"}, strings.Join(lines, "\n"))
	if err != nil {
		return s, err
	}
	after, err := written(ctx)
	if err != nil {
		return s, err
	}
	for i, at := range f.entries[1:] {
		s.turns = append(s.turns, at.Sub(f.entries[i]))
	}
	s.written = (after - before) / turnsPerPrompt
	s.memory, err = memory(p.Pid(), "VmRSS")
	return s, err
}
