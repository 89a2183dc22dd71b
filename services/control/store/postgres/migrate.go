package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/pawl-dev/pawl/internal/errs"
)

//go:embed migrations/*.sql
var migrations embed.FS

// ErrNewerFormat says that a later version of control has migrated the database.
var ErrNewerFormat = errs.New(errs.FailedPrecondition, "DATABASE_NEWER",
	"the database has a newer format than this version of control understands; run the version that wrote it, or a later one")

// migrationLock is the advisory lock's key: "pawl" in ASCII.
const migrationLock = 0x7061776c

// migrate brings the database to this version's format. When there is nothing to do it costs one query.
func migrate(ctx context.Context, pool *pgxpool.Pool) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	// goose logs nothing by itself; a provider is for one use, it only borrows the pool.
	db := stdlib.OpenDBFromPool(pool)
	defer func() { _ = db.Close() }()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker{}))
	if err != nil {
		return err
	}
	sources := provider.ListSources()
	target := sources[len(sources)-1].Version
	current, err := formatOf(ctx, pool)
	if err != nil {
		return err
	}
	if current < target {
		if _, err := provider.Up(ctx); err != nil {
			return err
		}
		// Another replica may have gone further while this one waited for the lock.
		if current, err = formatOf(ctx, pool); err != nil {
			return err
		}
	}
	if current > target {
		return ErrNewerFormat.With("%v (its format is %d, ours is %d)", ErrNewerFormat, current, target)
	}
	return nil
}

// formatOf is the number of the last migration, 0 for an empty database.
func formatOf(ctx context.Context, pool *pgxpool.Pool) (version int64, err error) {
	err = pool.QueryRow(ctx, `SELECT COALESCE(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&version)
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && pg.Code == "42P01" { // no such table
		return 0, nil
	}
	return version, err
}

// locker makes replicas that start together migrate one after another. It polls, because a session that waits inside
// pg_advisory_lock holds a snapshot, for which a migration that makes an index concurrently would wait in turn.
type locker struct{}

func (locker) SessionLock(ctx context.Context, conn *sql.Conn) error {
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		var got bool
		if err := conn.QueryRowContext(ctx, `SELECT pg_try_advisory_lock($1)`, int64(migrationLock)).Scan(&got); err != nil || got {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for another replica's migration: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

func (locker) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, `SELECT pg_advisory_unlock($1)`, int64(migrationLock))
	return err
}
