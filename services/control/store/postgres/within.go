package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pawl-dev/pawl/services/control/tenancy"
)

// withinSQL makes the rest of a transaction the tenants' role's, and shows it the rows of one tenant, see wall.
const withinSQL = `SELECT set_config('role', $1, true), set_config('` + tenantSetting + `', $2, true)`

// platformRole is who the transaction is of that is within no tenant: the user of the address.
const platformRole = "none"

// asTenants begins the texts of statements that run within a tenant. What is prepared is planned for one role: a text
// that two use in turn would be planned anew each time.
const asTenants = `/* within a tenant */ `

// within makes the rest of a transaction see the rows of a tenant only, and take no others. "" is all.
func (s *Store) within(b *pgx.Batch, tenant string) {
	switch {
	case s.wall == "":
	case tenant == "":
		b.Queue(withinSQL, platformRole, "")
	default:
		b.Queue(withinSQL, s.wall, tenant)
	}
}

// ask runs a statement as whom ctx is within, in one round trip, and hands its rows to take.
func (s *Store) ask(ctx context.Context, take func(pgx.Rows) error, sql string, args ...any) error {
	tenant := tenancy.Of(ctx)
	if tenant == "" || s.wall == "" {
		rows, err := s.pool.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		if err := take(rows); err != nil {
			return err
		}
		rows.Close()
		return rows.Err()
	}
	b := &pgx.Batch{}
	s.within(b, tenant)
	b.Queue(asTenants+sql, args...).Query(take)
	return s.foreign(ctx, tenant, s.send(ctx, b))
}

// askOne is ask for the first row, which is scanned. Without one it fails with pgx.ErrNoRows.
func (s *Store) askOne(ctx context.Context, targets []any, sql string, args ...any) error {
	found := false
	err := s.ask(ctx, func(rows pgx.Rows) error {
		if found = rows.Next(); !found {
			return rows.Err()
		}
		return rows.Scan(targets...)
	}, sql, args...)
	if err == nil && !found {
		return pgx.ErrNoRows
	}
	return err
}

// tell runs a statement as whom ctx is within, in one round trip, and returns how many rows it changed.
func (s *Store) tell(ctx context.Context, sql string, args ...any) (changed int64, err error) {
	err = s.ask(ctx, func(rows pgx.Rows) error {
		rows.Close()
		changed = rows.CommandTag().RowsAffected()
		return rows.Err()
	}, sql, args...)
	return changed, err
}

// foreign is tenancy.ErrForeign for the refusal of a statement that ran within a tenant. Nothing that a caller asks for
// comes to that while the code checks what it should: the log is told.
func (s *Store) foreign(ctx context.Context, tenant string, err error) error {
	pg := (*pgconn.PgError)(nil)
	if tenant == "" || !errors.As(err, &pg) || pg.Code != "42501" {
		return err
	}
	s.opts.Log.ErrorContext(ctx, "row-level security refused a statement: a check is missing before it", "tenant",
		tenant, "error", pg.Message)
	return tenancy.ErrForeign
}
