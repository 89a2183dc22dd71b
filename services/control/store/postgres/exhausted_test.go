package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A server that lacks space, memory or time is away; a refused value is an answer.
func TestExhaustedServerIsUnavailable(t *testing.T) {
	pool, err := pgxpool.New(t.Context(), "postgres://nobody@127.0.0.1:1/none") // connects to nothing until it is used
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	s := &Store{access: access{pool: pool}, opts: Options{RetryFor: time.Second}}
	for code, want := range map[string]bool{
		"53100": true, "53200": true, "58030": true, "57014": true, "22P02": false, "23514": false, "XX001": false,
	} {
		err := s.retry(t.Context(), func(context.Context, bool) error { return &pgconn.PgError{Code: code} })
		says := ErrUnavailable
		if code == "53100" { // which nobody is charged for, and tells what to do
			says = ErrFull
		}
		if err == nil || errors.Is(err, says) != want {
			t.Errorf("%s: %v", code, err)
		}
	}
}
