package rows

import (
	"regexp"
	"strconv"
	"strings"
)

// Statement is one statement of this package, the index of its text in what Texts returns.
type Statement int

// Text is a statement as one database takes it.
type Text struct {
	SQL string
	// Writes says that the statement changes rows, whether or not it returns some.
	Writes bool
	// Clock says that the statement has one parameter more than its arguments, the last: the platform's time.
	Clock bool
}

// Dialect is how a database says what the two do not say alike. $n is the parameter that the statement names, $clock
// is a parameter that the Port adds. Times of parameters and columns are whatever the Port makes of a time.Time.
type Dialect struct {
	Now    string // {now}: the time on the platform's clock
	After  string // {after $n}: $n microseconds later
	Before string // {before $n}: $n microseconds earlier
	Never  string // {never}: when a lane is due that waits for mail alone

	// Seen is {seen}: whoever writes now has seen what was stored before this time.
	Seen string

	List  string // {list $n}: the texts of a JSON array, one a row, as value
	IDs   string // {ids $n}: the same of UUIDs, as id
	Pairs string // {pairs $n}: the pairs of a JSON array of arrays, one a row, as id and seq

	SkipLocked      string // {skip locked}: locks the rows that are read, and leaves out those that others have locked
	SkipLockedLanes string // {skip locked lanes}: the same as commits lock lanes

	// Age is {age}, of segments and turns: what they are found by in the order of their age. For the statements it is a
	// time, see Instant.
	Age  string
	Turn string // {turn}: which row of turns it is
}

// Instant is a time in microseconds since 1970, as an argument. Unlike of a time.Time there is none that means NULL.
type Instant int64

var templates []Text

// reads declares a statement that changes nothing.
func reads(sql string) Statement { return declare(Text{SQL: sql}) }

// writes declares a statement that changes rows.
func writes(sql string) Statement { return declare(Text{SQL: sql, Writes: true}) }

func declare(t Text) Statement {
	templates = append(templates, t)
	return Statement(len(templates) - 1)
}

// Texts is all statements in a dialect, by Statement.
func Texts(d Dialect) []Text {
	texts := make([]Text, len(templates))
	for i, t := range templates {
		texts[i] = d.fill(t)
	}
	return texts
}

var (
	blank     = regexp.MustCompile(`\{([a-z ]+?)(?: (\$\d+))?\}`)
	parameter = regexp.MustCompile(`\$(\d+)`)
)

// fill fills in the blanks of a statement.
func (d Dialect) fill(t Text) Text {
	said := map[string]string{
		"now": d.Now, "seen": d.Seen, "after": d.After, "before": d.Before, "never": d.Never,
		"list": d.List, "ids": d.IDs, "pairs": d.Pairs,
		"skip locked": d.SkipLocked, "skip locked lanes": d.SkipLockedLanes, "age": d.Age, "turn": d.Turn,
	}
	last := 0
	for _, p := range parameter.FindAllStringSubmatch(t.SQL, -1) {
		n, _ := strconv.Atoi(p[1]) // the pattern matches digits only
		last = max(last, n)
	}
	t.SQL = blank.ReplaceAllStringFunc(t.SQL, func(b string) string {
		name := blank.FindStringSubmatch(b)
		text, ok := said[name[1]]
		if !ok {
			panic("no dialect has " + b)
		}
		return strings.ReplaceAll(text, "$n", name[2])
	})
	t.Clock = strings.Contains(t.SQL, "$clock")
	t.SQL = strings.ReplaceAll(t.SQL, "$clock", "$"+strconv.Itoa(last+1))
	return t
}
