// Command bench measures the platform as its programs run it, each figure beside a floor that is measured in the same run, so that
// ratios can be quoted. It measures what there is: prompts without tools, on SQLite and Postgres.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/services/control"
	"github.com/pawl-dev/pawl/services/control/agent"
)

const perRun = 3 * time.Second

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "pawl-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // best effort
	if err := floor(dir); err != nil {
		return err
	}
	cluster, err := pgtest.Start(ctx, pgtest.Options{})
	if err != nil {
		return err
	}
	defer cluster.Stop()
	for name, database := range map[string]string{"memory": "memory", "sqlite": "sqlite:" + filepath.Join(dir, "bench.db"), "postgres": cluster.URL} {
		if err := measure(ctx, name, database, filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// floor is what one durable write costs here.
func floor(dir string) error {
	f, err := os.Create(filepath.Join(dir, "floor"))
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // removed with its directory
	var times []time.Duration
	for range 500 {
		began := time.Now()
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		times = append(times, time.Since(began))
	}
	p50, p99 := quantiles(times)
	fmt.Printf("%-10s %-28s p50 %8s  p99 %8s\n", "floor", "4 KiB append and fsync", p50, p99)
	return nil
}

func quantiles(times []time.Duration) (p50, p99 time.Duration) {
	slices.Sort(times)
	return times[len(times)/2].Round(time.Microsecond), times[len(times)*99/100].Round(time.Microsecond)
}

// measure starts a control plane on a database and prompts it.
func measure(ctx context.Context, name, database, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	db, err := control.OpenStore(ctx, database, log)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // measured already
	catalogue, err := agent.Load("", os.LookupEnv, agent.Shell())
	if err != nil {
		return err
	}
	models, err := control.NewModels(os.Getenv)
	if err != nil {
		return err
	}
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	rpcs, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- control.Run(ctx, control.Config{
			Store: db, HTTP: web, GRPC: rpcs, Agents: catalogue, Models: models, Lookup: os.LookupEnv, TokenFile: filepath.Join(dir, "token"),
			Ready: func() { close(ready) }, Log: log,
		})
	}()
	select {
	case <-ready:
	case err := <-done:
		stop()
		return err
	}
	token, err := os.ReadFile(filepath.Join(dir, "token"))
	if err == nil {
		for _, clients := range []int{1, 16, 64} {
			if err = prompts(name, "http://"+web.Addr().String(), strings.TrimSpace(string(token)), clients); err != nil {
				break
			}
		}
	}
	stop()
	if e := <-done; err == nil {
		err = e
	}
	return err
}

// prompts has clients prompt new sessions for a while.
func prompts(name, url, token string, clients int) error {
	web := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer web.CloseIdleConnections()
	var mu sync.Mutex
	var times []time.Duration
	var failed error
	var group sync.WaitGroup
	began := time.Now()
	for c := range clients {
		group.Go(func() {
			for n := 0; time.Since(began) < perRun; n++ {
				at := time.Now()
				err := prompt(web, fmt.Sprintf("%s/agents/shell/b%d-%d-%d", url, clients, c, n), token)
				mu.Lock()
				times = append(times, time.Since(at))
				if err != nil {
					failed = err
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	group.Wait()
	if failed != nil {
		return failed
	}
	p50, p99 := quantiles(times)
	fmt.Printf("%-10s %-28s p50 %8s  p99 %8s  %6.0f prompts/s\n", name, fmt.Sprintf("prompt `say: hi`, %d clients", clients), p50, p99,
		float64(len(times))/time.Since(began).Seconds())
	return nil
}

func prompt(web *http.Client, url, token string) error {
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(`{"message":"say: hi"}`))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := web.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if err := res.Body.Close(); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || !strings.Contains(string(body), `"text":"hi"`) {
		return fmt.Errorf("%s: %s", res.Status, body)
	}
	return nil
}
