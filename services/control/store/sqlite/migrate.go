package sqlite

import (
	"context"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	stdsql "database/sql"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// borrowed lends a connection to database/sql, which goose works on.
type borrowed struct{ rawConn }

func (borrowed) Close() error                                   { return nil }
func (b borrowed) Connect(context.Context) (driver.Conn, error) { return b, nil }
func (b borrowed) Driver() driver.Driver                        { return nil }

// migrator runs f with goose on the connection.
func migrator(c *conn, f func(*goose.Provider) error) (err error) {
	db := stdsql.OpenDB(borrowed{c.raw})
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir, goose.WithDisableGlobalRegistry(true),
		goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("reading the migrations: %w", err)
	}
	return f(p)
}

// blank is a database in memory as migrations leave it, once there was one.
var blank struct {
	mu    sync.Mutex // guards image
	image []byte
}

// migrateMemory is migrate of a new database in memory. Migrations take a while, so that the first one's outcome is
// copied.
func migrateMemory(ctx context.Context, c *conn) error {
	blank.mu.Lock()
	defer blank.mu.Unlock()
	if blank.image != nil {
		return explain(c.raw.Deserialize(blank.image))
	}
	if err := migrate(ctx, c); err != nil {
		return err
	}
	image, err := c.raw.Serialize()
	blank.image = image
	return explain(err)
}

// migrate brings the tables to the newest format, and refuses one that is newer.
func migrate(ctx context.Context, c *conn) error {
	return migrator(c, func(p *goose.Provider) error {
		have, want, err := p.GetVersions(ctx)
		if err != nil {
			return fmt.Errorf("reading the database's format: %w", explain(err))
		}
		if have > want {
			return ErrNewerFormat.With("the database has format %d and this version knows %d: use a newer version",
				have, want)
		}
		if have == want {
			return nil
		}
		if _, err := p.Up(ctx); err != nil {
			return fmt.Errorf("migrating the database: %w", explain(err))
		}
		return nil
	})
}
