package main

import (
	"context"
	"fmt"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/plural"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
)

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
		f, err := p.load(ctx, clients, 0, r.lasts(), func(ctx context.Context, _ int) error {
			key := &pawlv1.SessionKey{Agent: "shell", Instance: ident.New()}
			_, err := service.Submit(ctx, &pawlv1.SubmitRequest{Key: key, Message: "say: hi"})
			return err
		})
		if err != nil {
			return err
		}
		r.addWithCPU(f, Row{What: "admission, " + plural.Of(clients, "client"), Floor: floor.p50()}, Goal{})
	}
	return nil
}

// prompts measures prompts in new sessions over HTTP, with no model (the offline one) and with the same short answer of
// a model over HTTP, in each API's shape.
func prompts(ctx context.Context, r *run) error {
	p, err := r.planeWithModel(ctx, modeltest.Turn{Text: []string{"hi"}})
	if err != nil {
		return err
	}
	for _, from := range append([]fakeAgent{{"", "shell"}}, fakeAgents...) {
		for _, clients := range []int{1, 16, 64} {
			floor, err := r.commitFloor(ctx, clients)
			if err != nil {
				return err
			}
			f, err := r.prompting(ctx, p, clients, 0, func() string { return from.name + "/" + ident.New() })
			if err != nil {
				return err
			}
			row := Row{
				What:  "prompt, " + from.model() + ", new sessions, " + plural.Of(clients, "client"),
				Floor: floor.rate(),
			}
			if clients == 1 {
				row.Floor = floor.p50()
			}
			goal := Goal{}
			if clients == 64 && from.api != "" {
				goal = most(P50, 0.45e-3)
			}
			r.addWithCPU(f, row, goal)
		}
	}
	return nil
}

// long measures a session of 1,500 prompts, one after the other: its last fifty beside its first. Each request to the
// model carries the whole conversation, which only a model over HTTP shows.
func long(ctx context.Context, r *run) error {
	p, err := r.planeWithModel(ctx, modeltest.Turn{Text: []string{"hi"}})
	if err != nil {
		return err
	}
	total := r.some(1500, 150)
	for _, from := range fakeAgents {
		f, err := r.prompting(ctx, p, 1, total, func() string { return from.name + "/one" })
		if err != nil {
			return err
		}
		r.addWithCPU(f, Row{What: fmt.Sprintf("prompt, %s, a session of %d, 1 client", from.model(), total)}, Goal{})
		first, last := f.times[:50], f.times[len(f.times)-50:]
		r.add(timed(Row{
			What: "… its last 50 prompts, beside its first 50", Floor: took(quantile(first, 0.5)), Goal: most(Ratio, 2),
		}, last))
	}
	return nil
}

// fifo measures many clients of one session, whose prompts run one after the other: does it matter how long its history
// is?
func fifo(ctx context.Context, r *run) error {
	p, err := r.plane(ctx, "--executor", "none")
	if err != nil {
		return err
	}
	f, err := r.prompting(ctx, p, 16, r.some(4000, 200), func() string { return "shell/one" })
	if err != nil {
		return err
	}
	r.addWithCPU(f, Row{What: "prompt, no model, one session, 16 clients"}, Goal{})
	first, last := quarters(f.times)
	r.add(timed(Row{
		What:  fmt.Sprintf("… its last quarter of %d prompts, beside its first", len(f.times)),
		Floor: took(quantile(first, 0.5)), Goal: flat,
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

// planeWithModel starts a control plane whose agents of fakeAgents get this answer.
func (r *run) planeWithModel(ctx context.Context, turn modeltest.Turn) (*plane, error) {
	m, err := r.newFakeModel(ctx, turn)
	if err != nil {
		return nil, err
	}
	p, err := r.newControl(ctx, "--executor", "none")
	if err != nil {
		return nil, err
	}
	if err := m.use(p); err != nil {
		return nil, err
	}
	return p, p.start(ctx)
}

// prompting has clients prompt until it was done total times or, if that is 0, the time is over. path gives
// AGENT/INSTANCE. Each answer must be "hi".
func (r *run) prompting(ctx context.Context, p *plane, clients, total int, path func() string) (figure, error) {
	client, err := newWeb(p, clients)
	if err != nil {
		return figure{}, err
	}
	defer client.close()
	prompt := func(ctx context.Context, _ int) error {
		text, err := client.prompt(ctx, path(), "say: hi")
		if err == nil && text != "hi" {
			err = fmt.Errorf("answered %q", text)
		}
		return err
	}
	lasts := r.lasts()
	if total > 0 {
		lasts = 0
	} else if _, err := load(ctx, clients, 2*clients, 0, prompt); err != nil { // connections, statements
		return figure{}, err
	}
	return p.load(ctx, clients, total, lasts, prompt)
}

// load is load with the processor time that control used meanwhile.
func (p *plane) load(
	ctx context.Context, clients, total int, lasts time.Duration, do func(ctx context.Context, n int) error,
) (figure, error) {
	before, err := cpu(p.Pid())
	if err != nil {
		return figure{}, err
	}
	f, err := load(ctx, clients, total, lasts, do)
	if err != nil {
		return f, err
	}
	after, err := cpu(p.Pid())
	f.cpu = after - before
	return f, err
}

// addWithCPU adds a row with this figure, and one with control's processor time for each unit of its work.
func (r *run) addWithCPU(f figure, row Row, goal Goal) {
	r.add(f.row(row))
	r.add(Row{What: "… processor time of control, each", P50: took(f.cpu / time.Duration(len(f.times))), Goal: goal})
}
