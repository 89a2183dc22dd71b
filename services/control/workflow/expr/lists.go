package expr

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/parser"
)

// byKeys sorts a list by the values of another one.
const byKeys = "@sortByKeys"

// lists are the functions of lists.
func lists() []cel.EnvOption {
	dyn := cel.ListType(cel.DynType)
	return []cel.EnvOption{
		member("slice", []*cel.Type{listOf, whole, whole}, listOf, part),
		cel.Function("flatten",
			cel.MemberOverload("flatten_one", []*cel.Type{cel.ListType(listOf)}, listOf,
				cel.UnaryBinding(func(l ref.Val) ref.Val { return flatten(l, 1) })),
			cel.MemberOverload("flatten_to", []*cel.Type{dyn, whole}, dyn,
				cel.BinaryBinding(func(l, depth ref.Val) ref.Val {
					n, _ := depth.(types.Int)
					return flatten(l, int(n))
				}))),
		comparable("sort", func(t *cel.Type) ([]*cel.Type, *cel.Type) {
			return []*cel.Type{cel.ListType(t)}, cel.ListType(t)
		}, cel.SingletonFunctionBinding(func(a ...ref.Val) ref.Val { return sortBy(a[0], a[0]) })),
		cel.Macros(cel.ReceiverMacro("sortBy", 2, sortByMacro)),
		comparable(byKeys, func(t *cel.Type) ([]*cel.Type, *cel.Type) {
			return []*cel.Type{listOf, cel.ListType(t)}, listOf
		}, cel.SingletonFunctionBinding(func(a ...ref.Val) ref.Val { return sortBy(a[0], a[1]) })),
		member("reverse", []*cel.Type{listOf}, listOf, func(a ...ref.Val) ref.Val {
			all := elements(a[0])
			slices.Reverse(all)
			return listOfValues(all)
		}),
		member("distinct", []*cel.Type{listOf}, listOf, distinct),
		function("lists.range", []*cel.Type{whole}, cel.ListType(whole), func(a ...ref.Val) ref.Val {
			n, _ := a[0].(types.Int)
			switch {
			case n < 0:
				return types.NewErr("lists.range(%d): it is at least 0", n)
			case n > MaxList:
				return tooMany(int(min(n, math.MaxInt32)))
			}
			all := make([]ref.Val, n)
			for i := range all {
				all[i] = types.Int(i)
			}
			return listOfValues(all)
		}),
	}
}

// comparable is a function of lists whose elements have an order.
func comparable(name string, of func(*cel.Type) ([]*cel.Type, *cel.Type), do cel.FunctionOpt) cel.EnvOption {
	var overloads []cel.FunctionOpt
	for _, t := range []*cel.Type{
		cel.IntType, cel.UintType, cel.DoubleType, cel.BoolType, cel.DurationType, cel.TimestampType, cel.StringType,
		cel.BytesType,
	} {
		args, result := of(t)
		overloads = append(overloads, cel.MemberOverload(name+"_"+t.TypeName(), args, result))
	}
	return cel.Function(name, append(overloads, do)...)
}

func listOfValues(all []ref.Val) ref.Val { return types.NewRefValList(types.DefaultTypeAdapter, all) }

// elements are a copy of what a list has.
func elements(v ref.Val) []ref.Val {
	list, ok := v.(traits.Lister)
	if !ok {
		return nil
	}
	all := make([]ref.Val, 0, size(list))
	for it := list.Iterator(); it.HasNext() == types.True; {
		all = append(all, it.Next())
	}
	return all
}

func part(a ...ref.Val) ref.Val {
	from, _ := a[1].(types.Int)
	to, _ := a[2].(types.Int)
	list := a[0].(traits.Lister)
	if n := types.Int(size(list)); from < 0 || to < from || to > n {
		return types.NewErr("slice(%d, %d) of a list of %d elements", from, to, n)
	}
	all := make([]ref.Val, 0, to-from)
	for i := from; i < to; i++ {
		all = append(all, list.Get(i))
	}
	return listOfValues(all)
}

func flatten(v ref.Val, depth int) ref.Val {
	if depth < 0 {
		return types.NewErr("flatten(%d): it is at least 0", depth)
	}
	f := flattening{}
	if list, ok := v.(traits.Lister); !ok || !f.add(list, depth) {
		return tooMany(len(f.all))
	}
	return listOfValues(f.all)
}

// flattening collects the elements of lists in lists.
type flattening struct{ all []ref.Val }

// add reports false once there are too many.
func (f *flattening) add(list traits.Lister, depth int) bool {
	for it := list.Iterator(); it.HasNext() == types.True; {
		one := it.Next()
		if inner, ok := one.(traits.Lister); ok && depth > 0 {
			if !f.add(inner, depth-1) {
				return false
			}
			continue
		}
		if f.all = append(f.all, one); len(f.all) > MaxList {
			return false
		}
	}
	return true
}

