package postgres

import (
	"fmt"
	"strings"
)

// table is the rows of R that a statement takes: a parameter for each column, an array, and unnest makes rows of them
// again.
type table[R any] []column[R]

type column[R any] struct {
	name, kind string // as the statement knows it
	pack       func(rows []R) any
}

// col is a column of a type of the database that is filled by get.
func col[R, T any](name, kind string, get func(*R) T) column[R] {
	return column[R]{name: name, kind: kind, pack: func(rows []R) any {
		values := make([]T, len(rows))
		for i := range rows {
			values[i] = get(&rows[i])
		}
		return values
	}}
}

// in is the statement with {rows} for what it takes, as t, behind so many other parameters.
func (t table[R]) in(statement string, before int) string {
	params, names := make([]string, len(t)), make([]string, len(t))
	for i, c := range t {
		params[i], names[i] = fmt.Sprintf("$%d::%s[]", before+i+1, c.kind), c.name
	}
	rows := "unnest(" + strings.Join(params, ", ") + ") AS t(" + strings.Join(names, ", ") + ")"
	return strings.ReplaceAll(statement, "{rows}", rows)
}

// args are the parameters of the statement, those before the rows included.
func (t table[R]) args(rows []R, before ...any) []any {
	args := append(make([]any, 0, len(before)+len(t)), before...)
	for _, c := range t {
		args = append(args, c.pack(rows))
	}
	return args
}
