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
	"images":      "SELECT, INSERT",
	"segments":    "SELECT, INSERT",
	"deletions":   "SELECT, INSERT",
	"tokens":      "SELECT, INSERT, UPDATE",
	"tickets":     "SELECT, INSERT",
	"tenants":     "SELECT",
	"audit":       "SELECT, INSERT",
	"approvals":   "SELECT, UPDATE",
	"grants":      "SELECT, INSERT, UPDATE",

	"runs":        "SELECT",
	"run_steps":   "SELECT",
	"run_signals": "SELECT",
	"run_blobs":   "SELECT",
	"schedules":   "SELECT",

	"session_bases":  "SELECT",
	"session_labels": "SELECT",
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
	owns, enters              bool     // the user has the owner's rights; the role may use the schema
	missing, owners           []string // tables that lack a part of it, and whose these are
}

// wallSQL looks at the roles, and at the tables that lack a part of the wall. $1 and $2 are tables and the rights that
// tenants have with them.
const wallSQL = `
WITH o AS (SELECT relowner AS id, pg_get_userbyid(relowner)::text AS name FROM pg_class
  WHERE oid = 'sessions'::regclass),
n AS (SELECT o.*, CASE WHEN octet_length(o.name) <= 48 THEN 'pawl_tenants_of_' || o.name
  ELSE 'pawl_tenants_of_' || md5(o.name) END AS role FROM o),
f AS (SELECT n.*, r.oid AS role_id, current_schema()::regnamespace::oid AS schema_id,
    r.rolsuper OR r.rolbypassrls OR r.rolcanlogin OR pg_has_role(r.oid, n.id, 'MEMBER') AS unfit
  FROM n LEFT JOIN pg_roles r ON r.rolname = n.role),
g AS (SELECT c.relname::text AS name, pg_get_userbyid(c.relowner)::text AS owner FROM f
  JOIN pg_class c ON c.relnamespace = f.schema_id AND c.relkind IN ('r', 'p')
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant'
  LEFT JOIN unnest($1::text[], $2::text[]) AS w(name, rights) ON w.name = c.relname
  WHERE NOT (c.relrowsecurity AND c.relforcerowsecurity
    AND EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'platform'
      AND p.polroles = ARRAY[c.relowner])
    AND f.role_id IS NOT NULL AND EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'tenant'
      AND p.polroles = ARRAY[f.role_id])
    AND COALESCE(w.rights, '') = COALESCE((SELECT string_agg(x.privilege_type, ', '
      ORDER BY array_position(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'], x.privilege_type))
      FROM aclexplode(c.relacl) x WHERE x.grantee = f.role_id), '')))
SELECT current_user::text, name, role, current_schema()::text, role_id IS NOT NULL,
  COALESCE(pg_has_role(current_user, role_id,
    CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END), false),
  COALESCE(unfit, false), pg_has_role(current_user, id, 'USAGE'),
  COALESCE(has_schema_privilege(role_id, schema_id, 'USAGE'), has_schema_privilege('public', schema_id, 'USAGE')),
  ARRAY(SELECT g.name FROM g ORDER BY g.name), ARRAY(SELECT g.owner FROM g ORDER BY g.name)
FROM f`

// raiseTableSQL makes the wall of one table, whatever is there of it. The policies come before they are needed: others
// may be at work. The condition is no index's: rows are found by what a statement names, and looked at then.
const raiseTableSQL = `
SELECT pg_advisory_xact_lock({lock}), set_config('synchronous_commit', '{sync}', true);
DROP POLICY IF EXISTS platform ON {table};
CREATE POLICY platform ON {table} TO {owner} USING (true) WITH CHECK (true);
DROP POLICY IF EXISTS tenant ON {table};
CREATE POLICY tenant ON {table} TO {role}
  USING ((tenant = current_setting('` + tenantSetting + `', true)) IS TRUE)
  WITH CHECK ((tenant = current_setting('` + tenantSetting + `', true)) IS TRUE);
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
REVOKE ALL ON {table} FROM {role};`

// raiseWall sees to it that the second wall stands, and returns the tenants' role. When it stands, that costs one
// query. It is no migration: roles are the server's, and a database that was restored elsewhere lacks them.
func raiseWall(ctx context.Context, a access) (role string, err error) {
	for tries := 0; ; tries++ {
		f, err := wallOf(ctx, a)
		if err == nil && f.stands() {
			return f.role, nil
		}
		if err == nil && tries == maxRaises {
			return "", fmt.Errorf("it was made again and again, and does not stand: %+v", f)
		}
		if err == nil {
			err = f.raise(ctx, a)
		}
		// Others may be at it, in other databases of the server too, which no lock keeps apart.
		pg := (*pgconn.PgError)(nil)
		concurrent := errors.As(err, &pg) && (pg.Code == "XX000" || pg.Code == "42710" || pg.Code == "23505")
		if err != nil && (!concurrent || tries == maxRaises) {
			return "", err
		}
	}
}

// maxRaises is how often the wall is raised at a start, where others do so too.
const maxRaises = 10

// stands reports whether nothing is missing.
func (f wallFacts) stands() bool { return f.exists && f.member && f.enters && len(f.missing) == 0 }

// wallOf looks at what there is of the wall.
func wallOf(ctx context.Context, a access) (f wallFacts, err error) {
	tables := slices.Sorted(maps.Keys(rights))
	allowed := make([]string, len(tables))
	for i, t := range tables {
		allowed[i] = rights[t]
	}
	err = a.pool.QueryRow(ctx, wallSQL, pgx.QueryExecModeSimpleProtocol, tables, allowed).Scan(&f.user, &f.owner,
		&f.role, &f.schema, &f.exists, &f.member, &f.unfit, &f.owns, &f.enters, &f.missing, &f.owners)
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
	role := pgx.Identifier{f.role}.Sanitize()
	var first []string
	if !f.exists {
		first = append(first, "CREATE ROLE "+role+" NOLOGIN")
	}
	if !f.member {
		first = append(first, "GRANT "+role+" TO "+pgx.Identifier{f.owner}.Sanitize())
	}
	if !f.enters {
		first = append(first, "GRANT USAGE ON SCHEMA "+pgx.Identifier{f.schema}.Sanitize()+" TO "+role)
	}
	for _, sql := range first {
		_, err := a.pool.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && pg.Code == "42501" {
			return errNoRole.With("%v: have an administrator of the server run “%s” once, or start "+
				"with --no-row-security, which leaves it to this program alone", errNoRole, strings.Join(first, "; "))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	for i, table := range f.missing {
		sync := "off"
		if i == len(f.missing)-1 {
			sync = "on"
		}
		name := pgx.Identifier{table}.Sanitize()
		sql := strings.NewReplacer("{lock}", fmt.Sprint(migrationLock), "{sync}", sync, "{table}", name, "{owner}",
			pgx.Identifier{f.owners[i]}.Sanitize(), "{role}", role).Replace(raiseTableSQL)
		if allowed := rights[table]; allowed != "" {
			sql += "\nGRANT " + allowed + " ON " + name + " TO " + role
		}
		if _, err := a.pool.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
	}
	return nil
}

// warnNoWall says at each start that the second wall is off.
func warnNoWall(log *slog.Logger) {
	log.Warn("row-level security is off: nothing but this program's own checks keeps tenants apart")
}
