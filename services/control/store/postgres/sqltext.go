package postgres

import (
	"regexp"
	"strconv"
)

// fragment is a part of a statement whose parameters are numbered from $1 in itself.
type fragment struct {
	sql    string
	params int
}

var parameter = regexp.MustCompile(`\$(\d+)`)

// compose joins fragments to one statement, numbering their parameters through.
func compose(fragments ...fragment) string {
	var text string
	offset := 0
	for _, f := range fragments {
		text += parameter.ReplaceAllStringFunc(f.sql, func(p string) string {
			n, _ := strconv.Atoi(p[1:]) // the pattern matches digits only
			return "$" + strconv.Itoa(n+offset)
		})
		offset += f.params
	}
	return text
}
