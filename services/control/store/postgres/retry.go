package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pawl-dev/pawl/internal/errs"
)

// ErrUnavailable says that the database did not answer for as long as operations are retried.
var ErrUnavailable = errs.New(errs.Unavailable, "DATABASE_UNAVAILABLE", "the database cannot be reached; try again "+
	"later")

// ErrFull says that the server's disk is. What was accepted is kept, and goes on when there is space.
var ErrFull = errs.New(errs.Unavailable, "DATABASE_FULL", "the disk of the database is full: make room and try again")

// transientCodes are the SQLSTATEs after which the same operation may succeed.
var transientCodes = map[string]bool{
	"40001": true, // serialization failure
	"40P01": true, // deadlock
	"25006": true, // read only: a standby that is about to be promoted, or a primary that was replaced
	"53300": true, // too many connections
	"57P01": true, // terminated by an administrator
	"57P02": true, // crash of another backend
	"57P03": true, // starting up or shutting down
	"26000": true, // the prepared statement is gone; pgx prepares it anew
}

// transient reports whether err is a matter of the connection or of concurrency, not of what was asked.
func transient(err error) bool {
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		// A cached plan fails once when a migration has changed its result; pgx prepares it anew.
		return transientCodes[pg.Code] || strings.HasPrefix(pg.Code, "08") ||
			strings.HasPrefix(pg.Message, "cached plan must not change")
	}
	if errors.Is(err, context.Canceled) {
		return false
	}
	var network net.Error
	var connect *pgconn.ConnectError
	return errors.As(err, &network) || errors.As(err, &connect) || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// exhausted reports whether the server lacks what every operation needs: space, memory, files, time. To try again at
// once does not help.
func exhausted(err error) bool {
	pg := (*pgconn.PgError)(nil)
	return errors.As(err, &pg) &&
		(strings.HasPrefix(pg.Code, "53") || strings.HasPrefix(pg.Code, "58") || pg.Code == "57014")
}

// uncertain reports whether the statement that failed with err may have been committed nevertheless.
func uncertain(err error) bool {
	pg := (*pgconn.PgError)(nil)
	connect := (*pgconn.ConnectError)(nil)
	if errors.As(err, &connect) || pgconn.SafeToRetry(err) {
		return false
	}
	// An error that the server reports means that it has not committed, unless it ended while it did.
	return !errors.As(err, &pg) || strings.HasPrefix(pg.Code, "57P") || strings.HasPrefix(pg.Code, "08")
}

// isViolation reports whether a unique constraint refused the statement.
func isViolation(err error) bool {
	pg := (*pgconn.PgError)(nil)
	return errors.As(err, &pg) && pg.Code == "23505"
}

// errMixed says what the startup parameters did not tell, see Open.
var errMixed = errs.New(errs.FailedPrecondition, "DATABASE_SHARES_SESSIONS",
	"a pooler in front of the database mixes up prepared statements: add default_query_exec_mode=cache_describe to "+
		"its address")

// mixed reports whether a prepared statement is missing, or there already, which no session of our own does for long.
func mixed(err error) bool {
	pg := (*pgconn.PgError)(nil)
	return errors.As(err, &pg) && (pg.Code == "26000" || pg.Code == "42P05")
}

func exponential() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 10 * time.Millisecond
	b.MaxInterval = 500 * time.Millisecond
	return b
}

// retry calls f until it succeeds, fails for good or Options.RetryFor has passed. f is told whether an earlier call may
// have been committed; it must be harmless to repeat.
func (s *Store) retry(ctx context.Context, f func(ctx context.Context, again bool) error) error {
	again, met := false, error(nil) // met is the last failure
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		// A connection that has died without a word must not hold up those who share it, and leave time for another.
		bounded, cancel := context.WithTimeout(ctx, s.opts.RetryFor/3)
		defer cancel()
		err := f(bounded, again)
		met = err
		switch {
		case err == nil:
			s.health.answered()
		case ctx.Err() == nil && away(err):
			s.health.failed(oneLine(err, s.pool.Config().ConnConfig.Password))
		}
		if err == nil || ctx.Err() != nil || !transient(err) {
			if err != nil {
				err = backoff.Permanent(err)
			}
			return struct{}{}, err
		}
		again = again || uncertain(err)
		return struct{}{}, err
	}, backoff.WithMaxElapsedTime(s.opts.RetryFor), backoff.WithBackOff(exponential()))
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && met != nil && away(met) {
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	if ctx.Err() == nil && mixed(err) {
		return fmt.Errorf("%w: %w", errMixed, err)
	}
	if pg := (*pgconn.PgError)(nil); ctx.Err() == nil && errors.As(err, &pg) && pg.Code == "53100" {
		return fmt.Errorf("%w (%s)", ErrFull, oneLine(err, s.pool.Config().ConnConfig.Password))
	}
	if ctx.Err() == nil && err != nil && (transient(err) || exhausted(err)) {
		return fmt.Errorf("%w (%s)", ErrUnavailable, oneLine(err, s.pool.Config().ConnConfig.Password))
	}
	return err
}
