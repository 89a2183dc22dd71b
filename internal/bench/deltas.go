package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
)

const (
	deltasPerPrompt = 5000
	delta           = "a piece of text of exactly forty bytes, "
)

// deltas measures one prompt whose answer comes in 5,000 pieces, over server-sent events and over gRPC: time, bytes on the wire, and the
// control plane's memory. Once the offline model says them, which costs next to nothing, so that the rest is the platform's; and once
// they come from a provider, through the library that speaks its protocol. The floor is the provider's own stream, read without a
// control plane.
func deltas(ctx context.Context, r *run) error {
	source, err := r.provider(ctx)
	if err != nil {
		return err
	}
	var bare []time.Duration
	for range r.some(20, 3) {
		took, err := readAll(ctx, source)
		if err != nil {
			return err
		}
		bare = append(bare, took)
	}
	floor := rate(deltasPerPrompt, quantile(bare, 0.5))
	said := strings.Repeat("x", len(delta)-1) + " "
	for _, from := range []talker{
		{"offline model", "shell", "say: " + strings.TrimSpace(strings.Repeat(said, deltasPerPrompt)), least(Rate, 100_000), Goal{}},
		{"provider", "talker", "talk", Goal{}, most(P50, 200)},
	} {
		for _, wire := range []string{"SSE", "gRPC"} {
			if err := r.talk(ctx, from, wire, source, floor); err != nil {
				return err
			}
		}
	}
	return nil
}

// talker is an agent that answers in deltas, and what is expected of its answers.
type talker struct {
	model, agent, message string
	rate, size            Goal
}

func (r *run) talk(ctx context.Context, from talker, wire, source string, floor Quantity) error {
	p, err := r.newControl(ctx, "--executor", "none")
	if err != nil {
		return err
	}
	if err := p.useProvider(source); err != nil {
		return err
	}
	if err := p.start(ctx); err != nil {
		return err
	}
	idle, err := memory(p.Pid(), "VmRSS")
	if err != nil {
		return err
	}
	times, received, err := r.stream(ctx, p, from, wire)
	if err != nil {
		return err
	}
	peak, err := memory(p.Pid(), "VmHWM")
	if err != nil {
		return err
	}
	what := fmt.Sprintf("5,000 deltas, %s, %s", from.model, wire)
	r.add(timed(Row{What: what, Rate: rate(deltasPerPrompt, quantile(times, 0.5)), Floor: floor, Goal: from.rate}, times))
	r.add(Row{What: what + ", bytes a delta", P50: bytes(received / deltasPerPrompt), Floor: bytes(len(delta)), Goal: from.size})
	r.add(Row{What: what + ", peak RSS", P50: bytes(peak), Floor: bytes(idle)})
	return nil
}

// stream prompts again and again, and gives the times, and the bytes received by one prompt.
func (r *run) stream(ctx context.Context, p *plane, from talker, wire string) (times []time.Duration, received int64, err error) {
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
		f, err := follow(ctx, conn, &pawlv1.SessionKey{Agent: from.agent, Instance: instance}, from.message)
		// The last deltas may come as part of the whole answer instead.
		if n := len(f.settled.GetResult().GetText()); err == nil && n < deltasPerPrompt*len(delta)-1 {
			err = fmt.Errorf("%d bytes of text, want %d", n, deltasPerPrompt*len(delta))
		}
		return err
	}
	if wire == "SSE" {
		count = client.counter
		prompt = func(instance string) error { return client.stream(ctx, from.agent+"/"+instance, from.message) }
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

// provider serves a model's answer in deltas as Anthropic streams it, and gives its base URL.
func (r *run) provider(ctx context.Context) (string, error) {
	turn := modeltest.Turn{Text: strings.SplitAfter(strings.Repeat(delta, deltasPerPrompt), ", ")[:deltasPerPrompt]}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	srv := &http.Server{Handler: modeltest.Anthropic.Stream(turn), ReadHeaderTimeout: patience}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	r.atEnd(func() error {
		err := srv.Close()
		if e := <-served; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		return err
	})
	return "http://" + l.Addr().String(), nil
}

// useProvider makes an agent, talker, whose model is at url.
func (p *plane) useProvider(url string) error {
	providers := "bench: {api: anthropic, base_url: " + url + "}\n"
	const agent = "---\nmodel: bench/answers\nsandbox: none\n---\nTalk.\n"
	agents, file := filepath.Join(p.Data, "agents"), filepath.Join(p.dir, "providers.yaml")
	p.Args = append(p.Args, "--providers", file)
	return errors.Join(os.MkdirAll(agents, 0o700), os.WriteFile(file, []byte(providers), 0o600),
		os.WriteFile(filepath.Join(agents, "talker.md"), []byte(agent), 0o600))
}

// readAll reads an answer without looking at it.
func readAll(ctx context.Context, url string) (time.Duration, error) {
	began := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+modeltest.Anthropic.Path, nil)
	if err != nil {
		return 0, err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return time.Since(began), errors.Join(err, res.Body.Close())
}