// sortBy sorts stably.
func sortBy(list, by ref.Val) ref.Val {
	all, keys := elements(list), elements(by)
	if len(all) != len(keys) {
		return types.NewErr("sortBy: %d elements and %d keys", len(all), len(keys))
	}
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
		if _, ok := keys[i].(traits.Comparer); !ok || keys[i].Type() != keys[0].Type() {
			return types.NewErr("sort: elements must be of one type that can be compared, not %s and %s",
				keys[0].Type().TypeName(), keys[i].Type().TypeName())
		}
	}
	slices.SortStableFunc(order, func(i, j int) int {
		n, _ := keys[i].(traits.Comparer).Compare(keys[j]).(types.Int)
		return int(n)
	})
	out := make([]ref.Val, len(all))
	for i, at := range order {
		out[i] = all[at]
	}
	return listOfValues(out)
}

// sortByMacro makes of list.sortBy(x, f) a walk that binds the list, and sorts it by list.map(x, f).
func sortByMacro(f cel.MacroExprFactory, target ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	const bound = "@sort_input"
	keys, err := parser.MakeMap(f, f.NewIdent(bound), args)
	if err != nil {
		return nil, err
	}
	call := f.NewMemberCall(byKeys, f.NewIdent(bound), keys)
	return f.NewComprehension(f.NewList(), "#unused", bound, target, f.NewLiteral(types.False), f.NewIdent(bound),
		call), nil
}

// distinct keeps the first of equal elements.
func distinct(a ...ref.Val) ref.Val {
	seen, left := map[string]bool{}, MaxValue
	var out []ref.Val
	for _, one := range elements(a[0]) {
		key, err := identity(one, &left)
		if err != nil {
			return types.NewErr("distinct: %v", err)
		}
		if !seen[key] {
			seen[key] = true
			out = append(out, one)
		}
	}
	return listOfValues(out)
}

// identity is a text that two values share if they are equal. left bounds all that are made.
func identity(v ref.Val, left *int) (string, error) {
	key := ""
	switch v := v.(type) {
	case types.Uint:
		key = strconv.FormatUint(uint64(v), 10)
	case types.Int, types.Double, types.String, types.Bool, types.Null, traits.Lister, traits.Mapper:
		plain, err := native(v, left)
		if err != nil {
			return "", err
		}
		key = canonical(plain)
	default:
		key = fmt.Sprintf("%s %v", v.Type().TypeName(), v.Value())
	}
	if *left -= len(key); *left < 0 {
		return "", errTooLarge
	}
	return key, nil
}

// canonical is a text that equal values share. Numbers that are equal are written in one way.
func canonical(v any) string {
	switch v := v.(type) {
	case []any:
		var b strings.Builder
		b.WriteByte('[')
		for _, one := range v {
			b.WriteString(canonical(one) + ",")
		}
		return b.String() + "]"
	case map[string]any:
		var b strings.Builder
		b.WriteByte('{')
		for _, name := range slices.Sorted(maps.Keys(v)) {
			b.WriteString(strconv.Quote(name) + ":" + canonical(v[name]) + ",")
		}
		return b.String() + "}"
	case string:
		return strconv.Quote(v)
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<63 {
			return strconv.FormatInt(int64(v), 10)
		}
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return fmt.Sprint(v)
}

// sets compare lists without regard to order and repetition.
func sets() []cel.EnvOption {
	of := func(name string, holds func(a, b map[string]bool) bool) cel.EnvOption {
		return function(name, []*cel.Type{listOf, listOf}, cel.BoolType, func(v ...ref.Val) ref.Val {
			left := MaxValue
			a, err := identities(v[0], &left)
			if err != nil {
				return types.NewErr("%s: %v", name, err)
			}
			b, err := identities(v[1], &left)
			if err != nil {
				return types.NewErr("%s: %v", name, err)
			}
			return types.Bool(holds(a, b))
		})
	}
	contains := func(a, b map[string]bool) bool {
		for key := range b {
			if !a[key] {
				return false
			}
		}
		return true
	}
	return []cel.EnvOption{
		of("sets.contains", contains),
		of("sets.equivalent", func(a, b map[string]bool) bool { return len(a) == len(b) && contains(a, b) }),
		of("sets.intersects", func(a, b map[string]bool) bool {
			for key := range b {
				if a[key] {
					return true
				}
			}
			return false
		}),
	}
}

func identities(v ref.Val, left *int) (map[string]bool, error) {
	all := map[string]bool{}
	for _, one := range elements(v) {
		key, err := identity(one, left)
		if err != nil {
			return nil, err
		}
		all[key] = true
	}
	return all, nil
}
