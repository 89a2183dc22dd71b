package flue

import (
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Limits of a page.
const (
	defaultPage = 100
	maxPage     = 1000
)

// EventsQuery says which events of a run are wanted.
type EventsQuery struct {
	After int      // those after this index; -1 is all
	Types []string // those of these types; none is all
	Limit int      // at most so many
}

// RunsQuery says which runs are wanted.
type RunsQuery struct {
	Status   RunStatus // "" is all
	Workflow string    // "" is all
	Limit    int       // at most so many
	After    *Cursor   // those that come after it in the list; nil is all
}

// issue is what is wrong with a parameter, in the form of the library that the original checks them with.
type issue struct {
	Kind        string      `json:"kind"`
	Type        string      `json:"type"`
	Input       any         `json:"input"`
	Expected    string      `json:"expected"`
	Received    string      `json:"received"`
	Message     string      `json:"message"`
	Requirement any         `json:"requirement,omitempty"`
	Path        []issuePath `json:"path"`
}

type issuePath struct {
	Type   string         `json:"type"`
	Origin string         `json:"origin"`
	Input  map[string]any `json:"input"`
	Key    string         `json:"key"`
	Value  any            `json:"value"`
}

// query is the parameters of a request and what is wrong with them.
type query struct {
	values map[string]any // a string, or a []string of a parameter that is there more than once
	issues []issue
}

// parseQuery reads the part of a URL after the question mark. A sequence that is malformed stays as it is.
func parseQuery(rawQuery string) *query {
	q := &query{values: map[string]any{}}
	for pair := range strings.SplitSeq(rawQuery, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, value = unescape(name), unescape(value)
		switch before := q.values[name].(type) {
		case nil:
			q.values[name] = value
		case string:
			q.values[name] = []string{before, value}
		case []string:
			q.values[name] = append(before, value)
		}
	}
	return q
}

func unescape(s string) string {
	if out, err := url.QueryUnescape(s); err == nil {
		return out
	}
	return strings.ReplaceAll(s, "+", " ")
}

// add notes what is wrong with a parameter.
func (q *query) add(name string, i issue) {
	i.Path = []issuePath{{"object", "value", q.values, name, q.values[name]}}
	q.issues = append(q.issues, i)
}

// mistyped notes that a parameter is not what is expected.
func (q *query) mistyped(name, kind, expected string) {
	got := "Array"
	if text, ok := q.values[name].(string); ok {
		got = `"` + text + `"`
	}
	q.add(name, issue{
		Kind: "schema", Type: kind, Input: q.values[name], Expected: expected, Received: got,
		Message: "Invalid type: Expected " + expected + " but received " + got,
	})
}

// text is a parameter that is there once; ok is false without it, and when it is there more than once, which is noted.
func (q *query) text(name string) (value string, ok bool) {
	v, given := q.values[name]
	value, ok = v.(string)
	if given && !ok {
		q.mistyped(name, "string", "string")
	}
	return value, ok
}

// picked is a parameter that has to be one of some values, "" without it.
func (q *query) picked(name, kind string, values ...string) string {
	v, given := q.values[name]
	if !given {
		return ""
	}
	if text, ok := v.(string); ok && slices.Contains(values, text) {
		return text
	}
	expected := `"` + strings.Join(values, `" | "`) + `"`
	if len(values) > 1 {
		expected = "(" + expected + ")"
	}
	q.mistyped(name, kind, expected)
	return ""
}

// unmatched notes that a text is not of a form.
func (q *query) unmatched(name, text, pattern, message string) {
	q.add(name, issue{
		Kind: "validation", Type: "regex", Input: text, Expected: pattern, Received: `"` + text + `"`,
		Message: message, Requirement: struct{}{}, // as the original's patterns are encoded
	})
}

const digits = `/^\d+$/`

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// limit is how many are wanted.
func (q *query) limit() int {
	const name = "limit"
	text, ok := q.text(name)
	if !ok {
		return defaultPage
	}
	if !isDigits(text) {
		q.unmatched(name, text, digits, "limit must be an integer between 1 and 1000.")
		return 0
	}
	n, _ := strconv.ParseFloat(text, 64) // one that is out of range is infinite
	switch {
	case n < 1:
		q.outside(name, "min_value", n, ">=", "limit must be at least 1.", 1)
	case n > maxPage:
		q.outside(name, "max_value", n, "<=", "limit must be at most 1000.", maxPage)
	}
	return int(min(n, maxPage))
}

// outside notes that a number is too small or too large.
func (q *query) outside(name, kind string, n float64, sign, message string, bound int) {
	i := issue{
		Kind: "validation", Type: kind, Expected: sign + strconv.Itoa(bound), Received: "Infinity", Message: message,
		Requirement: bound,
	}
	if !math.IsInf(n, 0) {
		i.Input, i.Received = raw(n), string(raw(n))
	}
	q.add(name, i)
}

// failed is what is wrong with the parameters; nil when nothing is.
func (q *query) failed() *Error {
	if len(q.issues) == 0 {
		return nil
	}
	return &Error{
		Status: http.StatusBadRequest, Type: "validation_failed", Message: "Request validation failed.",
		Details: "Invalid query parameters.", Meta: map[string]any{"issues": q.issues},
	}
}

// ParseWait reads the query of a request that starts a run: whether its result is waited for.
func ParseWait(rawQuery string) (wait bool, _ *Error) {
	q := parseQuery(rawQuery)
	wait = q.picked("wait", "literal", "result") != ""
	return wait, q.failed()
}

// ParseEventsQuery reads the query of a request for a run's events.
func ParseEventsQuery(rawQuery string) (EventsQuery, *Error) {
	q, out := parseQuery(rawQuery), EventsQuery{After: -1}
	if after, ok := q.text("after"); ok {
		if isDigits(after) {
			out.After = index(after)
		} else {
			q.unmatched("after", after, digits, "after must be a non-negative integer.")
		}
	}
	if types, ok := q.text("types"); ok {
		out.Types = strings.Split(types, ",")
		if slices.ContainsFunc(out.Types, func(one string) bool { return !slices.Contains(eventTypes, one) }) {
			one := "(" + strings.Join(eventTypes, "|") + ")"
			q.unmatched("types", types, "/^"+one+"(,"+one+")*$/",
				"types must be a comma-separated list of known event type names.")
		}
	}
	out.Limit = q.limit()
	return out, q.failed()
}

// ParseRunsQuery reads the query of a request for a list of runs.
func ParseRunsQuery(rawQuery string) (RunsQuery, *Error) {
	q := parseQuery(rawQuery)
	out := RunsQuery{Status: RunStatus(q.picked("status", "picklist", string(Active), string(Completed),
		string(Errored)))}
	out.Workflow, _ = q.text("workflowName")
	if cursor, ok := q.text("cursor"); ok {
		out.After = parseCursor(cursor)
	}
	out.Limit = q.limit()
	return out, q.failed()
}

// index is the number that digits are. One that is too large is larger than every index.
func index(text string) int {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return math.MaxInt
	}
	return int(n)
}

// maxSafe is the largest integer that JavaScript knows exactly.
const maxSafe = 1<<53 - 1

// ParseLastEventID reads the header Last-Event-ID: the index of the last event that a reader has; -1 without one, and
// for what is none.
func ParseLastEventID(text string) int {
	if !isDigits(text) || index(text) > maxSafe {
		return -1
	}
	return index(text)
}
