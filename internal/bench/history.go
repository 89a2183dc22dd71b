package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// shortHistory measures what 100 turns of 11 kB write, 1.1 MB in all.
func shortHistory(ctx context.Context, r *run) error {
	goals := map[string]Goal{SQLite: most(P50, 60e3), Postgres: most(P50, 13e3)}
	return r.history(ctx, r.some(100, 20), 11_000, goals[r.database])
}

// longHistory measures 1,000 turns of 1.1 kB.
func longHistory(ctx context.Context, r *run) error {
	return r.history(ctx, r.some(1000, 100), 1100, Goal{})
}

// history measures what the turns of one session write to disk, and how long they take: neither may grow with what was
// said before.
func (r *run) history(ctx context.Context, turns, size int, goal Goal) error {
	p, err := r.plane(ctx, "--executor", "none")
	if err != nil {
		return err
	}
	written, err := r.writes(ctx, p)
	if err != nil {
		return err
	}
	client, err := newWeb(p, 1)
	if err != nil {
		return err
	}
	defer client.close()
	// Half of a turn is the prompt, the other half the same text as the answer, which comes in words.
	message := "say: " + words(size/2)
	if _, err := client.prompt(ctx, "shell/warm", message); err != nil {
		return err
	}
	var times []time.Duration
	var volumes []int64
	for range turns {
		before, err := written(ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		if _, err := client.prompt(ctx, "shell/one", message); err != nil {
			return err
		}
		times = append(times, time.Since(began))
		after, err := written(ctx)
		if err != nil {
			return err
		}
		volumes = append(volumes, after-before)
	}
	what := fmt.Sprintf("session of %d turns of %d B", turns, size)
	var sum int64
	for _, v := range volumes {
		sum += v
	}
	r.add(Row{What: what + ", written per turn (mean)", P50: bytes(sum / int64(turns)), Floor: bytes(size), Goal: goal})
	firstBytes, lastBytes := quarters(volumes)
	r.add(Row{
		What: "… in its last quarter, beside its first", P50: bytes(quantile(lastBytes,
			0.5)), P99: bytes(quantile(lastBytes, 0.99)),
		Floor: bytes(quantile(firstBytes, 0.5)), Goal: flat,
	})
	first, last := quarters(times)
	r.add(timed(Row{What: "… time of a turn, likewise", Floor: took(quantile(first, 0.5)), Goal: flat}, last))
	return nil
}

// writes is a counter of the bytes that the run's database has written: Postgres' log, or what the process gave to its
// disk.
func (r *run) writes(ctx context.Context, p *plane) (func(context.Context) (int64, error), error) {
	if r.database != Postgres {
		return func(context.Context) (int64, error) { return written(p.Pid()) }, nil
	}
	conn, err := r.sql(ctx, p.Database)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (n int64, err error) {
		return n, conn.QueryRow(ctx, "SELECT "+walBytes).Scan(&n)
	}, nil
}

// words are as many bytes of words of seven letters. Nothing repeats, so that a database cannot make less of them.
func words(size int) string {
	chance := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same every time
	text := make([]byte, size)
	for i := range text {
		text[i] = byte('a' + chance.IntN(26))
		if i%8 == 7 {
			text[i] = ' '
		}
	}
	return string(text)
}

// walBytes is how much Postgres has written to its log.
const walBytes = "pg_current_wal_insert_lsn() - '0/0'::pg_lsn"

// sql connects to a Postgres database until the run ends.
func (r *run) sql(ctx context.Context, address string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, address)
	if err == nil {
		r.atEnd(func() error { return conn.Close(context.Background()) })
	}
	return conn, err
}

// written is what a process has given to the disk.
func written(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if errors.Is(err, os.ErrPermission) {
		return 0, fmt.Errorf("what control writes is shown to root only, because control is not dumpable: %w", err)
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(field(string(text), "write_bytes", "none"), 10, 64)
}
