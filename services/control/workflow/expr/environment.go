package expr

import (
	"slices"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"
)

// base is the environment that all expressions share: no variables.
var base = sync.OnceValue(func() *cel.Env {
	e, err := cel.NewCustomEnv(
		cel.StdLib(cel.StdLibSubset(own("_+_", "matches"))),
		cel.OptionalTypes(),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(MaxSource),
		cel.ParserRecursionLimit(100),
		ext.Math(), ext.Bindings(), ext.TwoVarComprehensions(),
		cel.Lib(library(slices.Concat(arithmetic(), texts(), encodings(), lists(), sets(), patterns()))),
	)
	if err != nil {
		panic(err) // it depends on nothing but this package
	}
	return e
})

// own are functions of the standard library that this package has its own forms of, which look before they allocate.
func own(names ...string) *env.LibrarySubset {
	s := env.NewLibrarySubset()
	for _, name := range names {
		s.ExcludeFunctions = append(s.ExcludeFunctions, env.NewFunction(name))
	}
	return s
}

type library []cel.EnvOption

// CompileOptions implements cel.Library.
func (l library) CompileOptions() []cel.EnvOption { return l }

// ProgramOptions implements cel.Library.
func (l library) ProgramOptions() []cel.ProgramOption { return nil }

// Types of functions' arguments.
var (
	text   = cel.StringType
	whole  = cel.IntType
	anyOf  = cel.TypeParamType("T")
	listOf = cel.ListType(anyOf)
	textsT = cel.ListType(cel.StringType)
)

// tooLong refuses a text or bytes.
func tooLong(n int) ref.Val {
	return types.NewErr("a value of %d bytes is too large: at most %d are allowed", n, MaxValue)
}

func tooMany(n int) ref.Val {
	return types.NewErr("a list of %d elements is too long: at most %d are allowed", n, MaxList)
}

// str is the text of a value that the checker, or the guard of the overload, has found to be one.
func str(v ref.Val) string { s, _ := v.(types.String); return string(s) }

// sorting is the name of a function that Compile puts around what is walked: of a map, it walks the keys in order.
const sorting = "@sorted"

// arithmetic is + and @sorted.
func arithmetic() []cel.EnvOption {
	pair := func(name string, a, b, result *cel.Type) cel.FunctionOpt {
		return cel.Overload(name, []*cel.Type{a, b}, result)
	}
	return []cel.EnvOption{
		cel.Function("_+_",
			pair("add_int64", whole, whole, whole),
			pair("add_uint64", cel.UintType, cel.UintType, cel.UintType),
			pair("add_double", cel.DoubleType, cel.DoubleType, cel.DoubleType),
			pair("add_string", text, text, text),
			pair("add_bytes", cel.BytesType, cel.BytesType, cel.BytesType),
			pair("add_list", listOf, listOf, listOf),
			pair("add_duration_duration", cel.DurationType, cel.DurationType, cel.DurationType),
			pair("add_timestamp_duration", cel.TimestampType, cel.DurationType, cel.TimestampType),
			pair("add_duration_timestamp", cel.DurationType, cel.TimestampType, cel.TimestampType),
			cel.SingletonBinaryBinding(add)),
		cel.Function(sorting, cel.Overload("sorted_any", []*cel.Type{anyOf}, anyOf,
			cel.UnaryBinding(func(v ref.Val) ref.Val {
				if m, ok := v.(traits.Mapper); ok {
					return sorted{m}
				}
				return v
			}))),
	}
}

func add(a, b ref.Val) ref.Val {
	_, sizedA := a.(traits.Sizer)
	_, sizedB := b.(traits.Sizer)
	if sizedA && sizedB {
		n, m := size(a), size(b)
		if _, ok := a.(traits.Lister); ok {
			if n+m > MaxList {
				return tooMany(n + m)
			}
		} else if n+m > MaxValue {
			return tooLong(n + m)
		}
	}
	if x, ok := a.(traits.Adder); ok {
		return x.Add(b)
	}
	return types.MaybeNoSuchOverloadErr(a)
}

// size is the bytes of a text, or the elements of something else.
func size(v ref.Val) int {
	switch v := v.(type) {
	case types.String:
		return len(v)
	case types.Bytes:
		return len(v)
	case traits.Sizer:
		n, _ := v.Size().(types.Int)
		return int(n)
	}
	return 1
}

// cost counts what calls do. Those of the standard library that only look at their arguments are left to CEL.
type cost struct{}

// CallCost implements cost.ActualCostEstimator. A call costs a unit, and one for ten bytes or for each element that it
// has read or made.
func (cost) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	if function == weighingName {
		seen, _ := result.(types.Int)
		c := uint64(seen / 2)
		return &c
	}
	if !counted[function] {
		return nil
	}
	n := 0
	if function != "_+_" && function != "bytes" && function != "string" { // what they read is what they make
		for _, a := range args {
			n += units(a)
		}
	}
	if _, list := result.(traits.Lister); !list || function != "_+_" { // a list may be one that a walk adds to
		n += units(result)
	}
	c := uint64(1 + n)
	return &c
}

func units(v ref.Val) int {
	switch v := v.(type) {
	case types.String:
		return len(v) / 10
	case types.Bytes:
		return len(v) / 10
	}
	if _, ok := v.(traits.Sizer); ok {
		return size(v)
	}
	return 0
}

// counted are the functions that cost is asked about.
var counted = func() map[string]bool {
	all := map[string]bool{}
	for _, name := range []string{
		"_+_", "matches", "lines", "trim", "lower", "upper", "split", "join", "replace", "substring", "slug", "fixed",
		"parse_json", "to_json", "sha256", "base64.encode", "base64.decode", "slice", "flatten", "sort",
		"@sortByKeys", "reverse", "distinct", "lists.range", "sets.contains", "sets.equivalent", "sets.intersects",
		"regex.extract", "regex.extractAll", "regex.replace", sorting, "string", "bytes",
	} {
		all[name] = true
	}
	return all
}()
