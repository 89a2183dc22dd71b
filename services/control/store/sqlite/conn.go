package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	modernc "modernc.org/sqlite"
)

// pragmas of every connection. A commit is on disk when it is answered: an epoch that was lost would be issued again.
const pragmas = "?_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)&_pragma=temp_store(2)" +
	"&_pragma=synchronous(FULL)"

// logBytes is about how large the log grows before its pages are written to the file: what a page has changed since is
// written once. SQLite counts pages, and a file that another program has made may have larger ones.
const logBytes = 16 << 20

// smallPages is for files. A commit changes little on each of many pages and writes these whole: with pages of half the
// usual size it writes two fifths less, at the same cost of time. In memory nothing is written and more pages cost
// time.
const smallPages = "&_pragma=page_size(2048)"

// statements are the texts of all prepared statements; a statement is an index into it.
var statements []string

// statement is a text that connections prepare on first use and keep. Parameters are ?, in order: the driver looks up
// numbered ones by their names at each execution, which on the path of every prompt costs as much as a statement.
type statement int

func sql(text string) statement {
	statements = append(statements, text)
	return statement(len(statements) - 1)
}

// rawConn is what the driver's connections can do.
type rawConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	Serialize() ([]byte, error)
	Deserialize(image []byte) error
}

// conn is one connection to the database, used by one goroutine at a time. It stays below database/sql, whose locks and
// conversions cost as much as the statements here.
type conn struct {
	raw      rawConn
	prepared []driver.Stmt
	args     []driver.NamedValue
	wrote    bool // a statement has changed rows since the flag was cleared
}

func connect(dsn string) (*conn, error) {
	connector, err := modernc.NewConnector(dsn)
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	raw, err := connector.Connect(context.Background())
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", explain(err))
	}
	rc, ok := raw.(rawConn)
	if !ok {
		return nil, errors.Join(errors.New("the sqlite driver lacks an interface"), raw.Close())
	}
	return &conn{raw: rc, prepared: make([]driver.Stmt, len(statements))}, nil
}

func (c *conn) close() error {
	var errs []error
	for _, s := range c.prepared {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(append(errs, c.raw.Close())...)
}

// bind finds the prepared statement and puts the arguments where the driver wants them.
func (c *conn) bind(s statement, args []any) (driver.Stmt, error) {
	if c.prepared[s] == nil {
		stmt, err := c.raw.PrepareContext(context.Background(), statements[s])
		if err != nil {
			return nil, fmt.Errorf("preparing %q: %w", statements[s], explain(err))
		}
		c.prepared[s] = stmt
	}
	c.args = c.args[:0]
	for i, a := range args {
		switch v := a.(type) {
		case int:
			a = int64(v)
		case bool:
			a = int64(0)
			if v {
				a = int64(1)
			}
		}
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return c.prepared[s], nil
}

// exec runs a statement that returns no rows and tells how many it changed.
func (c *conn) exec(s statement, args ...any) (int64, error) {
	stmt, err := c.bind(s, args)
	if err != nil {
		return 0, err
	}
	res, err := stmt.(driver.StmtExecContext).ExecContext(context.Background(), c.args)
	if err != nil {
		return 0, fmt.Errorf("%w, in %s", explain(err), statements[s])
	}
	n, err := res.RowsAffected()
	c.wrote = c.wrote || n > 0
	return n, err
}

// rows calls f with each row of a query, until it returns false. The row is reused.
func (c *conn) rows(s statement, f func(row) (more bool, err error), args ...any) (err error) {
	stmt, err := c.bind(s, args)
	if err != nil {
		return err
	}
	rows, err := stmt.(driver.StmtQueryContext).QueryContext(context.Background(), c.args)
	if err != nil {
		return fmt.Errorf("%w, in %s", explain(err), statements[s])
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	r := make(row, len(rows.Columns()))
	for {
		if err := rows.Next(r); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("%w, in %s", explain(err), statements[s])
		}
		if more, err := f(r); err != nil || !more {
			return err
		}
	}
}

// row runs a query of at most one row; nil is none.
func (c *conn) row(s statement, args ...any) (r row, err error) {
	err = c.rows(s, func(v row) (bool, error) {
		r = v
		return true, nil // to the end, so that an INSERT or UPDATE with RETURNING is done
	}, args...)
	return r, err
}

// returning is row for a statement that writes.
func (c *conn) returning(s statement, args ...any) (row, error) {
	r, err := c.row(s, args...)
	c.wrote = c.wrote || r != nil
	return r, err
}

var pageSize = sql(`PRAGMA page_size`)

// boundLog sets when the writer's connection checkpoints.
func (c *conn) boundLog() error {
	r, err := c.row(pageSize)
	if err != nil {
		return err
	}
	_, err = c.raw.ExecContext(context.Background(), fmt.Sprint(`PRAGMA wal_autocheckpoint = `, logBytes/r.int(0)), nil)
	return explain(err)
}
