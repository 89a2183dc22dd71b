package expr

import (
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

// weigh makes lists and maps that are written in an expression look at what they hold. A few of them in each other can
// stand for more than any memory has, because they share what they hold; whoever then compares or walks one would not
// come to an end.
func weigh(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	if c, ok := i.(interpreter.InterpretableConstructor); ok && c != nil {
		return weighed{i}, nil
	}
	return i, nil
}

type weighed struct{ interpreter.InterpretableV2 }

// Exec implements interpreter.InterpretableV2.
func (w weighed) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	v := w.InterpretableV2.Exec(frame)
	b := balance{left: MaxValue}
	b.take(v)
	if t := frame.CostTracker(); t != nil {
		t.EvalZeroArity(nil, w.ID(), weighing{}, types.Int(b.seen))
	}
	if b.left < 0 {
		return types.NewErr("a list or a map holds more than 16 MiB")
	}
	return v
}

// weighing is a call as cost sees it, whose result is how many values were looked at.
type weighing struct{}

// Function implements cost.Call.
func (weighing) Function() string { return weighingName }

// OverloadID implements cost.Call.
func (weighing) OverloadID() string { return weighingName }

const weighingName = "@weigh"

// balance weighs values until nothing is left.
type balance struct {
	left int // bytes
	seen int // values
}

// perValue is about what a value needs in a list or a map, in bytes.
const perValue = 32

// take takes from what is left what a value and all that it holds have in bytes.
func (b *balance) take(v ref.Val) {
	if b.enter(); b.left < 0 {
		return
	}
	switch v := v.(type) {
	case types.String:
		b.left -= len(v)
	case types.Bytes:
		b.left -= len(v)
	case *types.Optional:
		if v.HasValue() {
			b.take(v.GetValue())
		}
	case object:
		b.plain(v.raw)
	case traits.Lister:
		if raw, ok := v.Value().([]any); ok {
			b.plain(raw)
			return
		}
		for it := v.Iterator(); b.left >= 0 && it.HasNext() == types.True; {
			b.take(it.Next())
		}
	case traits.Mapper:
		if raw, ok := v.Value().(map[string]any); ok {
			b.plain(raw)
			return
		}
		for it := v.Iterator(); b.left >= 0 && it.HasNext() == types.True; {
			key := it.Next()
			b.take(key)
			b.take(v.Get(key))
		}
	}
}

// plain is take of what a value of JSON holds, without making values of CEL of it.
func (b *balance) plain(v any) {
	switch v := v.(type) {
	case string:
		b.left -= len(v)
	case []any:
		for _, one := range v {
			if b.enter(); b.left < 0 {
				return
			}
			b.plain(one)
		}
	case map[string]any:
		for name, one := range v {
			if b.enter(); b.left < len(name) {
				b.left = -1
				return
			}
			b.left -= len(name)
			b.plain(one)
		}
	}
}

func (b *balance) enter() {
	b.seen++
	b.left -= perValue
}
