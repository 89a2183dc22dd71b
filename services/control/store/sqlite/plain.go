package sqlite

import (
	"context"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/services/control/store/rows"
)

// plainTexts are the statements of package rows. Segments and turns are stored in the order of their age.
var plainTexts = rows.Texts(rows.Dialect{
	Now: `$clock`, Seen: `$clock`, After: `($clock + $n)`, Before: `($clock - $n)`,
	Never: `9223372036854775807`,
	List:  `json_each($n)`, IDs: `(SELECT value AS id FROM json_each($n))`,
	Pairs: `(SELECT value ->> 0 AS id, value ->> 1 AS seq FROM json_each($n))`,
	Age:   `rowid`, Turn: `rowid`,
})

// plainStatements are the same, prepared like all others.
var plainStatements = func() []statement {
	all := make([]statement, len(plainTexts))
	for i, t := range plainTexts {
		all[i] = sql(t.SQL)
	}
	return all
}()

// plain is the Port of package rows, of the database or in a transaction.
type plain struct {
	s *Store
	t *tx // nil: each statement is an operation of its own
}

// Query implements rows.Port.
func (p plain) Query(ctx context.Context, s rows.Statement, args ...any) (found []rows.Row, err error) {
	query := func(c *conn, now time.Time) error {
		found = nil
		err := c.rows(plainStatements[s], func(r row) (bool, error) {
			found = append(found, r.plain())
			return true, nil
		}, values(s, now, args)...)
		c.wrote = c.wrote || plainTexts[s].Writes && len(found) > 0
		return err
	}
	switch {
	case p.t != nil:
		err = query(p.t.conn, p.t.now)
	case plainTexts[s].Writes:
		err = p.s.write(ctx, func(t tx) error { return query(t.conn, t.now) })
	default:
		err = p.s.read(ctx, func(c *conn) error { return query(c, p.s.now()) })
	}
	return found, err
}

// Exec implements rows.Port.
func (p plain) Exec(ctx context.Context, s rows.Statement, args ...any) (changed int, err error) {
	err = p.do(ctx, func(t tx) error {
		n, err := t.exec(plainStatements[s], values(s, t.now, args)...)
		changed = int(n)
		return err
	})
	return changed, err
}

// Transact implements rows.Port.
func (p plain) Transact(ctx context.Context, f func(context.Context, rows.Port) error) error {
	return p.do(ctx, func(t tx) error { return f(ctx, plain{s: p.s, t: &t}) })
}

func (p plain) do(ctx context.Context, f func(tx) error) error {
	if p.t != nil {
		return f(*p.t)
	}
	return p.s.write(ctx, f)
}

// values are the parameters of a statement.
func values(s rows.Statement, now time.Time, args []any) []any {
	args = slices.Clone(args)
	for i, a := range args {
		switch v := a.(type) {
		case rows.Instant:
			args[i] = int64(v)
		case time.Time:
			if args[i] = any(v.UnixMicro()); v.IsZero() {
				args[i] = nil
			}
		}
	}
	if plainTexts[s].Clock {
		args = append(args, now.UnixMicro())
	}
	return args
}
