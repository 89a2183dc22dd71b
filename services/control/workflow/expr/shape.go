package expr

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"

	"github.com/pawl-dev/pawl/services/control/document"
)

// Shape is a type in a form that can be stored.
type Shape struct {
	Kind   string           `json:"kind"` // of CEL: string, int, list, and so on; object for one whose fields are known
	Item   *Shape           `json:"item,omitempty"`
	Fields map[string]Shape `json:"fields,omitempty"`
	Absent string           `json:"absent,omitempty"` // of a field: why it may not be there
	Words  []string         `json:"words,omitempty"`
	Null   bool             `json:"null,omitempty"` // it may be null too
}

// plainTypes are those that have no parts.
var plainTypes = []*types.Type{
	types.StringType, types.IntType, types.UintType, types.DoubleType, types.BoolType, types.BytesType, types.NullType,
	types.TimestampType, types.DurationType, types.DynType,
}

// Shape is a type of the world, with all values that a text can have.
func (w *World) Shape(t *types.Type, words []string) Shape {
	s := Shape{Words: words}
	switch {
	case t == nil:
		s.Kind = "dyn"
	case w.Object(t) != nil:
		s.Kind, s.Fields = "object", map[string]Shape{}
		for name, f := range w.Object(t).Fields {
			field := w.Shape(f.Type, f.Words)
			field.Absent = f.Absent
			s.Fields[name] = field
		}
	case t.Kind() == types.ListKind:
		item := w.Shape(t.Parameters()[0], nil)
		s.Kind, s.Item = "list", &item
	case t.Kind() == types.MapKind:
		item := w.Shape(t.Parameters()[1], nil)
		s.Kind, s.Item = "map", &item
	default:
		i := slices.IndexFunc(plainTypes, func(p *types.Type) bool { return p.Kind() == t.Kind() })
		if i < 0 {
			i = len(plainTypes) - 1
		}
		s.Kind = plainTypes[i].String()
	}
	s.Null = t != nil && t.Kind() != types.DynKind && t.Kind() != types.NullTypeKind &&
		t.IsAssignableType(types.NullType)
	return s
}

// FromShape is the opposite of Shape, in another world.
func (w *World) FromShape(title string, s Shape) (*types.Type, []string) {
	t := types.DynType
	switch s.Kind {
	case "object":
		fields := map[string]*Field{}
		for name, of := range s.Fields {
			f := &Field{Absent: of.Absent}
			f.Type, f.Words = w.FromShape(title+"."+name, of)
			fields[name] = f
		}
		t = w.Add(title, fields)
	case "list", "map":
		item := types.DynType
		if s.Item != nil {
			item, _ = w.FromShape("an item of "+title, *s.Item)
		}
		if t = types.NewListType(item); s.Kind == "map" {
			t = types.NewMapType(types.StringType, item)
		}
	default:
		for _, p := range plainTypes {
			if p.String() == s.Kind {
				t = p
			}
		}
	}
	if s.Null {
		t = types.NewNullableType(t)
	}
	return t, s.Words
}

// Misfit is what is wrong with a value that is given to something.
type Misfit struct{ Field, Text string }

// Misfits tells what of an object cannot be given to something that takes one. What is not known fits.
func (w *World) Misfits(given, takes *types.Type) (all []Misfit) {
	have, want := w.Object(given), w.Object(takes)
	if want == nil {
		return nil
	}
	if have == nil {
		if k := given.Kind(); k != types.DynKind && k != types.MapKind {
			all = append(all, Misfit{"", "takes an object, and is given " + Name(given)})
		}
		return all
	}
	for _, name := range slices.Sorted(maps.Keys(want.Fields)) {
		f := want.Fields[name]
		g := have.Fields[name]
		switch {
		case g == nil && f.Absent == "" && !f.filled:
			all = append(all, Misfit{"", fmt.Sprintf("needs %s in its input", name)})
		case g != nil && !fits(g.Type, f.Type):
			all = append(all, Misfit{name, fmt.Sprintf("takes %s as %s, and is given %s", name, Name(f.Type),
				Name(g.Type))})
		case g != nil && f.Words != nil:
			for _, word := range g.Words {
				if !slices.Contains(f.Words, word) {
					all = append(all, Misfit{name, fmt.Sprintf("takes as %s one of %s, and is given '%s'%s", name,
						strings.Join(f.Words, ", "), document.Printable(word), document.DidYouMean(word, f.Words))})
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have.Fields)) {
		near := document.DidYouMean(name, want.names())
		if want.Fields[name] == nil && (!want.open || near != "") {
			all = append(all, Misfit{name, fmt.Sprintf("takes no %s%s", name, near)})
		}
	}
	return all
}

// fits reports whether a value of a type may be given where another is taken.
func fits(given, takes *types.Type) bool {
	g, t := given.Kind(), takes.Kind()
	object := func(k types.Kind) bool { return k == types.MapKind || k == types.StructKind }
	switch {
	case g == types.DynKind || t == types.DynKind || g == t:
		return true
	case object(g) && object(t), g == types.IntKind && t == types.DoubleKind:
		return true
	case t == types.StringKind && (g == types.TimestampKind || g == types.DurationKind || g == types.BytesKind):
		return true
	}
	return g == types.NullTypeKind && takes.IsAssignableType(types.NullType)
}
