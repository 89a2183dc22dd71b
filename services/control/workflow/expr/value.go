package expr

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// value is a value of JSON as one of CEL of a type. Lists and objects are converted as far as they are looked at.
func (w *World) value(t *types.Type, raw any) ref.Val {
	if t == nil {
		t = types.DynType
	}
	switch raw := raw.(type) {
	case ref.Val:
		return raw
	case nil:
		return types.NullValue
	case string:
		return w.text(t, raw)
	case bool:
		return types.Bool(raw)
	case int:
		return number(t, int64(raw))
	case int64:
		return number(t, raw)
	case float64:
		if t.Kind() == types.IntKind && raw == math.Trunc(raw) && math.Abs(raw) < 1<<63 {
			return types.Int(raw)
		}
		return types.Double(raw)
	case time.Time:
		return types.Timestamp{Time: raw}
	case time.Duration:
		return types.Duration{Duration: raw}
	case []any:
		item := types.DynType
		if t.Kind() == types.ListKind {
			item = t.Parameters()[0]
		}
		return types.NewDynamicList(typed{w, item}, raw)
	case map[string]any:
		item := types.DynType
		if t.Kind() == types.MapKind {
			item = t.Parameters()[1]
		}
		m := types.NewStringInterfaceMap(typed{w, item}, raw)
		if o := w.Object(t); o != nil {
			return object{m, w, o, raw}
		}
		return m
	}
	return types.DefaultTypeAdapter.NativeToValue(raw)
}

func number(t *types.Type, n int64) ref.Val {
	if t.Kind() == types.DoubleKind {
		return types.Double(n)
	}
	return types.Int(n)
}

// text is a text, or what JSON has only texts for.
func (w *World) text(t *types.Type, s string) ref.Val {
	switch t.Kind() {
	case types.TimestampKind:
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return types.NewErr("%q is no timestamp", s)
		}
		return types.Timestamp{Time: at}
	case types.DurationKind:
		d, err := time.ParseDuration(s)
		if err != nil {
			return types.NewErr("%q is no duration", s)
		}
		return types.Duration{Duration: d}
	case types.BytesKind:
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return types.NewErr("these are no bytes in base64")
		}
		return types.Bytes(b)
	}
	return types.String(s)
}

// typed converts the elements of a list or a map.
type typed struct {
	w    *World
	item *types.Type
}

// NativeToValue implements types.Adapter.
func (t typed) NativeToValue(v any) ref.Val { return t.w.value(t.item, v) }

// NativeToValue implements types.Adapter.
func (w *World) NativeToValue(v any) ref.Val { return w.value(types.DynType, v) }

// object is a map whose values have types by their keys.
type object struct {
	traits.Mapper
	w      *World
	object *Object
	raw    map[string]any
}

// Find implements traits.Mapper.
func (o object) Find(key ref.Val) (ref.Val, bool) {
	name, _ := key.Value().(string)
	v, ok := o.raw[name]
	if !ok {
		return nil, false
	}
	var t *types.Type
	if f := o.object.Fields[name]; f != nil {
		t = f.Type
	}
	return o.w.value(t, v), true
}

// Get implements traits.Indexer.
func (o object) Get(key ref.Val) ref.Val {
	if v, ok := o.Find(key); ok {
		return v
	}
	return types.ValOrErr(key, "%s has no %v", o.object.Title, key.Value())
}

// sorted walks a map in the order of its keys: of which type they are, and then their own order.
type sorted struct{ traits.Mapper }

// Iterator implements traits.Iterable.
func (m sorted) Iterator() traits.Iterator {
	var keys []ref.Val
	it := m.Mapper.Iterator()
	for it.HasNext() == types.True {
		keys = append(keys, it.Next())
	}
	slices.SortFunc(keys, func(a, b ref.Val) int {
		if c, ok := a.(traits.Comparer); ok && a.Type() == b.Type() {
			if n, ok := c.Compare(b).(types.Int); ok {
				return int(n)
			}
		}
		return cmp.Or(cmp.Compare(a.Type().TypeName(), b.Type().TypeName()),
			cmp.Compare(fmt.Sprint(a.Value()), fmt.Sprint(b.Value())))
	})
	return &walk{Iterator: it, keys: keys}
}

// walk is over keys that are known; the Iterator is there for what no walk needs.
type walk struct {
	traits.Iterator
	keys []ref.Val
}

// HasNext implements traits.Iterator.
func (w *walk) HasNext() ref.Val { return types.Bool(len(w.keys) > 0) }

// Next implements traits.Iterator.
func (w *walk) Next() ref.Val {
	next := w.keys[0]
	w.keys = w.keys[1:]
	return next
}

// native is a value as JSON has it: nil, bool, int64, float64, string, []any, map[string]any. left is how many bytes
// it may have.
func native(v ref.Val, left *int) (any, error) {
	if *left -= 8; *left < 0 {
		return nil, errTooLarge
	}
	switch v := v.(type) {
	case types.Null:
		return nil, nil
	case types.Bool:
		return bool(v), nil
	case types.Int:
		return int64(v), nil
	case types.Uint:
		if v > math.MaxInt64 {
			return nil, fmt.Errorf("%d is beyond the whole numbers of 64 bits with a sign", uint64(v))
		}
		return int64(v), nil
	case types.Double:
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, fmt.Errorf("%v is a number that JSON does not have", float64(v))
		}
		return float64(v), nil
	case types.String:
		*left -= len(v)
		return string(v), nil
	case types.Bytes:
		*left -= base64.StdEncoding.EncodedLen(len(v))
		if *left < 0 {
			return nil, errTooLarge
		}
		return base64.StdEncoding.EncodeToString(v), nil
	case types.Timestamp:
		return v.Time.UTC().Format(time.RFC3339Nano), nil
	case types.Duration:
		return v.Duration.String(), nil
	case traits.Lister:
		return nativeList(v, left)
	case traits.Mapper:
		return nativeMap(v, left)
	case *types.Optional:
		if !v.HasValue() {
			return nil, nil
		}
		return native(v.GetValue(), left)
	case *types.Err:
		return nil, v
	}
	return nil, fmt.Errorf("a value of type %s has no JSON", v.Type().TypeName())
}

func nativeList(l traits.Lister, left *int) (any, error) {
	out := []any{}
	for it := l.Iterator(); it.HasNext() == types.True; {
		v, err := native(it.Next(), left)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func nativeMap(m traits.Mapper, left *int) (any, error) {
	out := map[string]any{}
	for it := (sorted{m}).Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		name, ok := key.(types.String)
		if !ok {
			name = types.String(fmt.Sprint(key.Value()))
		}
		*left -= len(name)
		v, err := native(m.Get(key), left)
		if err != nil {
			return nil, err
		}
		out[string(name)] = v
	}
	return out, nil
}
