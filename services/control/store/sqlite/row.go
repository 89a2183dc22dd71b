package sqlite

import (
	"database/sql/driver"
	"time"

	"github.com/pawl-dev/pawl/services/control/store/rows"
)

// row is the values of one result row. Columns are of STRICT tables, so a value that is not of the type is NULL.
type row []driver.Value

// plain is the row as package rows takes it.
func (r row) plain() rows.Row {
	values := make(rows.Row, len(r))
	for i, v := range r {
		values[i] = v
	}
	return values
}

func (r row) text(i int) string {
	s, _ := r[i].(string)
	return s
}

func (r row) int(i int) int64 {
	n, _ := r[i].(int64)
	return n
}

func (r row) bool(i int) bool { return r.int(i) != 0 }

// blob is nil for NULL and for an empty one: the driver does not tell them apart.
func (r row) blob(i int) []byte {
	b, _ := r[i].([]byte)
	return b
}

func (r row) time(i int) time.Time {
	if us := r.int(i); us != 0 {
		return time.UnixMicro(us).UTC()
	}
	return time.Time{}
}

// micros is how a time is stored.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// optional stores "" as NULL, for columns whose index leaves NULL out.
func optional(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// texts collects the first column of a query.
func (c *conn) texts(s statement, args ...any) (out []string, err error) {
	err = c.rows(s, func(r row) (bool, error) {
		out = append(out, r.text(0))
		return true, nil
	}, args...)
	return out, err
}
