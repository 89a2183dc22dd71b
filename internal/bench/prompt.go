package main

import (
	"context"
	"fmt"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/ident"
)

// reference is what the reference server does on this class of machine, in prompts a second, by clients and database.
var reference = map[int]map[string]float64{
	1:  {Memory: 133, SQLite: 98, Postgres: 40},
	64: {Memory: 205, SQLite: 106, Postgres: 93},
}

// wanted is how many times that the goal is.
var wanted = map[int]float64{1: 10, 64: 20}

// admission measures inputs that become durable, without waiting for what becomes of them.
func admission(ctx context.Context, r *run) error {
	p, err := r.plane(ctx, "--executor", "none")
	if err != nil {
		return err
	}
	service := pawlv1.NewSubmissionServiceClient(p.conn)
	for _, clients := range []int{1, 16} {
		floor, err := r.commitFloor(ctx, clients)
		if err != nil {
			return err
		}
		f, err := load(ctx, clients, 0, r.lasts(), func(ctx context.Context, _ int) error {
			_, err := service.Submit(ctx, &pawlv1.SubmitRequest{Key: &pawlv1.SessionKey{Agent: "shell", Instance: ident.New()}, Message: "say: hi"})
			return err
		})
		if err != nil {
			return err
		}
		r.add(f.row(Row{What: "admission, " + plural(clients, "client"), Floor: floor.p50()}))
	}
	return nil
}

// prompts measures `say: hi` in new sessions, over HTTP.
func prompts(ctx context.Context, r *run) error {
	p, err := r.plane(ctx, "--executor", "none")
	if err != nil {
		return err
	}
	for _, clients := range []int{1, 16, 64} {
		floor, err := r.commitFloor(ctx, clients)
		if err != nil {
			return err
		}
		f, err := r.prompting(ctx, p, clients, 0, func() string { return ident.New() })
		if err != nil {
			return err
		}
		row := Row{What: "say: hi, new sessions, " + plural(clients, "client"), Floor: floor.rate()}
		if clients == 1 {
			row.Floor = floor.p50()
		}
		if times, ok := wanted[clients]; ok {
			row.Goal = least(Rate, times*reference[clients][r.database])
		}
		r.add(f.row(row))
		r.add(Row{What: "… processor time of control, each", P50: took(f.cpu / time.Duration(len(f.times)))})
	}
	return nil
}

// fifo measures many clients of one session, whose prompts run one after the other: does it matter how long its history is?
func fifo(ctx context.Context, r *run) error {
	p, err := r.plane(ctx, "--executor", "none")
	if err != nil {
		return err
	}
	f, err := r.prompting(ctx, p, 16, r.some(4000, 200), func() string { return "one" })
	if err != nil {
		return err
	}
	r.add(f.row(Row{What: "say: hi, one session, 16 clients"}))
	first, last := quarters(f.times)
	r.add(timed(Row{
		What: fmt.Sprintf("… its last quarter of %d prompts, beside its first", len(f.times)), Floor: took(quantile(first, 0.5)), Goal: flat,
	}, last))
	return nil
}

// flat is the goal of what must not grow; the rest is noise.
var flat = most(Ratio, 1.25)

// quarters are the first and the last quarter.
func quarters[T any](values []T) (first, last []T) {
	n := len(values) / 4
	return append([]T(nil), values[:n]...), append([]T(nil), values[len(values)-n:]...)
}

// prompting has clients prompt, until it was done total times or, if that is 0, the time is over.
func (r *run) prompting(ctx context.Context, p *plane, clients, total int, instance func() string) (figure, error) {
	client, err := newWeb(p, clients)
	if err != nil {
		return figure{}, err
	}
	defer client.close()
	prompt := func(ctx context.Context, _ int) error {
		text, err := client.prompt(ctx, "shell/"+instance(), "say: hi")
		if err == nil && text != "hi" {
			err = fmt.Errorf("answered %q", text)
		}
		return err
	}
	if _, err := load(ctx, clients, 2*clients, 0, prompt); err != nil { // connections, statements
		return figure{}, err
	}
	lasts := r.lasts()
	if total > 0 {
		lasts = 0
	}
	before, err := cpu(p.Pid())
	if err != nil {
		return figure{}, err
	}
	f, err := load(ctx, clients, total, lasts, prompt)
	if err != nil {
		return f, err
	}
	after, err := cpu(p.Pid())
	f.cpu = after - before
	return f, err
}
