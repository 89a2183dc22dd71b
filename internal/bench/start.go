package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"time"
)

// starts measures how long it takes from the start of the process until it serves, and until the first prompt is
// answered: with an empty database, and with one that has its tables. The floor is the program that does nothing.
func starts(ctx context.Context, r *run) error {
	type measured struct{ serves, answers []time.Duration }
	var first, again measured
	var bare []time.Duration
	for range r.some(10, 2) {
		began := time.Now()
		if err := exec.CommandContext(ctx, filepath.Join(r.programs, "control"), "--version").Run(); err != nil {
			return err
		}
		bare = append(bare, time.Since(began))
		p, err := r.newControl(ctx)
		if err != nil {
			return err
		}
		for _, m := range []*measured{&first, &again} {
			serves, answers, err := r.startAndPrompt(ctx, p)
			if err != nil {
				return err
			}
			m.serves, m.answers = append(m.serves, serves), append(m.answers, answers)
			if err := terminate(p.Process); err != nil {
				return err
			}
		}
	}
	floor := took(quantile(bare, 0.5))
	r.add(timed(Row{What: "start to serving, empty database", Floor: floor, Goal: most(P50, 1)}, first.serves))
	r.add(timed(Row{What: "start to first answer, empty database", Floor: floor, Goal: most(P50, 0.15)}, first.answers))
	r.add(timed(Row{What: "start to serving, known database", Floor: floor}, again.serves))
	r.add(timed(Row{What: "start to first answer, known database", Floor: floor, Goal: most(P50, 0.15)}, again.answers))
	return nil
}

func (r *run) startAndPrompt(ctx context.Context, p *plane) (serves, answers time.Duration, err error) {
	began := time.Now()
	if err := p.start(ctx); err != nil {
		return 0, 0, err
	}
	serves = time.Since(began)
	client, err := newWeb(p, 1)
	if err != nil {
		return 0, 0, err
	}
	defer client.close()
	_, err = client.prompt(ctx, "shell/first", "say: hi")
	return serves, time.Since(began), err
}
