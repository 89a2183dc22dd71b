package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pawl-dev/pawl/internal/errs"
)

// tenantSetting holds the tenant that a transaction is within.
const tenantSetting = "pawl.tenant"

// rights are what the tenants' role may do with each table, beside its rows being those of the transaction's tenant. A
// table that is not here it cannot touch: what the platform does itself is done without the role.
var rights = map[string]string{
	"sessions":    "SELECT, INSERT",
	"lanes":       "SELECT, INSERT, UPDATE",
	"submissions": "SELECT, INSERT, UPDATE",
	"receipts":    "SELECT, INSERT, DELETE",
	"entries":     "SELECT, INSERT",
	"segments":    "SELECT, INSERT",
	"deletions":   "SELECT, INSERT",
	"tokens":      "SELECT, INSERT, UPDATE",
	"tickets":     "SELECT, INSERT",
	"tenants":     "SELECT",
	"audit":       "SELECT, INSERT",
}

// Failures of the second wall.
var (
	errNoRole = errs.New(errs.FailedPrecondition, "DATABASE_ROLE_MISSING",
		"the database user may not make the role that keeps tenants apart")
	errRole = errs.New(errs.FailedPrecondition, "DATABASE_ROLE_UNFIT",
		"the role that keeps tenants apart has rights of its own")
	errNotOwner = errs.New(errs.FailedPrecondition, "DATABASE_NOT_OWNER",
		"the database user has to own Pawl's tables, or be a member of the role that does: row-level security hides "+
			"all rows from others")
)

// wallFacts is what there is of the wall. The tenants' role is named after the owner of the tables: two Pawl schemas on
// one server share it only where one user has all rights on both.
type wallFacts struct {
	user, owner, role, schema string
	exists, member, unfit     bool
	owns, enters              bool // the user has the owner's rights; the role may use the schema
	missing                   []string
}

// wallSQL looks at the roles.
const wallSQL = `
WITH o AS (SELECT relowner AS id, pg_get_userbyid(relowner)::text AS name FROM pg_class
  WHERE oid = 'sessions'::regclass),
n AS (SELECT o.*, CASE WHEN octet_length(o.name) <= 48 THEN 'pawl_tenants_of_' || o.name
  ELSE 'pawl_tenants_of_' || md5(o.name) END AS role FROM o)
SELECT current_user::text, n.name, n.role, current_schema()::text, r.oid IS NOT NULL,
  COALESCE(pg_has_role(current_user, r.oid, 'MEMBER'), false),
  COALESCE(r.rolsuper OR r.rolbypassrls OR r.rolcanlogin OR pg_has_role(r.oid, n.id, 'MEMBER'), false),
  pg_has_role(current_user, n.id, 'USAGE'),
  COALESCE(has_schema_privilege(r.oid, current_schema()::regnamespace, 'USAGE'), false)
FROM n LEFT JOIN pg_roles r ON r.rolname = n.role`

// gapsSQL is the tables of this schema that lack a part of the wall. $1 is the tenants' role, $2 and $3 are the tables
// and rights that it has.
const gapsSQL = `
SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant'
  LEFT JOIN unnest($2::text[], $3::text[]) AS w(name, rights) ON w.name = c.relname
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
  AND NOT (c.relrowsecurity AND c.relforcerowsecurity
    AND EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'platform'
      AND p.polroles = ARRAY[c.relowner])
    AND EXISTS (SELECT 1 FROM pg_policy p JOIN pg_roles r ON r.rolname = $1 WHERE p.polrelid = c.oid
      AND p.polname = 'tenant' AND p.polroles = ARRAY[r.oid])
    AND COALESCE(w.rights, '') = COALESCE((SELECT string_agg(x.privilege_type, ', '
      ORDER BY array_position(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'], x.privilege_type))
      FROM aclexplode(c.relacl) x JOIN pg_roles r ON r.oid = x.grantee WHERE r.rolname = $1), ''))
ORDER BY c.relname`

// raiseTableSQL makes the wall of one table, whatever is there of it. The policies come before they are needed: others
// may be at work. The condition is no index's: rows are found by what a statement names, and looked at then.
const raiseTableSQL = `
SELECT pg_advisory_xact_lock({lock});
DROP POLICY IF EXISTS platform ON {table};
CREATE POLICY platform ON {table} TO {owner} USING (true) WITH CHECK (true);
DROP POLICY IF EXISTS tenant ON {table};
CREATE POLICY tenant ON {table} TO {role}
  USING ((tenant = current_setting('` + tenantSetting + `', true)) IS TRUE)
  WITH CHECK ((tenant = current_setting('` + tenantSetting + `', true)) IS TRUE);
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
REVOKE ALL ON {table} FROM {role};`

