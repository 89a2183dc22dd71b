package expr

import (
	"fmt"
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

// Misfit is what is wrong with a part of a value that is given to something.
type Misfit struct {
	Path []string // of fields; none is the whole
	Text string
}

// Misfits tells what of an object cannot be given to something that takes one. What is not known fits.
func (w *World) Misfits(given, takes *types.Type) []Misfit {
	want := w.Object(takes)
	if want == nil {
		return nil
	}
	if have := w.Object(given); have != nil {
		return w.misfits(have, want, nil)
	}
	if k := given.Kind(); k != types.DynKind && k != types.MapKind {
		return []Misfit{{nil, "takes an object, and is given " + Name(given)}}
	}
	return nil
}

// misfits are those of an object at a path.
func (w *World) misfits(have, want *Object, path []string) (all []Misfit) {
	at := func(name string) []string { return append(slices.Clone(path), name) }
	called := func(name string) string { return strings.Join(at(name), ".") }
	for _, name := range want.names() {
		f := want.Fields[name]
		g := have.Fields[name]
		switch {
		case g == nil && f.Absent == "" && !f.filled:
			all = append(all, Misfit{path, fmt.Sprintf("needs %s in its input", called(name))})
		case g == nil:
		case w.Object(g.Type) != nil && w.Object(f.Type) != nil:
			all = append(all, w.misfits(w.Object(g.Type), w.Object(f.Type), at(name))...)
		case !fits(g.Type, f.Type) && g.Type.Kind() == types.ListKind && f.Type.Kind() == types.ListKind:
			all = append(all, Misfit{at(name), fmt.Sprintf("takes each of %s as %s, and is given %s", called(name),
				Name(f.Type.Parameters()[0]), Name(g.Type.Parameters()[0]))})
		case !fits(g.Type, f.Type):
			all = append(all, Misfit{at(name), fmt.Sprintf("takes %s as %s, and is given %s", called(name),
				Name(f.Type), Name(g.Type))})
		case f.Words != nil:
			for _, word := range g.Words {
				if !slices.Contains(f.Words, word) {
					all = append(all, Misfit{at(name), fmt.Sprintf("takes as %s one of %s, and is given '%s'%s",
						called(name), strings.Join(f.Words, ", "), document.Printable(word),
						document.DidYouMean(word, f.Words))})
				}
			}
		}
	}
	for _, name := range have.names() {
		near := document.DidYouMean(name, want.names())
		if want.Fields[name] == nil && (!want.open || near != "") {
			all = append(all, Misfit{at(name), fmt.Sprintf("takes no %s%s", called(name), near)})
		}
	}
	return all
}

// fits reports whether a value of a type may be given where another is taken. A number may be a whole one.
func fits(given, takes *types.Type) bool {
	g, t := given.Kind(), takes.Kind()
	object := func(k types.Kind) bool { return k == types.MapKind || k == types.StructKind }
	number := func(k types.Kind) bool { return k == types.IntKind || k == types.UintKind || k == types.DoubleKind }
	switch {
	case g == types.ListKind && t == types.ListKind:
		return fits(given.Parameters()[0], takes.Parameters()[0])
	case g == types.DynKind || t == types.DynKind || g == t:
		return true
	case object(g) && object(t), number(g) && number(t):
		return true
	case t == types.StringKind && (g == types.TimestampKind || g == types.DurationKind || g == types.BytesKind):
		return true
	}
	return g == types.NullTypeKind && takes.IsAssignableType(types.NullType)
}
