package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "modernc.org/sqlite" // the driver that control uses

	"github.com/pawl-dev/pawl/internal/plural"
)

// floors measures what nothing here can undercut.
func floors(ctx context.Context, r *run) error {
	dir, err := r.newDir()
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "appended"))
	if err != nil {
		return err
	}
	r.atEnd(f.Close)
	page := make([]byte, 4096)
	synced, err := load(ctx, 1, r.some(1000, 100), 0, func(context.Context, int) error {
		_, err := f.Write(page)
		return errors.Join(err, f.Sync())
	})
	if err != nil {
		return err
	}
	r.add(synced.row(Row{What: "4 KiB append and fsync"}))
	for _, shell := range []string{"bash", "sh"} {
		ran, err := load(ctx, 1, r.some(500, 50), 0, func(ctx context.Context, _ int) error {
			_, err := bareCommand(ctx, shell, "true")
			return err
		})
		if err != nil {
			return err
		}
		r.add(ran.row(Row{What: "fork and exec of " + shell + " -c true"}))
	}
	local, err := r.localFiles()
	if err != nil {
		return err
	}
	copied, err := load(ctx, 1, r.some(30, 3), 0, func(ctx context.Context, _ int) error { return local.write(ctx) })
	if err != nil {
		return err
	}
	r.add(copied.row(Row{What: "10 MB copy and fsync"}))
	return nil
}

// commits measures one durable row per commit at the level of the driver.
func commits(ctx context.Context, r *run) error {
	for _, clients := range []int{1, 16, 64} {
		if clients > 1 && r.database != Postgres {
			continue // one writer is all that SQLite has
		}
		f, err := r.commitFloor(ctx, clients)
		if err != nil {
			return err
		}
		r.add(f.row(Row{What: fmt.Sprintf("commit of one row, %s", plural.Of(clients, "client"))}))
	}
	return nil
}

// commitFloor is what one durable row costs on the run's database with so many clients. It is measured once.
func (r *run) commitFloor(ctx context.Context, clients int) (figure, error) {
	if r.database != Postgres {
		clients = 1
	}
	key := fmt.Sprint(r.database, clients)
	if f, ok := r.commits[key]; ok {
		return f, nil
	}
	measure := r.commitSQLite
	if r.database == Postgres {
		measure = r.commitPostgres
	}
	f, err := measure(ctx, clients)
	if err == nil {
		r.commits[key] = f
	}
	return f, err
}

func (r *run) commitPostgres(ctx context.Context, clients int) (f figure, err error) {
	address, err := r.newDatabase(ctx)
	if err != nil {
		return f, err
	}
	config, err := pgxpool.ParseConfig(address)
	if err != nil {
		return f, err
	}
	config.MaxConns, config.MinConns = int32(clients), int32(clients)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return f, err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, "CREATE TABLE rows (id bigint PRIMARY KEY, body text)"); err != nil {
		return f, err
	}
	return load(ctx, clients, 0, r.lasts()/2, func(ctx context.Context, n int) error {
		_, err := pool.Exec(ctx, "INSERT INTO rows VALUES ($1, 'a row')", n)
		return err
	})
}

func (r *run) commitSQLite(ctx context.Context, _ int) (f figure, err error) {
	dir, err := r.newDir()
	if err != nil {
		return f, err
	}
	name := ":memory:"
	if r.database == SQLite {
		name = filepath.Join(dir, "floor.db") + "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
	}
	db, err := sql.Open("sqlite", name)
	if err != nil {
		return f, err
	}
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT)"); err != nil {
		return f, err
	}
	insert, err := db.PrepareContext(ctx, "INSERT INTO rows VALUES (?, 'a row')")
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, insert.Close()) }()
	return load(ctx, 1, 0, r.lasts()/2, func(ctx context.Context, n int) error {
		_, err := insert.ExecContext(ctx, n)
		return err
	})
}
