package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pawl-dev/pawl/services/control/store/rows"
)

// plainTexts are the statements of package rows.
var plainTexts = rows.Texts(rows.Dialect{
	Now:    `$clock::timestamptz`,
	Seen:   `($clock::timestamptz - interval '10 seconds')`, // an admission reads first, and writes then
	After:  `($clock::timestamptz + $n::bigint * interval '1 microsecond')`,
	Before: `($clock::timestamptz - $n::bigint * interval '1 microsecond')`,
	Never:  `'infinity'::timestamptz`,

	List:  `jsonb_array_elements_text($n::jsonb)`,
	IDs:   `(SELECT value::uuid AS id FROM jsonb_array_elements_text($n::jsonb))`,
	Pairs: `(SELECT (value->>0)::uuid AS id, (value->>1)::bigint AS seq FROM jsonb_array_elements($n::jsonb))`,

	SkipLocked: `FOR UPDATE SKIP LOCKED`, SkipLockedLanes: `FOR NO KEY UPDATE SKIP LOCKED`,
	Age: `created_at`, Turn: `ctid`,
})

// plain is the Port of package rows, on the pool or in a transaction.
type plain struct {
	s  *Store
	tx pgx.Tx // nil is the pool
}

// Query implements rows.Port.
func (p plain) Query(ctx context.Context, s rows.Statement, args ...any) (found []rows.Row, err error) {
	if p.tx != nil {
		result, err := p.tx.Query(ctx, plainTexts[s].SQL, p.values(s, args)...)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(result, neutral)
	}
	err = p.s.retry(ctx, func(ctx context.Context, _ bool) error {
		return p.s.ask(ctx, func(result pgx.Rows) (err error) {
			found, err = pgx.CollectRows(result, neutral)
			return err
		}, plainTexts[s].SQL, p.values(s, args)...)
	})
	return found, err
}

// Exec implements rows.Port.
func (p plain) Exec(ctx context.Context, s rows.Statement, args ...any) (changed int, err error) {
	if p.tx != nil {
		tag, err := p.tx.Exec(ctx, plainTexts[s].SQL, p.values(s, args)...)
		return int(tag.RowsAffected()), err
	}
	err = p.s.retry(ctx, func(ctx context.Context, _ bool) error {
		n, err := p.s.tell(ctx, plainTexts[s].SQL, p.values(s, args)...)
		changed = int(n)
		return err
	})
	return changed, err
}

// Transact implements rows.Port. It is the platform's own, whatever ctx is within: no caller's request needs one.
func (p plain) Transact(ctx context.Context, f func(context.Context, rows.Port) error) error {
	return p.s.retry(ctx, func(ctx context.Context, _ bool) error {
		return pgx.BeginFunc(ctx, p.s.pool, func(tx pgx.Tx) error { return f(ctx, plain{s: p.s, tx: tx}) })
	})
}

// values are the parameters of a statement.
func (p plain) values(s rows.Statement, args []any) []any {
	values := make([]any, len(args), len(args)+1)
	for i, a := range args {
		switch v := a.(type) {
		case time.Time:
			a = moment(v)
		case rows.Instant:
			a = time.UnixMicro(int64(v))
		}
		values[i] = a
	}
	if plainTexts[s].Clock {
		values = append(values, p.s.now())
	}
	return values
}

// neutral reads a row as values of the types that a rows.Row has. Which of them a column has follows from its type, so
// that no content of a row can keep it from being read.
func neutral(row pgx.CollectableRow) (rows.Row, error) {
	fields := row.FieldDescriptions()
	targets := make([]any, len(fields))
	for i, f := range fields {
		switch f.DataTypeOID {
		case pgtype.TextOID, pgtype.VarcharOID, pgtype.UUIDOID, pgtype.JSONOID, pgtype.JSONBOID:
			targets[i] = new(*string)
		case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID:
			targets[i] = new(*int64)
		case pgtype.BoolOID:
			targets[i] = new(*bool)
		case pgtype.ByteaOID:
			targets[i] = new([]byte)
		case pgtype.TimestamptzOID:
			targets[i] = new(pgtype.Timestamptz)
		default:
			return nil, fmt.Errorf("column %s has a type that is not known here", f.Name)
		}
	}
	if err := row.Scan(targets...); err != nil {
		return nil, err
	}
	values := make(rows.Row, len(targets))
	for i, t := range targets {
		values[i] = pure(t)
	}
	return values, nil
}

// pure is the value of a target of neutral.
func pure(target any) any {
	switch v := target.(type) {
	case **string:
		if *v != nil {
			return **v
		}
	case **int64:
		if *v != nil {
			return **v
		}
	case **bool:
		switch {
		case *v == nil:
		case **v:
			return int64(1)
		default:
			return int64(0)
		}
	case *[]byte:
		if *v != nil {
			return *v
		}
	case *pgtype.Timestamptz:
		if v.Valid && v.InfinityModifier == pgtype.Finite {
			return v.Time.UnixMicro()
		}
	}
	return nil
}
