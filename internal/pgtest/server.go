package pgtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// server makes and drops databases over one connection: a connection costs as much as a clone, and a pool would leave
// goroutines behind that leak checks find.
type server struct {
	url     string
	cluster *Cluster // nil if the server is not ours

	mu   sync.Mutex
	conn *pgx.Conn // nil until needed; replaced when broken
}

// clone makes a database from the template, and the template if the server has none.
func (s *server) clone(ctx context.Context, tpl Template, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	source := tpl.database()
	err := s.exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+source)
	if missing := new(pgconn.PgError); tpl.Prepare == nil || !errors.As(err, &missing) || missing.Code != "3D000" {
		return err
	}
	if err := s.prepare(ctx, tpl); err != nil {
		return err
	}
	return s.exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+source)
}

func (s *server) drop(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
}

// prepare makes the template, once even if several processes ask. It is filled under another name, so that a template
// that can be seen is complete, and closed to connections, because a database in use cannot be cloned.
func (s *server) prepare(ctx context.Context, tpl Template) (err error) {
	final, draft := tpl.database(), "pawl_draft_"+strings.ToLower(rand.Text())
	if err := s.exec(ctx, "SELECT pg_advisory_lock(hashtext($1))", final); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.exec(ctx, "SELECT pg_advisory_unlock(hashtext($1))", final)) }()
	var found bool
	row := s.conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)", final)
	if err := row.Scan(&found); found || err != nil {
		return err
	}
	if err := s.exec(ctx, "CREATE DATABASE "+draft+" TEMPLATE template0"); err != nil {
		return err
	}
	if err := tpl.Prepare(ctx, database(s.url, draft)); err != nil {
		return errors.Join(fmt.Errorf("prepare template %q: %w", tpl.Key, err),
			s.exec(ctx, "DROP DATABASE "+draft+" WITH (FORCE)"))
	}
	if err := s.exec(ctx, "ALTER DATABASE "+draft+" ALLOW_CONNECTIONS false"); err != nil {
		return err
	}
	return s.exec(ctx, "ALTER DATABASE "+draft+" RENAME TO "+final)
}

// exec runs one statement. The caller holds the mutex.
func (s *server) exec(ctx context.Context, sql string, args ...any) error {
	if s.conn == nil || s.conn.IsClosed() {
		conn, err := pgx.Connect(ctx, s.url)
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		s.conn = conn
	}
	// The plain protocol: a prepared statement could not be reused, every name is new.
	if _, err := s.conn.Exec(ctx, sql, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// database is the name of the template on the server: fit for an identifier whatever the key.
func (tpl Template) database() string {
	if tpl.Prepare == nil {
		return "template0"
	}
	sum := sha256.Sum256([]byte(tpl.Key))
	return "pawl_template_" + hex.EncodeToString(sum[:12])
}
