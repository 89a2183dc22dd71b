package postgres

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

// table is the rows of R that a statement takes: a parameter for each column, an array, and unnest makes rows of them
// again.
type table[R any] []column[R]

type column[R any] struct {
	name, kind string // as the statement knows it
	types      arrayTypes
	append     func(b []byte, rows []R) ([]byte, error) // the elements, in the database's binary format
	slice      func(rows []R) any
}

// col is a column of a type of the database that is filled by get.
func col[R, T any](name, kind string, get func(*R) T) column[R] {
	types, element := kinds[kind], elementOf[T](kind)
	return column[R]{
		name: name, kind: kind, types: types,
		append: func(b []byte, rows []R) (_ []byte, err error) {
			b = appendArrayHeader(b, types.element, len(rows))
			for i := range rows {
				if b, err = appendElement(b, element, get(&rows[i])); err != nil {
					return b, fmt.Errorf("%s: %w", name, err)
				}
			}
			return b, nil
		},
		slice: func(rows []R) any {
			values := make([]T, len(rows))
			for i := range rows {
				values[i] = get(&rows[i])
			}
			return values
		},
	}
}

// in is the statement with {rows} for what it takes, as t, behind so many other parameters. The condition is always
// true. It makes the planner expect one row, where it would expect ten of arrays that it does not know: to read a table
// of some hundred rows from end to end seems cheaper to it than to find ten by their keys.
func (t table[R]) in(statement string, before int) string {
	params, names := make([]string, len(t)), make([]string, len(t))
	for i, c := range t {
		params[i], names[i] = fmt.Sprintf("$%d::%s[]", before+i+1, c.kind), c.name
	}
	columns := strings.Join(names, ", ")
	rows := "(SELECT " + columns + " FROM unnest(" + strings.Join(params, ", ") + ") WITH ORDINALITY AS u(" + columns +
		", nth) WHERE nth BETWEEN 1 AND 1000000000) AS t"
	return strings.ReplaceAll(statement, "{rows}", rows)
}

// args are the parameters of the statement, those before the rows included.
func (t table[R]) args(rows []R, before ...any) []any {
	args, arrays := append(make([]any, 0, len(before)+len(t)), before...), make([]array[R], len(t))
	for i := range t {
		arrays[i] = array[R]{column: &t[i], rows: rows}
		args = append(args, &arrays[i])
	}
	return args
}

// array is a column of rows as a parameter. It encodes itself: pgx would look at each element through an interface, and
// that cost more than all else that a commit costs here.
type array[R any] struct {
	column *column[R]
	rows   []R
}

// appendBinary implements binaryArray.
func (a *array[R]) appendBinary(b []byte) ([]byte, error) { return a.column.append(b, a.rows) }

// TextValue implements pgtype.TextValuer, for the simple protocol, which has no binary parameters.
func (a *array[R]) TextValue() (pgtype.Text, error) {
	b, err := pgtype.NewMap().Encode(a.column.types.array, pgtype.TextFormatCode, a.column.slice(a.rows), nil)
	return pgtype.Text{String: string(b), Valid: true}, err
}
