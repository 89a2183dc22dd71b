package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/internal/proctest"
)

// patience bounds every single wait.
const patience = 2 * time.Minute

// bench is what all measurements share.
type bench struct {
	quick    bool
	dir      string
	programs string            // the directory of the programs
	cluster  *pgtest.Cluster   // nil until a measurement needs it
	commits  map[string]figure // by database and clients
}

func newBench(ctx context.Context, quick bool) (*bench, error) {
	if err := adoptOrphans(); err != nil {
		return nil, err
	}
	dir, err := directory()
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(os.Stderr, "bench: building the programs")
	if err := proctest.Programs(ctx, dir, proctest.Build{Static: true}, "control", "executor"); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &bench{quick: quick, dir: dir, programs: dir, commits: map[string]figure{}}, nil
}

// directory is not in /tmp, which may be memory, and then fsync means nothing.
func directory() (string, error) {
	base := "/var/tmp"
	if _, err := os.Stat(base); err != nil {
		base = os.TempDir()
	}
	return os.MkdirTemp(base, "pawl-bench-")
}

// close ends all that is left. Keepers live on for a while after their executors, as they should; not here.
func (b *bench) close() error {
	var err error
	if b.cluster != nil {
		err = b.cluster.Stop()
	}
	return errors.Join(err, endOrphans(), os.RemoveAll(b.dir))
}

// postgres is the URL of the maintenance database of a temporary cluster that keeps its promises.
func (b *bench) postgres(ctx context.Context) (string, error) {
	if b.cluster == nil {
		fmt.Fprintln(os.Stderr, "bench: starting Postgres")
		c, err := pgtest.Start(ctx, pgtest.Options{})
		if err != nil {
			return "", err
		}
		b.cluster = c
	}
	return b.cluster.URL, nil
}

// newDatabase makes a Postgres database that is dropped when the run ends.
func (r *run) newDatabase(ctx context.Context) (string, error) {
	server, err := r.postgres(ctx)
	if err != nil {
		return "", err
	}
	name := "bench_" + strings.ReplaceAll(ident.New(), "-", "")
	exec := func(ctx context.Context, sql string) error {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		conn, err := pgx.Connect(ctx, server)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, sql)
		return errors.Join(err, conn.Close(ctx))
	}
	if err := exec(ctx, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	r.atEnd(func() error { return exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)") })
	u, err := url.Parse(server)
	if err != nil {
		return "", err
	}
	u.Path = "/" + name
	return u.String(), nil
}

// newDir makes a directory that is removed when the run ends.
func (r *run) newDir() (string, error) {
	dir, err := os.MkdirTemp(r.dir, "run-")
	if err == nil {
		r.atEnd(func() error { return os.RemoveAll(dir) })
	}
	return dir, err
}

// plane is a control plane that serves.
type plane struct {
	*proctest.Control
	dir  string
	conn *grpc.ClientConn
}

// newControl is a control plane on the run's database that is ended with the run. It is not started yet.
func (r *run) newControl(ctx context.Context, args ...string) (*plane, error) {
	dir, err := r.newDir()
	if err != nil {
		return nil, err
	}
	address, err := r.address(ctx, dir)
	if err != nil {
		return nil, err
	}
	return r.replica(dir, address, args...)
}

// address is that of a new database of the run's kind, which may have its files in dir.
func (r *run) address(ctx context.Context, dir string) (string, error) {
	switch r.database {
	case Postgres:
		return r.newDatabase(ctx)
	case SQLite:
		return "sqlite:" + filepath.Join(dir, "pawl.db"), nil
	default:
		return Memory, nil
	}
}

// replica is a control plane on a given database.
func (r *run) replica(dir, address string, args ...string) (*plane, error) {
	c, err := proctest.NewControl(r.programs, dir, address, append([]string{"--root", dir}, args...)...)
	if err != nil {
		return nil, err
	}
	p := &plane{Control: c, dir: dir}
	r.atEnd(func() error {
		if p.conn != nil {
			if err := p.conn.Close(); err != nil {
				return err
			}
		}
		return terminate(p.Process)
	})
	return p, nil
}

// start starts a control plane, and connects to it.
func (p *plane) start(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := p.Control.Start(ctx); err != nil {
		return err
	}
	if p.conn == nil {
		p.conn, err = p.Dial()
	}
	return err
}

// plane starts a control plane on the run's database.
func (r *run) plane(ctx context.Context, args ...string) (*plane, error) {
	p, err := r.newControl(ctx, args...)
	if err != nil {
		return nil, err
	}
	return p, p.start(ctx)
}

// executor starts a separate executor of a control plane, which ends with the run.
func (r *run) executor(ctx context.Context, p *plane, args ...string) (*proctest.Executor, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	e, err := p.NewExecutor(ctx, p.conn, "bench", p.dir)
	if err != nil {
		return nil, err
	}
	e.Args = args
	r.atEnd(func() error { return terminate(e.Process) })
	return e, e.Start(ctx)
}

// terminate ends a process, which may never have begun.
func terminate(p *proctest.Process) error {
	if p == nil {
		return nil
	}
	return p.End(syscall.SIGTERM, patience)
}
