// Package rows keeps what control stores beside its lanes: tokens, definitions, executors, replicas, the secret that
// replicas share. It reads sessions and their entries, and deletes what retention deletes. Each statement is written
// once, in SQL that SQLite and Postgres both take.
//
//	Tables.RevokeToken ──▶ Port ─┬▶ SQLite: the writer's queue, or a reader
//	                             └▶ Postgres: the pool, with retries
//
// Where the two differ, a statement has a blank in braces, such as {now}. A Dialect fills it in when the program
// starts, and no text is edited later. What is on the path of every prompt (admission, claims, commits) is not here:
// each database has statements of its own for that.
//
// Most of what callers ask for runs within their tenant, see tenancy.Within. What the platform has to know to answer
// them does not: who a token stands for, where executors are, what definitions say.
//
// Invariants: the platform's clock alone is compared with the times that are stored; every operation may be repeated
// after a lost answer; a row that cannot be decoded is left out of a list, and the log is told of it once.
package rows

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Port is a database, as this package needs it. Arguments are strings, ints, bools, []byte, nil, Instants, and times,
// of which the zero one is NULL. All methods may be called concurrently, except on the Port of a transaction.
type Port interface {
	// Query returns the rows of a statement. One that writes is committed by then, unless it is part of a transaction.
	Query(ctx context.Context, s Statement, args ...any) ([]Row, error)
	// Exec runs a statement that writes and returns how many rows it changed.
	Exec(ctx context.Context, s Statement, args ...any) (int, error)
	// Transact runs f in one transaction, which is committed when f returns nil. It may run f several times, each time
	// from the start.
	Transact(ctx context.Context, f func(ctx context.Context, p Port) error) error
}

// Row is one row of a result. A value is a string, an int64 (of a boolean: 0 or 1; of a time: microseconds since 1970),
// a []byte, or nil for NULL: what the columns' types guarantee, so that to read a row never fails.
type Row []any

func (r Row) text(i int) string {
	s, _ := r[i].(string)
	return s
}

func (r Row) int(i int) int64 {
	n, _ := r[i].(int64)
	return n
}

func (r Row) bool(i int) bool { return r.int(i) != 0 }

func (r Row) blob(i int) []byte {
	b, _ := r[i].([]byte)
	return b
}

// time is the zero time for NULL and for 0, which SQLite's records of calls have instead.
func (r Row) time(i int) time.Time {
	if us := r.int(i); us != 0 {
		return time.UnixMicro(us).UTC()
	}
	return time.Time{}
}

// json decodes a column of JSON into v, and leaves v alone when it is NULL.
func (r Row) json(i int, v any) error {
	text := r.text(i)
	if text == "" {
		return nil
	}
	return json.Unmarshal([]byte(text), v)
}

// jsonOr is v for a column of JSON, NULL when there is nothing in it.
func jsonOr[T any](v T, empty bool) (any, error) {
	if empty {
		return nil, nil
	}
	b, err := json.Marshal(v)
	return string(b), err
}

// optional is s for a column that has NULL instead of "".
func optional(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// Tables are the rows of one database. It implements what the domain packages ask for, and has their documentation. All
// methods may be called concurrently.
type Tables struct {
	port Port
	log  *slog.Logger
	mu   sync.Mutex
	told map[string]bool // the damaged rows that the log has been told of
}

// New returns the Tables of a database. What is wrong with single rows is told to log.
func New(port Port, log *slog.Logger) *Tables {
	return &Tables{port: port, log: log, told: map[string]bool{}}
}

// maxTold bounds the memory for damaged rows. Beyond it the log is told again.
const maxTold = 1000

// Damaged tells the log of a row that cannot be decoded, once, for what the databases read themselves.
func (t *Tables) Damaged(err error) { t.report(context.Background(), err) }

// report tells the log of a row that cannot be decoded, unless it has been told of that.
func (t *Tables) report(ctx context.Context, err error) {
	t.mu.Lock()
	if len(t.told) >= maxTold {
		clear(t.told)
	}
	told := t.told[err.Error()]
	t.told[err.Error()] = true
	t.mu.Unlock()
	if !told {
		t.log.ErrorContext(ctx, "a row is damaged, going on without it", "error", err)
	}
}

// list returns what decode makes of the rows, except of those that cannot be decoded.
func list[T any](
	ctx context.Context, t *Tables, decode func(Row) (T, error), s Statement, args ...any,
) (found []T, err error) {
	rows, err := t.port.Query(ctx, s, args...)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		v, err := decode(r)
		if err != nil {
			t.report(ctx, err)
			continue
		}
		found = append(found, v)
	}
	return found, nil
}

// one returns what decode makes of the first row, or missing.
func one[T any](
	ctx context.Context, p Port, decode func(Row) (T, error), missing error, s Statement, args ...any,
) (v T, err error) {
	rows, err := p.Query(ctx, s, args...)
	if err != nil {
		return v, err
	}
	if len(rows) == 0 {
		return v, missing
	}
	return decode(rows[0])
}

// What statements of one column return.
func firstBlob(r Row) ([]byte, error) { return r.blob(0), nil }
func firstInt(r Row) (int64, error)   { return r.int(0), nil }
func firstText(r Row) (string, error) { return r.text(0), nil }

// change runs a statement and returns missing when it changed nothing.
func change(ctx context.Context, p Port, missing error, s Statement, args ...any) error {
	n, err := p.Exec(ctx, s, args...)
	if err == nil && n == 0 {
		return missing
	}
	return err
}

// wrap says what failed.
func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
