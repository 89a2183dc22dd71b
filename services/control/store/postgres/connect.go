package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pawl-dev/pawl/internal/errs"
)

// dialTimeout bounds one attempt, so that a host that swallows packets does not use up the whole wait.
const dialTimeout = 3 * time.Second

// absentFor is how long a database is tried where nobody listens or the name is not known: long enough for one that is
// restarted, and short enough for whoever mistyped the address.
const absentFor = time.Second

// planning is for prepared statements: each is planned once, and well. Every statement here finds its rows by an index,
// from the few rows that it is given. A plan that was made while the tables were empty must say so too, as it stays for
// a minute or more while they grow; and lanes must be locked in the order in which they are given, which a hash join
// would not do. Behind a pooler that shares sessions nothing is prepared, and only the transactions that lock many
// lanes are planned so, see Store.batch.
//
// For the same reason statements ask for the time in a sub-select, which an index can be searched with, and compare
// "state + 0" where they mean to find a row by its key: a partial index that was empty when the tables were analysed
// looks cheaper than any key, and is read from end to end when it no longer is.
var planning = map[string]string{
	"plan_cache_mode": "force_generic_plan", "jit": "off",
	"enable_seqscan": "off", "enable_bitmapscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off",
}

// access is how the database is reached.
type access struct {
	pool *pgxpool.Pool
	// direct is for what needs a session of its own. nil is that there is none: a pooler gives each transaction another
	// one.
	direct *pgx.ConnConfig
	// shared says that the pool's connections are a pooler's, which keeps nothing of a session from one transaction to
	// the next.
	shared bool
}

// connect makes the pool and proves that the database answers. A database that starts is waited for, a wrong password
// is not.
func connect(ctx context.Context, address string, opts Options) (a access, err error) {
	config, err := configure(address)
	if err != nil {
		return a, err
	}
	c := config.ConnConfig
	if c.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
		a.shared = true
	}
	said, err := reach(ctx, c, opts.ConnectTimeout)
	if refusal := refusedParameter(err); refusal != nil && !a.shared {
		opts.Log.Info("the database is behind a pooler that refuses startup parameters", "refused", refusal.Message)
		a.shared = true
		share(c)
		said, err = reach(ctx, c, opts.ConnectTimeout)
	} else if err == nil && !a.shared && said.ignores(c) {
		opts.Log.Info("the database is behind a pooler that ignores startup parameters")
		a.shared = true
		share(c)
	}
	if err != nil {
		return a, unreachable(c, err)
	}
	switch {
	case said.async && a.shared:
		return a, errAsynchronous
	case said.async:
		// A lane that was claimed with an asynchronous commit can come back from a crash with an epoch that is then
		// issued twice.
		c.RuntimeParams["synchronous_commit"] = "on"
	}
	if !a.shared {
		a.direct = c
	}
	if opts.Direct != "" {
		if a.direct, err = reachDirect(ctx, opts); err != nil {
			return a, fmt.Errorf("the direct address: %w", err)
		}
	}
	if a.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), config); err != nil {
		return a, unreachable(c, err)
	}
	return a, nil
}

// reachDirect proves that the address leads to a server that keeps sessions.
func reachDirect(ctx context.Context, opts Options) (*pgx.ConnConfig, error) {
	config, err := configure(opts.Direct)
	if err != nil {
		return nil, err
	}
	c := config.ConnConfig
	said, err := reach(ctx, c, opts.ConnectTimeout)
	if refusedParameter(err) != nil || err == nil && said.ignores(c) {
		return nil, errNotDirect
	}
	if err != nil {
		return nil, unreachable(c, err)
	}
	return c, nil
}

var (
	errAsynchronous = errs.New(errs.FailedPrecondition, "DATABASE_ASYNCHRONOUS",
		"the database's commits are asynchronous, which a crash may undo, and a pooler keeps this from being changed "+
			"for one "+
			"connection: run ALTER ROLE … SET synchronous_commit = on for the user of the address")
	errNotDirect = errs.New(errs.FailedPrecondition, "DATABASE_NOT_DIRECT",
		"a pooler is behind it that shares sessions: it has to lead to the Postgres server itself")
)

// reach connects once, trying for as long as that makes sense.
func reach(ctx context.Context, c *pgx.ConnConfig, timeout time.Duration) (said answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	began := time.Now()
	var last error
	said, err = backoff.Retry(ctx, func() (answer, error) {
		said, err := probe(ctx, c)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			last = err
		}
		final := !transient(err) || refusedParameter(err) != nil || absent(err) && time.Since(began) > absentFor
		if err != nil && final {
			return said, backoff.Permanent(err)
		}
		return said, err
	}, backoff.WithMaxElapsedTime(0), backoff.WithBackOff(exponential()))
	if err == nil {
		return said, nil
	}
	if last == nil {
		last = fmt.Errorf("%s: no answer within %v: check the address, and that no firewall is in between",
			whereabouts(&c.Config), timeout)
	}
	return said, last
}

// refusedParameter is the refusal of a startup parameter, by a pooler: Postgres itself has other words. nil is that err
// is none.
func refusedParameter(err error) *pgconn.PgError {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "08P01" && strings.Contains(pg.Message, "startup parameter") {
		return pg
	}
	return nil
}

