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
// control plane's memory. The floor is the provider's own stream, read without a control plane.
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
	for _, wire := range []string{"SSE", "gRPC"} {
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
		times, received, err := r.stream(ctx, p, wire)
		if err != nil {
			return err
		}
		peak, err := memory(p.Pid(), "VmHWM")
		if err != nil {
			return err
		}
		what := fmt.Sprintf("5,000 deltas over %s", wire)
		r.add(timed(Row{What: what, Rate: rate(deltasPerPrompt, quantile(times, 0.5)), Floor: floor, Goal: least(Rate, 100_000)}, times))
		r.add(Row{What: what + ", bytes a delta", P50: bytes(received / deltasPerPrompt), Floor: bytes(len(delta)), Goal: most(P50, 200)})
		r.add(Row{What: what + ", peak RSS", P50: bytes(peak), Floor: bytes(idle)})
	}
	return nil
}

// stream prompts again and again, and gives the times, and the bytes received by one prompt.
func (r *run) stream(ctx context.Context, p *plane, wire string) (times []time.Duration, received int64, err error) {
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
	if wire == "SSE" {
		count = client.counter
	}
	const agent, message = "talker", "talk"
	for n := range r.some(20, 3) {
		before, began := count.received.Load(), time.Now()
		if wire == "SSE" {
			err = client.stream(ctx, fmt.Sprint(agent, "/deltas-", n), message)
		} else {
			var f followed
			f, err = follow(ctx, conn, &pawlv1.SessionKey{Agent: agent, Instance: fmt.Sprint("deltas-", n)}, message)
			// The last deltas may come as part of the whole answer instead.
			if text := f.settled.GetResult().GetText(); err == nil && len(text) != deltasPerPrompt*len(delta) {
				err = fmt.Errorf("%d bytes of text, want %d", len(text), deltasPerPrompt*len(delta))
			}
		}
		if err != nil {
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
