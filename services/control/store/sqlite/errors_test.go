package sqlite

import (
	"context"
	"testing"

	"github.com/pawl-dev/pawl/internal/errs"
)

// A file that cannot be written for now is an outage; a statement that the database refuses is an answer.
func TestOutagesAreTemporary(t *testing.T) {
	s := openAt(t, Memory)
	defer closeStore(t, s)
	try := func(q string) error {
		return s.writes.read(t.Context(), func(c *conn) error {
			_, err := c.raw.ExecContext(context.Background(), q, nil)
			return explain(err)
		})
	}
	if err := try(`SELECT nothing`); err == nil || errs.Temporary(err) {
		t.Errorf("a wrong statement: %v", err)
	}
	if err := try(`PRAGMA query_only = 1`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Admit(t.Context(), admission("x")); !errs.Temporary(err) {
		t.Errorf("a file that cannot be written: %v", err)
	}
}