// configure parses the address. What is wrong with it is not repeated: any part of it may be a piece of the password.
func configure(address string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, errors.New("the database's address cannot be understood: want " +
			"postgres://user:password@host:port/database, " +
			"with special characters of the password percent-encoded")
	}
	if u, err := url.Parse(address); err != nil || !u.Query().Has("pool_max_conns") {
		config.MaxConns = int32(max(16, 4*runtime.GOMAXPROCS(0)))
	}
	c := config.ConnConfig
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = dialTimeout
	}
	setDefault(c.RuntimeParams, "application_name", "pawl")
	if c.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		for name, setting := range planning {
			setDefault(c.RuntimeParams, name, setting)
		}
	}
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		conn.TypeMap().RegisterType(&pgtype.Type{
			Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
		})
		registerArrays(conn.TypeMap())
		return nil
	}
	return config, nil
}

// share makes connections fit for a pooler that gives each transaction another session. Statements are described once
// and sent with each use, which keeps the types of the direct way.
func share(c *pgx.ConnConfig) {
	for name := range planning {
		delete(c.RuntimeParams, name)
	}
	c.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
}

// answer is what a first connection tells.
type answer struct {
	async    bool   // commits would be asynchronous
	planMode string // what has become of one of the startup parameters
}

// ignores reports whether the startup parameters were accepted and not applied.
func (a answer) ignores(c *pgx.ConnConfig) bool {
	want, sent := c.RuntimeParams["plan_cache_mode"]
	return sent && a.planMode != want
}

// probe makes one connection. It prepares nothing, so that it tells the same behind a pooler.
func probe(ctx context.Context, config *pgx.ConnConfig) (said answer, err error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return said, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	const ask = "SELECT current_setting('synchronous_commit') = 'off', current_setting('plan_cache_mode')"
	err = conn.QueryRow(ctx, ask, pgx.QueryExecModeSimpleProtocol).Scan(&said.async, &said.planMode)
	return said, err
}

func setDefault(params map[string]string, name, value string) {
	if _, ok := params[name]; !ok {
		params[name] = value
	}
}

// absent reports whether there is nothing at any of the addresses that were tried.
func absent(err error) bool {
	for _, cause := range causes(err) {
		dns := (*net.DNSError)(nil)
		if !errors.As(cause, &dns) && !isAny(cause, syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH,
			syscall.ENOENT) {
			return false
		}
	}
	return true
}

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}

// causes are the errors that err joins, one for each address that was tried.
func causes(err error) []error {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if joined, ok := e.(interface{ Unwrap() []error }); ok {
			var all []error
			for _, one := range joined.Unwrap() {
				all = append(all, causes(one)...)
			}
			return all
		}
	}
	return []error{err}
}

// unreachable says why there is no database to work with, and what to check.
func unreachable(c *pgx.ConnConfig, err error) error {
	return ErrUnavailable.With("the database cannot be reached: %s", oneLine(err, c.Password))
}

// whereabouts are the addresses that a connection is sought at, and as whom.
func whereabouts(c *pgconn.Config) string {
	at := []string{addressOf(c.Host, c.Port)}
	for _, f := range c.Fallbacks {
		if a := addressOf(f.Host, f.Port); !slices.Contains(at, a) {
			at = append(at, a)
		}
	}
	return fmt.Sprintf("%s as %s, database %s", strings.Join(at, ", "), c.User, c.Database)
}

func addressOf(host string, port uint16) string {
	_, address := pgconn.NetworkAddress(host, port)
	return address
}

// reason is a cause in few words, and what to check.
func reason(err error) string {
	var dns *net.DNSError
	var pg *pgconn.PgError
	switch pg = refusedParameter(err); {
	case pg != nil:
		return pg.Message + ": a pooler in between refuses it; remove it from the address, or have the pooler ignore " +
			"it " +
			"(ignore_startup_parameters of PgBouncer)"
	case errors.As(err, &dns):
		return dns.Err + ": check the host's name, " + dns.Name
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: check host and port, and that Postgres runs and listens there"
	case errors.Is(err, syscall.ENOENT):
		return "there is no such socket: check the directory and the port, and that Postgres runs"
	case isAny(err, syscall.EHOSTUNREACH, syscall.ENETUNREACH):
		return "there is no way to that host: check the address and the network"
	case errors.As(err, &pg) && (strings.HasPrefix(pg.Code, "28") || pg.Code == "3D000"):
		return pg.Message + ": check user, password and database's name"
	}
	return err.Error()
}

var blanks = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\s+`) })

// oneLine is the error on one line and without the password. Of several addresses that failed the last is told.
func oneLine(err error, password string) string {
	text := err.Error()
	if connect := (*pgconn.ConnectError)(nil); errors.As(err, &connect) {
		all := causes(connect.Unwrap())
		text = whereabouts(connect.Config) + ": " + reason(all[len(all)-1])
	}
	text = blanks().ReplaceAllString(text, " ")
	if password != "" {
		text = strings.ReplaceAll(text, password, "…")
	}
	return text
}
