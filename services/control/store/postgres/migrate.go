package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	gooselock "github.com/pressly/goose/v3/lock"

	"github.com/pawl-dev/pawl/internal/errs"
)

//go:embed migrations/*.sql
var migrations embed.FS

// ErrNewerFormat says that a later version of control has migrated the database.
var ErrNewerFormat = errs.New(errs.FailedPrecondition, "DATABASE_NEWER",
	"the database has a newer format than this version of control understands; run the version that wrote it, or a "+
		"later one")

// migrationLock is the advisory lock's key: "pawl" in ASCII.
const migrationLock = 0x7061776c

// migrate brings the database to this version's format. When there is nothing to do it costs one query.
func migrate(ctx context.Context, a access) (err error) {
	current, err := formatOf(ctx, a.pool)
	if err != nil {
		return err
	}
	provider, done, err := migrator(a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	sources := provider.ListSources()
	target := sources[len(sources)-1].Version
	if current < target {
		if _, err := provider.Up(ctx); err != nil {
			return err
		}
		// Another replica may have gone further while this one waited for the lock.
		if current, err = formatOf(ctx, a.pool); err != nil {
			return err
		}
	}
	switch {
	case current > target:
		return ErrNewerFormat.With("%v (its format is %d, ours is %d)", ErrNewerFormat, current, target)
	case current < target:
		return errNotSame
	}
	return nil
}

// errNotSame says that what was migrated is not what the pool uses.
var errNotSame = errs.New(errs.FailedPrecondition, "DATABASE_NOT_SAME",
	"the direct address leads to another database, or to another schema of it, than the pooler's")

const (
	// lease is how long a replica that died while it migrated keeps others from it, where there is no session whose end
	// tells.
	lease = 15 * time.Second
	// maxWaits bounds, with an interval of a tenth of a second, how long replicas wait for one that migrates: a day.
	maxWaits = 24 * 60 * 60 * 10
)

// migrator is goose on the database, with a lock that the way there allows. done gives back what it borrowed.
func migrator(a access) (p *goose.Provider, done func() error, err error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, nil, err
	}
	// goose logs nothing by itself; a provider is for one use.
	db, lock := stdlib.OpenDBFromPool(a.pool), goose.WithSessionLocker(locker{})
	switch {
	case a.shared && a.direct != nil:
		db = stdlib.OpenDB(*a.direct)
	case a.shared:
		row, err := gooselock.NewPostgresTableLocker(
			gooselock.WithTableName("goose_db_version_lock"), gooselock.WithTableLockID(migrationLock), gooselock.WithTableLeaseDuration(lease),
			gooselock.WithTableHeartbeatInterval(lease/5), gooselock.WithTableLockTimeout(time.Second/10, maxWaits),
			gooselock.WithTableLogger(slog.New(slog.DiscardHandler))) // what fails is returned
		if err != nil {
			return nil, nil, err
		}
		lock = goose.WithLocker(row)
	}
	if p, err = goose.NewProvider(goose.DialectPostgres, db, files, lock); err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return p, db.Close, nil
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
		if err := conn.QueryRowContext(ctx, `SELECT pg_try_advisory_lock($1)`,
			int64(migrationLock)).Scan(&got); err != nil || got {
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
