package search

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/dlclark/regexp2/v2"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// backtrack bounds the search of one line for a pattern that Go's own regular expressions, which are linear, cannot
// say.
const backtrack = time.Second

// finder tells where in a line a pattern is found first, -1 for nowhere.
type finder func(line []byte) (at int, err error)

// compile makes a finder of a pattern. Lookarounds and back references work. What is no regular expression in any way
// is searched as text, which note says.
func compile(pattern string, o GrepOptions) (find finder, note string) {
	expr := pattern
	if o.Literal {
		expr = regexp.QuoteMeta(expr)
	}
	if o.IgnoreCase {
		expr = "(?i:" + expr + ")"
	}
	re, err := regexp.Compile(expr)
	if err == nil {
		return func(line []byte) (int, error) {
			if at := re.FindIndex(line); at != nil {
				return at[0], nil
			}
			return -1, nil
		}, ""
	}
	if more, err := regexp2.Compile(expr); err == nil {
		more.MatchTimeout = backtrack
		return func(line []byte) (int, error) {
			at, err := more.FindAllStringIndex(string(line), 1)
			switch {
			case err != nil:
				return -1, sandbox.ErrInvalidArg.With(
					"pattern %q takes too long in a line of %d bytes: make it simpler", pattern, len(line),
				)
			case len(at) == 0:
				return -1, nil
			}
			return at[0][0], nil
		}, ""
	}
	o.Literal = true
	find, _ = compile(pattern, o)
	return find, fmt.Sprintf(
		"The pattern is not a regular expression (%s) and was searched as plain text.", reason(err),
	)
}

// reason is what is wrong with a regular expression.
func reason(err error) string {
	_, what, _ := strings.Cut(err.Error(), "error parsing regexp: ")
	return what
}

// basic takes a pattern as grep without -E does, where \| is an alternation and \( a group; false when it has none of
// these.
func basic(pattern string) (string, bool) {
	swap := strings.NewReplacer(`\\`, `\\`, `\|`, `|`, `\(`, `(`, `\)`, `)`, `|`, `\|`, `(`, `\(`, `)`, `\)`)
	extended := swap.Replace(pattern)
	return extended, strings.Contains(strings.ReplaceAll(pattern, `\\`, ""), `\|`)
}
