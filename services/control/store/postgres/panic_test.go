package postgres

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/pgtest"
)

// An operation whose flush panics is answered, and the others of its batch are carried out.
func TestPanicInAFlush(t *testing.T) {
	g := newGroup(func(_ context.Context, ops []*op[int, int]) error {
		for _, o := range ops {
			if o.in == 13 {
				panic("poison")
			}
			o.out = -o.in
		}
		return nil
	})
	var batch []*op[int, int]
	for n := range maxFlush {
		batch = append(batch, &op[int, int]{in: n, done: make(chan struct{})})
	}
	g.settle(t.Context(), batch, once)
	for _, o := range batch {
		<-o.done
		if contain.Is(o.err) != (o.in == 13) || o.in != 13 && (o.err != nil || o.out != -o.in) {
			t.Errorf("%d: %d, %v", o.in, o.out, o.err)
		}
	}
}

// A panic in what takes the rows of a batch costs no connection of the pool.
func TestPanicInABatch(t *testing.T) {
	s, err := Open(t.Context(), pgtest.URL(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for range 2 * s.pool.Config().MaxConns { // it would wait for ever for one more than there are
		batch := &pgx.Batch{}
		batch.Queue(`SELECT generate_series(1, 1000)`).Query(func(pgx.Rows) error { panic("while reading") })
		if err := contain.Do(func() error { return s.send(t.Context(), batch) }); !contain.Is(err) {
			t.Fatal(err)
		}
	}
}
