package expr

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
)

// Template is a text in which ${{ }} stand around expressions. One that is a single expression and nothing else has
// that expression's type and value.
type Template struct {
	Type  *types.Type
	Words []string // all values that it can have; nil when these are not known
	parts []chunk
	whole bool
}

// chunk is literal text, or an expression.
type chunk struct {
	text string
	expr *Expr
}

// Marks of expressions in texts.
const (
	Open  = "${{"
	Close = "}}"
)

// Literal is a template without expressions.
func Literal(s string) *Template {
	return &Template{Type: types.StringType, Words: []string{s}, parts: []chunk{{text: s}}}
}

// Single is the template that is one expression.
func Single(e *Expr) *Template {
	return &Template{Type: e.Type, Words: e.Words, parts: []chunk{{expr: e}}, whole: true}
}

// Template reads a text. Offsets of problems are within it.
func (s *Scope) Template(source string) (*Template, []Problem) {
	t := &Template{Type: types.StringType}
	var problems []Problem
	var last *Expr
	starts := []int{}
	for at := 0; ; {
		open := strings.Index(source[at:], Open)
		if open < 0 {
			t.literal(source[at:])
			break
		}
		t.literal(source[at : at+open])
		start := at + open + len(Open)
		end := closing(source, start)
		if end < 0 {
			return nil, append(problems, Problem{at + open, "${{ has no }} behind it"})
		}
		e, found := s.Compile(source[start:end])
		for _, p := range found {
			problems = append(problems, Problem{start + p.Offset, p.Text})
		}
		t.parts = append(t.parts, chunk{expr: e})
		starts = append(starts, start+len(source[start:end])-len(strings.TrimLeft(source[start:end], " \t\r\n")))
		last = e
		at = end + len(Close)
	}
	if alone := len(t.parts) == 1; len(problems) > 0 {
		if !alone {
			problems = append(problems, t.inText(starts)...)
		}
		return nil, problems
	}
	if t.whole = len(t.parts) == 1 && last != nil; t.whole {
		t.Type, t.Words = last.Type, last.Words
		if Optional(t.Type) {
			return nil, []Problem{{starts[0], "the value may be none: end with .orValue(…)"}}
		}
		return t, nil
	}
	if len(starts) == 0 {
		t.Words = []string{source}
	}
	if problems = t.inText(starts); len(problems) > 0 {
		return nil, problems
	}
	return t, nil
}

func (t *Template) literal(s string) {
	if s != "" {
		t.parts = append(t.parts, chunk{text: s})
	}
}

// inText refuses what has no form within a text.
func (t *Template) inText(starts []int) (problems []Problem) {
	for _, p := range t.parts {
		if p.text != "" {
			continue
		}
		at := starts[0]
		if starts = starts[1:]; p.expr == nil {
			continue
		}
		switch k := p.expr.Type.Kind(); {
		case Optional(p.expr.Type):
			problems = append(problems, Problem{at, "the value may be none: end with .orValue(…)"})
		case k == types.ListKind:
			problems = append(problems, Problem{at, "a list cannot stand in a text: write .join(', ') or to_json(…)"})
		case k == types.MapKind || k == types.StructKind:
			problems = append(problems, Problem{at, Name(p.expr.Type) + " cannot stand in a text: write to_json(…)"})
		case k == types.BytesKind:
			problems = append(problems, Problem{at, "bytes cannot stand in a text: write base64.encode(…)"})
		case k == types.NullTypeKind:
			problems = append(problems, Problem{at, "null cannot stand in a text"})
		}
	}
	return problems
}

// closing is where the }} of an expression is; texts and maps within it mislead nobody. -1 when there is none.
func closing(s string, at int) int {
	depth := 0
	for at < len(s) {
		switch c := s[at]; {
		case c == '\'' || c == '"':
			end := textEnd(s, at)
			if end < 0 {
				return -1
			}
			at = end
			continue
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		case strings.HasPrefix(s[at:], Close):
			return at
		}
		at++
	}
	return -1
}

