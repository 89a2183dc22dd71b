package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
)

const (
	deltasPerPrompt = 5000
	delta           = "a piece of text of exactly forty bytes, "
)

// deltas measures one prompt whose answer comes in 5,000 pieces, over server-sent events and over gRPC: time, bytes on
// the wire, and the control plane's memory and processor time. The offline model's deltas cost next to nothing, so that
// the rest is the platform's; the others come from a model over HTTP. The floor is that model's stream, read without a
// control plane.
func deltas(ctx context.Context, r *run) error {
	pieces := strings.SplitAfter(strings.Repeat(delta, deltasPerPrompt), ", ")[:deltasPerPrompt]
	source, err := r.newFakeModel(ctx, modeltest.Turn{Text: pieces})
	if err != nil {
		return err
	}
	bare, err := load(ctx, 1, r.some(20, 3), 0, func(ctx context.Context, _ int) error { return source.bare(ctx) })
	if err != nil {
		return err
	}
	floor := rate(deltasPerPrompt, quantile(bare.times, 0.5))
	said := strings.Repeat("x", len(delta)-1) + " "
	for _, from := range []talker{
		{fakeAgent{"", "shell"}, "say: " + strings.TrimSpace(strings.Repeat(said, deltasPerPrompt))},
		{fakeAgents[0], "talk"},
		{fakeAgents[1], "talk"},
	} {
		for _, wire := range []string{"SSE", "gRPC"} {
			if err := r.talkOver(ctx, from, wire, source, floor); err != nil {
				return err
			}
		}
	}
	return nil
}

// talker is an agent that answers in deltas.
type talker struct {
	fakeAgent
	message string
}

func (r *run) talkOver(ctx context.Context, from talker, wire string, source fakeModel, floor Quantity) error {
	p, err := r.newControl(ctx, "--executor", "none")
	if err != nil {
		return err
	}
	if err := source.use(p); err != nil {
		return err
	}
	if err := p.start(ctx); err != nil {
		return err
	}
	idle, err := memory(p.Pid(), "VmRSS")
	if err != nil {
		return err
	}
	before, err := cpu(p.Pid())
	if err != nil {
		return err
	}
	times, received, err := r.stream(ctx, p, from, wire)
	if err != nil {
		return err
	}
	after, err := cpu(p.Pid())
	if err != nil {
		return err
	}
	peak, err := memory(p.Pid(), "VmHWM")
	if err != nil {
		return err
	}
	what := fmt.Sprintf("5,000 deltas, %s, %s", from.model(), wire)
	whole := Row{
		What: what, Rate: rate(deltasPerPrompt, quantile(times, 0.5)), Floor: floor,
		Goal: least(Rate, 120_000),
	}
	r.add(timed(whole, times))
	each := (after - before) / time.Duration(len(times)*deltasPerPrompt)
	r.add(Row{What: "… processor time of control, a delta", P50: took(each)})
	r.add(Row{What: "… bytes a delta", P50: bytes(received / deltasPerPrompt), Floor: bytes(len(delta))})
	r.add(Row{What: "… peak RSS", P50: bytes(peak), Floor: bytes(idle)})
	return nil
}

// stream prompts again and again, and gives the times, and the bytes received by one prompt.
func (r *run) stream(
	ctx context.Context, p *plane, from talker, wire string,
) (times []time.Duration, received int64, err error) {
	client, err := newWeb(p, 1)
	if err != nil {
		return nil, 0, err
	}
	defer client.close()
	count := &counter{}
	conn, err := p.dialCounted(count)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	prompt := func(instance string) error {
		f, err := follow(ctx, conn, &pawlv1.SessionKey{Agent: from.name, Instance: instance}, from.message)
		// The last deltas may come as part of the whole answer instead.
		if n := len(f.settled.GetResult().GetText()); err == nil && n < deltasPerPrompt*len(delta)-1 {
			err = fmt.Errorf("%d bytes of text, want %d", n, deltasPerPrompt*len(delta))
		}
		return err
	}
	if wire == "SSE" {
		count = client.counter
		prompt = func(instance string) error { return client.stream(ctx, from.name+"/"+instance, from.message) }
	}
	for n := range r.some(20, 3) {
		before, began := count.received.Load(), time.Now()
		if err := prompt(fmt.Sprint("deltas-", n)); err != nil {
			return nil, 0, err
		}
		times = append(times, time.Since(began))
		received = count.received.Load() - before
	}
	return times, received, nil
}
