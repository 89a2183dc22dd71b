package rows

import (
	"regexp"
	"strings"
	"testing"
)

var words = Dialect{
	Now: "now($clock)", After: "after($clock, $n)", Before: "before($clock, $n)", List: "list($n)", Pairs: "pairs($n)",
	Seen: "seen($clock)", SkipLocked: "skip", SkipLockedLanes: "skip lanes", Age: "age",
}

// The clock is a parameter after the statement's own, one however often it is read.
func TestBlanksAreFilledIn(t *testing.T) {
	for _, c := range []struct {
		sql, want string
		clock     bool
	}{
		{"a = $1 {skip locked}", "a = $1 skip", false},
		{"{now}", "now($1)", true},
		{"$2 < {after $1} AND {now} {skip locked lanes}", "$2 < after($3, $1) AND now($3) skip lanes", true},
		{"{age} > {before $11} {list $2} {pairs $3} p", "age > before($12, $11) list($2) pairs($3) p", true},
	} {
		if got := words.fill(Text{SQL: c.sql}); got.SQL != c.want || got.Clock != c.clock {
			t.Errorf("%q is filled in as %+v, want %q", c.sql, got, c.want)
		}
	}
}

func TestBlankThatNoDialectHas(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a blank that nothing fills in is left to the database")
		}
	}()
	words.fill(Text{SQL: "a < {later}"})
}

// A statement that is declared as one that reads runs on SQLite's readers, which may not write.
func TestStatementsAreWhatTheyAreDeclaredAs(t *testing.T) {
	verb := regexp.MustCompile(`\b(INSERT|UPDATE|DELETE)\b`)
	for _, text := range Texts(words) {
		if strings.ContainsAny(text.SQL, "{}") {
			t.Errorf("a blank is left in %s", text.SQL)
		}
		if verb.MatchString(text.SQL) != text.Writes {
			t.Errorf("writes: %v, of %s", text.Writes, text.SQL)
		}
	}
}
