package expr

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// texts are the functions of texts.
func texts() []cel.EnvOption {
	return []cel.EnvOption{
		onText("trim", strings.TrimSpace),
		onText("lower", strings.ToLower),
		onText("upper", strings.ToUpper),
		onText("slug", slug),
		member("lines", []*cel.Type{text}, textsT, func(a ...ref.Val) ref.Val { return lines(str(a[0])) }),
		member("split", []*cel.Type{text, text}, textsT, func(a ...ref.Val) ref.Val {
			if n := strings.Count(str(a[0]), str(a[1])); n > MaxList {
				return tooMany(n)
			}
			return listOfTexts(strings.Split(str(a[0]), str(a[1])))
		}),
		member("join", []*cel.Type{textsT, text}, text, join),
		member("replace", []*cel.Type{text, text, text}, text, func(a ...ref.Val) ref.Val {
			s, old, to := str(a[0]), str(a[1]), str(a[2])
			if n := len(s) + strings.Count(s, old)*(len(to)-len(old)); n > MaxValue {
				return tooLong(n)
			}
			return types.String(strings.ReplaceAll(s, old, to))
		}),
		cel.Function("substring",
			cel.MemberOverload("substring_from", []*cel.Type{text, whole}, text, cel.FunctionBinding(substring)),
			cel.MemberOverload("substring_from_to", []*cel.Type{text, whole, whole}, text,
				cel.FunctionBinding(substring))),
		function("sha256", []*cel.Type{text}, text, func(a ...ref.Val) ref.Val {
			sum := sha256.Sum256([]byte(str(a[0])))
			return types.String(hex.EncodeToString(sum[:]))
		}),
		function("fixed", []*cel.Type{cel.DoubleType, whole}, text, func(a ...ref.Val) ref.Val {
			digits, _ := a[1].(types.Int)
			number, _ := a[0].(types.Double)
			if digits < 0 || digits > 20 {
				return types.NewErr("fixed has 0 to 20 digits behind the point, not %d", digits)
			}
			return types.String(strconv.FormatFloat(float64(number), 'f', int(digits), 64))
		}),
	}
}

// member is a function that is called on its first argument.
func member(name string, args []*cel.Type, result *cel.Type, do func(...ref.Val) ref.Val) cel.EnvOption {
	return cel.Function(name, cel.MemberOverload("member_"+name, args, result, cel.FunctionBinding(do)))
}

func function(name string, args []*cel.Type, result *cel.Type, do func(...ref.Val) ref.Val) cel.EnvOption {
	return cel.Function(name, cel.Overload("function_"+strings.ReplaceAll(name, ".", "_"), args, result,
		cel.FunctionBinding(do)))
}

// onText is a function from a text to one that is at most three times as long.
func onText(name string, do func(string) string) cel.EnvOption {
	return member(name, []*cel.Type{text}, text, func(a ...ref.Val) ref.Val {
		out := do(str(a[0]))
		if len(out) > MaxValue {
			return tooLong(len(out))
		}
		return types.String(out)
	})
}

func listOfTexts(list []string) ref.Val { return types.NewStringList(types.DefaultTypeAdapter, list) }

// lines are the lines of a text without their ends. Empty lines at the end count for nothing.
func lines(s string) ref.Val {
	s = strings.TrimRight(s, "\r\n")
	if s == "" {
		return listOfTexts([]string{})
	}
	if n := strings.Count(s, "\n") + 1; n > MaxList {
		return tooMany(n)
	}
	list := strings.Split(s, "\n")
	for i, line := range list {
		list[i] = strings.TrimSuffix(line, "\r")
	}
	return listOfTexts(list)
}

func join(a ...ref.Val) ref.Val {
	list, between := a[0].(traits.Lister), str(a[1])
	total := 0
	for it := list.Iterator(); it.HasNext() == types.True; {
		one, ok := it.Next().(types.String)
		if !ok {
			return types.NewErr("join: the list has elements that are no text: write list.map(x, string(x)) before it")
		}
		if total += len(one) + len(between); total > MaxValue+len(between) {
			return tooLong(total)
		}
	}
	var b strings.Builder
	b.Grow(total)
	first := true
	for it := list.Iterator(); it.HasNext() == types.True; {
		if !first {
			b.WriteString(between)
		}
		first = false
		b.WriteString(str(it.Next()))
	}
	return types.String(b.String())
}

// substring counts characters. Beyond the end is the end.
func substring(a ...ref.Val) ref.Val {
	s := str(a[0])
	from, _ := a[1].(types.Int)
	to := types.Int(len(s))
	if len(a) == 3 {
		to, _ = a[2].(types.Int)
	}
	if from < 0 || to < from {
		return types.NewErr("substring(%d, %d): the first is at least 0, and at most the second", from, to)
	}
	start := skip(s, int(from))
	return types.String(s[start : start+skip(s[start:], int(to-from))])
}

// skip is how many bytes the first n characters have.
func skip(s string, n int) int {
	at := 0
	for ; n > 0 && at < len(s); n-- {
		_, size := utf8.DecodeRuneInString(s[at:])
		at += size
	}
	return at
}

// slug is a text as it can stand in a path or a name: a-z, 0-9, and - for all others.
func slug(s string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(s) {
		switch {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
			b.WriteRune(c)
		case b.Len() > 0 && b.String()[b.Len()-1] != '-':
			b.WriteByte('-')
		}
	}
	return strings.TrimRight(b.String(), "-")
}
