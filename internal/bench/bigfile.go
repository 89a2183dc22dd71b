package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/pawl-dev/pawl/internal/await"
)

// bigFileSize is 1 GiB.
const bigFileSize = 1 << 30

// bigFile measures the memory that a large file costs control, which passes it on from HTTP to a separate executor and
// back: the most anonymous memory that it has meanwhile, over what it has at rest. The pages of the program itself,
// which come back from its file when they are used, are nobody's cost.
func bigFile(ctx context.Context, r *run) error {
	p, err := r.plane(ctx, "--executor", "none")
	if err != nil {
		return err
	}
	e, err := r.executor(ctx, p)
	if err != nil {
		return err
	}
	token, err := p.Token()
	if err != nil {
		return err
	}
	size := int64(r.some(bigFileSize, bigFileSize/16))
	url := "http://" + p.HTTP + "/v1/executors/" + e.Name + "/files/big"
	send := func(method string, body io.Reader) error { return transfer(ctx, method, url, token, body, size) }
	if err := send(http.MethodPut, io.LimitReader(zeros{}, size)); err != nil { // what is warm costs no more later
		return err
	}
	for _, way := range []struct{ name, method string }{{"up", http.MethodPut}, {"down", http.MethodGet}} {
		if _, err := p.atRest(ctx); err != nil {
			return err
		}
		before, err := memory(p.Pid(), "RssAnon")
		if err != nil {
			return err
		}
		peak := p.watchMemory(ctx)
		began, body := time.Now(), io.Reader(nil)
		if way.method == http.MethodPut {
			body = io.LimitReader(zeros{}, size)
		}
		if err := send(way.method, body); err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
		took := time.Since(began)
		highest, err := peak()
		if err != nil {
			return err
		}
		r.add(Row{
			What: "memory of control for 1 GiB " + way.name + " over /v1", P50: bytes(max(0, highest-before)),
			Rate: rate(int(size>>20), took), Goal: most(P50, 16<<20),
		})
	}
	return nil
}

// watchMemory looks at the anonymous memory of a plane every 10 ms until the returned function is called, which gives
// the most that it saw.
func (p *plane) watchMemory(ctx context.Context) (peak func() (int64, error)) {
	ctx, stop := context.WithCancel(ctx)
	var most int64
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range await.Ticks(ctx, 10*time.Millisecond) {
			var now int64
			if now, failed = memory(p.Pid(), "RssAnon"); failed != nil {
				return
			}
			most = max(most, now)
		}
	}()
	return func() (int64, error) {
		stop()
		<-done
		return most, failed
	}
}

// zeros is content without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// transfer writes or reads a file of a size.
func transfer(ctx context.Context, method, url, token string, body io.Reader, size int64) error {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		req.ContentLength = size
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	n, err := io.Copy(io.Discard, res.Body)
	switch {
	case err != nil:
		return err
	case res.StatusCode >= http.StatusBadRequest:
		return fmt.Errorf("%s: %s", method, res.Status)
	case method == http.MethodGet && n != size:
		return fmt.Errorf("%d bytes came", n)
	}
	return nil
}