// raiseWall sees to it that the second wall stands, and returns the tenants' role. When it stands, that costs two
// queries. It is no migration: roles are the server's, and a database that was restored elsewhere lacks them.
func raiseWall(ctx context.Context, a access) (role string, err error) {
	for tries := 0; ; tries++ {
		f, err := wallOf(ctx, a)
		if err == nil && len(f.missing) == 0 {
			return f.role, probeWall(ctx, a, f)
		}
		if err == nil {
			err = f.raise(ctx, a)
		}
		// Others may be at it, in other databases of the server too, which no lock keeps apart.
		pg := (*pgconn.PgError)(nil)
		concurrent := errors.As(err, &pg) && (pg.Code == "XX000" || pg.Code == "42710" || pg.Code == "23505")
		if err != nil && (!concurrent || tries == 10) {
			return "", err
		}
	}
}

// wallOf looks at what there is of the wall.
func wallOf(ctx context.Context, a access) (f wallFacts, err error) {
	err = a.pool.QueryRow(ctx, wallSQL).Scan(&f.user, &f.owner, &f.role, &f.schema, &f.exists, &f.member, &f.unfit,
		&f.owns, &f.enters)
	if err != nil {
		return f, err
	}
	tables := slices.Sorted(maps.Keys(rights))
	allowed := make([]string, len(tables))
	for i, t := range tables {
		allowed[i] = rights[t]
	}
	rows, err := a.pool.Query(ctx, gapsSQL, f.role, tables, allowed)
	if err == nil {
		f.missing, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err == nil && !(f.exists && f.member && f.enters) && len(f.missing) == 0 {
		f.missing = []string{"sessions"} // as good as any: what is missing is of the role
	}
	switch {
	case err != nil:
		return f, err
	case !f.owns:
		return f, errNotOwner.With("%v: the user is %s, the owner %s", errNotOwner, f.user, f.owner)
	case f.unfit:
		return f, errRole.With("%v: %s must not log in, be a superuser, bypass row-level security or be a member of %s",
			errRole, f.role, f.owner)
	}
	return f, nil
}

// raise makes what is missing.
func (f wallFacts) raise(ctx context.Context, a access) error {
	role, owner := pgx.Identifier{f.role}.Sanitize(), pgx.Identifier{f.owner}.Sanitize()
	create, grant := "CREATE ROLE "+role+" NOLOGIN", "GRANT "+role+" TO "+owner
	var first []string
	if !f.exists {
		first = append(first, create)
	}
	if !f.member {
		first = append(first, grant)
	}
	if !f.enters {
		first = append(first, "GRANT USAGE ON SCHEMA "+pgx.Identifier{f.schema}.Sanitize()+" TO "+role)
	}
	for _, sql := range first {
		_, err := a.pool.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && pg.Code == "42501" {
			return f.noRole(first)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	for _, table := range f.missing {
		name := pgx.Identifier{table}.Sanitize()
		sql := strings.NewReplacer("{lock}", fmt.Sprint(migrationLock), "{table}", name, "{owner}", owner, "{role}",
			role).Replace(raiseTableSQL)
		if allowed := rights[table]; allowed != "" {
			sql += "\nGRANT " + allowed + " ON " + name + " TO " + role
		}
		if _, err := a.pool.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("row-level security of table %s: %w", table, err)
		}
	}
	return nil
}

// noRole says what somebody has to do who may.
func (f wallFacts) noRole(statements []string) error {
	return errNoRole.With("%v: have an administrator of the server run “%s”, as often as it is needed, or start with "+
		"--no-row-security, which leaves it to this program alone", errNoRole, strings.Join(statements, "; "))
}

// probeWall enters the tenants' role as every statement within a tenant does.
func probeWall(ctx context.Context, a access, f wallFacts) error {
	var active bool
	b := &pgx.Batch{}
	b.Queue(withinSQL, f.role, "")
	b.Queue(`SELECT row_security_active('sessions') AND current_user::text = $1`, f.role).
		QueryRow(func(row pgx.Row) error { return row.Scan(&active) })
	err := a.pool.SendBatch(ctx, b).Close()
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && pg.Code == "42501" {
		return f.noRole([]string{
			"GRANT " + pgx.Identifier{f.role}.Sanitize() + " TO " + pgx.Identifier{f.user}.Sanitize(),
		})
	}
	if err == nil && !active {
		err = errRole.With("%v: row-level security does not bind %s", errRole, f.role)
	}
	return err
}

// warnNoWall says at each start that the second wall is off.
func warnNoWall(log *slog.Logger) {
	log.Warn("row-level security is off: nothing but this program's own checks keeps tenants apart")
}
