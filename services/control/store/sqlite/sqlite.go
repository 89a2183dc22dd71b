// Package sqlite keeps control's data in one SQLite file, or in memory, for one process.
//
//	writes ──▶ queue ──▶ writer: BEGIN, operation*, COMMIT (one fsync) ──▶ answers
//	reads  ──▶ pool of connections, each a snapshot of what is committed
//
// Invariants: an answer is given after the commit that it reports; an operation is in its transaction wholly or not at
// all; no other process has the file open; a lane's row is read and saved in one transaction, so that
// nothing comes between its fence and what is written under it.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/store/rows"
)

// Memory is the path of a database that is gone when it is closed.
const Memory = "memory"

// defaultReaders keeps a slow read from blocking others, at little memory each.
const defaultReaders = 4

var _ store.Store = (*Store)(nil)

// Options are optional: the zero value is what a server wants.
type Options struct {
	Readers int // connections for reading, 4 when 0
	Clock   Clock
	Log     *slog.Logger // hears of rows that cannot be decoded, slog's default when nil
}

// Store is a database. It implements store.Store.
type Store struct {
	*rows.Tables
	writer  *writer
	writes  *pool
	readers *pool
	now     func() time.Time
	turns   turns
	unlock  func() error
	once    sync.Once
	closing error // what Close answers

	mail   sync.Mutex
	mailed map[string]lane.Mailed // by lane, since the last MoveMail
}

// Open opens or makes the database at path and migrates it. ErrInUse when it is open elsewhere, ErrNewerFormat when a
// newer version wrote it.
func Open(ctx context.Context, path string, opts Options) (*Store, error) {
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.Readers == 0 {
		opts.Readers = defaultReaders
	}
	if path == Memory {
		return open(ctx, ":memory:", opts, nil)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	unlock, err := lockFile(path)
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, path, opts, unlock)
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	return s, nil
}

func open(ctx context.Context, path string, opts Options, unlock func() error) (*Store, error) {
	dsn := path + pragmas
	if unlock != nil {
		if err := private(path); err != nil {
			return nil, err
		}
		dsn = (&url.URL{Scheme: "file", Path: path}).String() + pragmas + smallPages
	}
	c, err := connect(dsn)
	if err != nil {
		return nil, err
	}
	// The file keeps both: the size of a page from its first write on, which this is.
	if _, err := c.raw.ExecContext(ctx, `PRAGMA journal_mode = WAL`, nil); err != nil {
		return nil, errors.Join(explain(err), c.close())
	}
	bring := migrate
	if unlock == nil {
		bring = migrateMemory
	}
	if err := bring(ctx, c); err != nil {
		return nil, errors.Join(err, c.close())
	}
	now, err := opts.Clock.start(c)
	if err == nil {
		err = errors.Join(c.watchRunning(), c.boundLog())
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	s := &Store{now: now, unlock: unlock, writes: newPool(1, nil, c), mailed: map[string]lane.Mailed{}}
	s.readers = s.writes
	if unlock != nil {
		s.readers = newPool(opts.Readers, func() (*conn, error) { return connect(dsn + "&_pragma=query_only(1)") })
	}
	s.Tables = rows.New(plain{s: s}, opts.Log)
	s.writer = startWriter(s.writes, s.now, s.Damaged)
	return s, nil
}

// private makes the file before SQLite does, which would let others read it. Conversations are nobody else's.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("opening the database: %w", err)
	}
	return f.Close()
}

// Close finishes the writes that are queued, closes the database and lets others open it.
func (s *Store) Close() error {
	s.writer.close()
	s.once.Do(func() {
		s.closing = s.readers.close()
		if s.writes != s.readers {
			s.closing = errors.Join(s.closing, s.writes.close())
		}
		if s.unlock != nil {
			s.closing = errors.Join(s.closing, s.unlock())
		}
	})
	return s.closing
}

// read runs f on a snapshot.
func (s *Store) read(ctx context.Context, f func(*conn) error) error { return s.readers.read(ctx, f) }

// write runs f in a transaction; see writer.write.
func (s *Store) write(ctx context.Context, f func(tx) error) error { return s.writeOf(ctx, "", f) }

// writeOf is write for a tenant. What f has posted is for MoveMail to tell of.
func (s *Store) writeOf(ctx context.Context, tenant string, f func(tx) error) error {
	var mailed []lane.Mailed
	err := s.writer.write(ctx, tenant, func(t tx) error {
		mailed, t.mailed = mailed[:0], &mailed
		return f(t)
	})
	if err == nil && len(mailed) > 0 {
		s.mail.Lock()
		defer s.mail.Unlock()
		for _, m := range mailed {
			s.mailed[m.LaneID] = m
		}
	}
	return err
}