// textEnd is behind the text of CEL that begins at a quote. A text in three quotes may have others in it, and one with
// an r before it no escapes.
func textEnd(s string, at int) int {
	quote := s[at : at+1]
	if strings.HasPrefix(s[at:], strings.Repeat(quote, 3)) {
		quote = strings.Repeat(quote, 3)
	}
	raw := at > 0 && (s[at-1] == 'r' || s[at-1] == 'R')
	for at += len(quote); at < len(s); at++ {
		switch {
		case s[at] == '\\' && !raw:
			at++
		case strings.HasPrefix(s[at:], quote):
			return at + len(quote)
		}
	}
	return -1
}

// Expr is the expression of a template that is one and nothing else; nil of any other.
func (t *Template) Expr() *Expr {
	if t.whole {
		return t.parts[0].expr
	}
	return nil
}

// Literal reports the text of a template without expressions.
func (t *Template) Literal() (s string, ok bool) {
	for _, p := range t.parts {
		if p.expr != nil {
			return "", false
		}
		s += p.text
	}
	return s, true
}

// Secrets are the names of the secrets that it uses, in order.
func (t *Template) Secrets() (names []string) {
	for _, p := range t.parts {
		if p.expr != nil {
			names = append(names, p.expr.secrets...)
		}
	}
	return names
}

// Eval is the value: that of the one expression, or a text. Errors are those of Expr.Eval.
func (t *Template) Eval(ctx context.Context, in Values) (any, error) {
	if t.whole {
		return t.parts[0].expr.Eval(ctx, in)
	}
	return t.Text(ctx, in)
}

// Text is the value as a text.
func (t *Template) Text(ctx context.Context, in Values) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		s := p.text
		if p.expr != nil {
			v, err := p.expr.Eval(ctx, in)
			if err != nil {
				return "", err
			}
			if s, err = shown(v); err != nil {
				return "", p.expr.failed(err)
			}
		}
		if b.Len()+len(s) > MaxValue {
			return "", ErrFailed.With("a text is longer than %d bytes", MaxValue)
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

// shown is a value within a text.
func shown(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	case nil:
		return "", errors.New("null cannot stand in a text")
	}
	return "", fmt.Errorf("a list or an object cannot stand in a text: write to_json(…)")
}

// ParseDuration reads a duration of workflows: numbers with units, such as 90s, 2h30m or 7d. Units are ms, s, m, h, d
// and w; a day has 24 hours. It must be positive.
func ParseDuration(s string) (time.Duration, error) {
	units := []struct {
		name string
		of   time.Duration
	}{
		{"ms", time.Millisecond},
		{"s", time.Second},
		{"m", time.Minute},
		{"h", time.Hour},
		{"d", 24 * time.Hour},
		{"w", 7 * 24 * time.Hour},
	}
	total, rest := 0.0, s
next:
	for rest != "" {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789."))
		n, err := strconv.ParseFloat(rest[:digits], 64)
		if err != nil {
			return 0, errDuration
		}
		for _, u := range units {
			after, ok := strings.CutPrefix(rest[digits:], u.name)
			if ok && (after == "" || '0' <= after[0] && after[0] <= '9') {
				total += n * float64(u.of)
				rest = after
				continue next
			}
		}
		return 0, errDuration
	}
	switch {
	case s == "":
		return 0, errDuration
	case total < 1:
		return 0, errors.New("must be longer than 0")
	case total > float64(maxDuration):
		return 0, errors.New("must be at most 10 years")
	}
	return time.Duration(total), nil
}

const maxDuration = 10 * 366 * 24 * time.Hour

var errDuration = errors.New("is no duration: write 90s, 2h30m or 7d")

// String is the text as it can be written: expressions stand between ${{ and }}.
func (t *Template) String() string {
	var b strings.Builder
	for _, c := range t.parts {
		if c.expr == nil {
			b.WriteString(c.text)
			continue
		}
		b.WriteString(Open + " " + strings.TrimSpace(c.expr.Source) + " " + Close)
	}
	return b.String()
}
