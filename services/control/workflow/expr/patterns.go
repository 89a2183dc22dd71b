package expr

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Bounds of regular expressions.
const (
	maxPattern = 1024 // bytes
	maxProgram = 2000 // instructions: a short pattern can have many
	maxGroups  = 9
	maxWork    = 32 << 20 // instructions times bytes of the text: a search looks at each for each, at worst
)

// patterns are the functions of regular expressions in Go's syntax, which is RE2's.
func patterns() []cel.EnvOption {
	matches := func(a ...ref.Val) ref.Val {
		re, err := pattern(a)
		if err != nil {
			return types.WrapErr(err)
		}
		return types.Bool(re.MatchString(str(a[0])))
	}
	return []cel.EnvOption{
		cel.Function("matches",
			cel.Overload("matches_pattern", []*cel.Type{text, text}, cel.BoolType, cel.FunctionBinding(matches)),
			cel.MemberOverload("text_matches_pattern", []*cel.Type{text, text}, cel.BoolType,
				cel.FunctionBinding(matches))),
		function("regex.extract", []*cel.Type{text, text}, cel.OptionalType(text), extract),
		function("regex.extractAll", []*cel.Type{text, text}, textsT, extractAll),
		cel.Function("regex.replace",
			cel.Overload("regex_replace_all", []*cel.Type{text, text, text}, text, cel.FunctionBinding(replaceAll)),
			cel.Overload("regex_replace_some", []*cel.Type{text, text, text, whole}, text,
				cel.FunctionBinding(replaceAll))),
	}
}

// pattern compiles the second argument for a search in the first.
func pattern(a []ref.Val) (*regexp.Regexp, error) {
	source := str(a[1])
	if len(source) > maxPattern {
		return nil, fmt.Errorf("a pattern of %d bytes is too long: at most %d are allowed", len(source), maxPattern)
	}
	parsed, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		return nil, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	n := len(program.Inst)
	if n > maxProgram || n*len(str(a[0])) > maxWork {
		return nil, fmt.Errorf("the pattern has %d parts, which are too many for a text of %d bytes", n, len(str(a[0])))
	}
	re, err := regexp.Compile(source)
	if err == nil && re.NumSubexp() > maxGroups {
		return nil, fmt.Errorf("the pattern has %d groups in parentheses, and at most %d are allowed: write (?:…) for "+
			"those that are not wanted", re.NumSubexp(), maxGroups)
	}
	return re, err
}

var errGroups = errors.New("the pattern has more than one group in parentheses: write (?:…) for others")

// wanted is what of a match is meant: its group, if there is one.
func wanted(re *regexp.Regexp, s string, match []int) (string, bool) {
	at := 0
	if re.NumSubexp() == 1 {
		at = 2
	}
	if match[at] < 0 {
		return "", false
	}
	return s[match[at]:match[at+1]], true
}

func extract(a ...ref.Val) ref.Val {
	re, err := pattern(a)
	if err != nil {
		return types.WrapErr(err)
	}
	if re.NumSubexp() > 1 {
		return types.WrapErr(errGroups)
	}
	if match := re.FindStringSubmatchIndex(str(a[0])); match != nil {
		if s, ok := wanted(re, str(a[0]), match); ok {
			return types.OptionalOf(types.String(s))
		}
	}
	return types.OptionalNone
}

func extractAll(a ...ref.Val) ref.Val {
	re, err := pattern(a)
	if err != nil {
		return types.WrapErr(err)
	}
	if re.NumSubexp() > 1 {
		return types.WrapErr(errGroups)
	}
	found := re.FindAllStringSubmatchIndex(str(a[0]), MaxList+1)
	if len(found) > MaxList {
		return tooMany(len(found))
	}
	out := []string{}
	for _, match := range found {
		if s, ok := wanted(re, str(a[0]), match); ok {
			out = append(out, s)
		}
	}
	return listOfTexts(out)
}

// replaceAll puts a text in place of matches, in which \1 is a group and \\ a backslash.
func replaceAll(a ...ref.Val) ref.Val {
	re, err := pattern(a)
	if err != nil {
		return types.WrapErr(err)
	}
	most := types.Int(MaxList)
	if len(a) == 4 {
		if n, _ := a[3].(types.Int); n >= 0 {
			most = min(most, n)
		}
	}
	parts, err := replacement(str(a[2]), re.NumSubexp())
	if err != nil {
		return types.WrapErr(err)
	}
	s := str(a[0])
	found := re.FindAllStringSubmatchIndex(s, int(most)+1)
	if len(found) > MaxList {
		return types.NewErr("the pattern is found more than %d times", MaxList)
	}
	found = found[:min(len(found), int(most))]
	n := len(s)
	for _, match := range found {
		n += growth(parts, match)
	}
	if n > MaxValue {
		return tooLong(n)
	}
	var b strings.Builder
	at := 0
	for _, match := range found {
		b.WriteString(s[at:match[0]])
		for _, p := range parts {
			b.WriteString(p.in(s, match))
		}
		at = match[1]
	}
	b.WriteString(s[at:])
	return types.String(b.String())
}

// piece is literal text, or a group of the match.
type piece struct {
	text  string
	group int // -1 of text
}

func (p piece) in(s string, match []int) string {
	if p.group < 0 {
		return p.text
	}
	if match[2*p.group] < 0 {
		return ""
	}
	return s[match[2*p.group]:match[2*p.group+1]]
}

// growth is how many bytes more than the match its replacement has.
func growth(parts []piece, match []int) int {
	n := match[0] - match[1]
	for _, p := range parts {
		if p.group < 0 {
			n += len(p.text)
		} else {
			n += match[2*p.group+1] - match[2*p.group]
		}
	}
	return n
}

// replacement takes the text of a replacement apart.
func replacement(s string, groups int) ([]piece, error) {
	var parts []piece
	for s != "" {
		at := strings.IndexByte(s, '\\')
		if at < 0 {
			return append(parts, piece{s, -1}), nil
		}
		if at > 0 {
			parts = append(parts, piece{s[:at], -1})
		}
		if at+1 == len(s) {
			return nil, errors.New(`a replacement cannot end with \: write \\`)
		}
		c := s[at+1]
		switch {
		case c == '\\':
			parts = append(parts, piece{`\`, -1})
		case c < '0' || c > '9':
			return nil, errors.New(`in a replacement \ must be followed by a digit or another \`)
		case int(c-'0') > groups:
			return nil, fmt.Errorf("the replacement has \\%c, and the pattern has %d groups", c, groups)
		default:
			parts = append(parts, piece{"", int(c - '0')})
		}
		s = s[at+2:]
	}
	return parts, nil
}
