package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// dialTimeout bounds one attempt, so that a host that swallows packets does not use up the whole wait.
const dialTimeout = 3 * time.Second

// planning is for prepared statements: each is planned once, and well. Every statement here finds its rows by an index, from the
// few rows that it is given. A plan that was made while the tables were empty must say so too, as it stays for a minute or more
// while they grow; and lanes must be locked in the order in which they are given, which a hash join would not do. Where
// statements cannot be prepared, plans are made from the tables as they are, and poolers refuse such parameters anyway.
//
// For the same reason statements compare "state + 0" where they mean to find a row by its key: a partial index that was empty
// when the tables were analysed looks cheaper than any key, and is read from end to end when it no longer is.
var planning = map[string]string{
	"plan_cache_mode": "force_generic_plan", "jit": "off", "enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off",
}

// connect makes the pool and proves that the database answers. A database that starts is waited for, a wrong password is not.
func connect(ctx context.Context, address string, opts Options) (*pgxpool.Pool, error) {
	config, err := configure(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, opts.ConnectTimeout)
	defer cancel()
	var last error
	async, err := backoff.Retry(ctx, func() (bool, error) {
		async, err := probe(ctx, config.ConnConfig)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			last = err
		}
		if err != nil && !transient(err) {
			return false, backoff.Permanent(err)
		}
		return async, err
	}, backoff.WithMaxElapsedTime(0), backoff.WithBackOff(exponential()))
	if err != nil {
		if last == nil {
			c := config.ConnConfig
			last = fmt.Errorf("%s:%d as %s, database %s: no answer within %v", c.Host, c.Port, c.User, c.Database, opts.ConnectTimeout)
		}
		return nil, fmt.Errorf("%w: %s", ErrUnavailable, oneLine(last, config.ConnConfig.Password))
	}
	if async {
		// A lane that was claimed with an asynchronous commit can come back from a crash with an epoch that is then issued twice.
		config.ConnConfig.RuntimeParams["synchronous_commit"] = "on"
	}
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrUnavailable, oneLine(err, config.ConnConfig.Password))
	}
	return pool, nil
}

// configure parses the address. What is wrong with it is not repeated: any part of it may be a piece of the password.
func configure(address string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, errors.New("the database's address cannot be understood: want postgres://user:password@host:port/database, " +
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
		return nil
	}
	return config, nil
}

// probe makes one connection and tells whether its commits would be asynchronous.
func probe(ctx context.Context, config *pgx.ConnConfig) (async bool, err error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	err = conn.QueryRow(ctx, "SELECT current_setting('synchronous_commit') = 'off'").Scan(&async)
	return async, err
}

func setDefault(params map[string]string, name, value string) {
	if _, ok := params[name]; !ok {
		params[name] = value
	}
}

var blanks = regexp.MustCompile(`\s+`)

// oneLine is the error on one line and without the password. Of several addresses that failed the last is told.
func oneLine(err error, password string) string {
	if connect := (*pgconn.ConnectError)(nil); errors.As(err, &connect) {
		text := fmt.Sprintf("%s:%d as %s, database %s", connect.Config.Host, connect.Config.Port, connect.Config.User, connect.Config.Database)
		cause := connect.Unwrap()
		for {
			joined, ok := cause.(interface{ Unwrap() []error })
			if !ok || len(joined.Unwrap()) == 0 {
				break
			}
			all := joined.Unwrap()
			cause = all[len(all)-1]
		}
		err = fmt.Errorf("%s: %w", text, cause)
	}
	text := blanks.ReplaceAllString(err.Error(), " ")
	if password != "" {
		text = strings.ReplaceAll(text, password, "…")
	}
	return text
}
