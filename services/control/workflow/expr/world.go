package expr

import (
	"fmt"
	"maps"
	"slices"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// World knows the types of objects in one definition. It is complete, and then read only, when the definition is
// loaded.
type World struct {
	types.Provider
	objects map[string]*Object
}

// Object is the type of an object: its fields by name.
type Object struct {
	Fields map[string]*Field
	// Title names the object for people, such as input or step review.
	Title string
	typ   *types.Type
	open  bool // it may have fields that are not known
}

// Field is one field of an object.
type Field struct {
	Type *types.Type
	// Absent says why the field may not be there, "" when it always is.
	Absent string
	// Step says that the field is there whenever its step is completed.
	Step bool
	// Words are all values of a text; nil when these are not known.
	Words []string

	filled bool // with a default, if it is not given
}

// NewWorld is one without objects.
func NewWorld() *World {
	return &World{Provider: base().CELTypeProvider(), objects: map[string]*Object{}}
}

// prefix begins the names of objects' types, which nobody sees.
const prefix = "object_"

// Add makes a type of an object.
func (w *World) Add(title string, fields map[string]*Field) *types.Type {
	o := &Object{Fields: fields, Title: title}
	name := fmt.Sprintf("%s%d", prefix, len(w.objects)+1)
	o.typ = types.NewObjectType(name)
	w.objects[name] = o
	return o.typ
}

// Object is what a type stands for; nil when it is none of an object.
func (w *World) Object(t *types.Type) *Object {
	if t == nil || t.Kind() != types.StructKind {
		return nil
	}
	return w.objects[t.TypeName()]
}

// FindStructType implements types.Provider.
func (w *World) FindStructType(name string) (*types.Type, bool) {
	if o, ok := w.objects[name]; ok {
		return types.NewTypeTypeWithParam(o.typ), true
	}
	return w.Provider.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (w *World) FindStructFieldNames(name string) ([]string, bool) {
	if o, ok := w.objects[name]; ok {
		return o.names(), true
	}
	return w.Provider.FindStructFieldNames(name)
}

func (o *Object) names() []string { return slices.Sorted(maps.Keys(o.Fields)) }

// FindStructFieldType implements types.Provider. The values of objects are maps.
func (w *World) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	o, ok := w.objects[name]
	if !ok {
		return w.Provider.FindStructFieldType(name, field)
	}
	f, ok := o.Fields[field]
	if !ok {
		return nil, false
	}
	get := func(target any) (any, bool) {
		if v, ok := target.(ref.Val); ok {
			target = v.Value()
		}
		all, _ := target.(map[string]any)
		v, ok := all[field]
		return v, ok
	}
	return &types.FieldType{
		Type:  f.Type,
		IsSet: func(target any) bool { _, ok := get(target); return ok },
		GetFrom: func(target any) (any, error) {
			v, ok := get(target)
			if !ok {
				return nil, fmt.Errorf("%s has no %s", o.Title, field)
			}
			return w.value(f.Type, v), nil
		},
	}, true
}

// NewValue implements types.Provider: expressions cannot make objects, only maps.
func (w *World) NewValue(name string, fields map[string]ref.Val) ref.Val {
	if _, ok := w.objects[name]; ok {
		return types.NewErr("no object can be made in an expression: write a map")
	}
	return w.Provider.NewValue(name, fields)
}

// FromSchema is the type of what a JSON Schema allows, and all values that a text can have then. What the schema leaves
// open is of any type.
func (w *World) FromSchema(title string, schema any) (*types.Type, []string) {
	s, ok := schema.(map[string]any)
	if !ok {
		return types.DynType, nil
	}
	if words, ok := enum(s); ok {
		return types.StringType, words
	}
	name, null := singleType(s["type"])
	t := types.DynType
	switch name {
	case "string":
		t = types.StringType
	case "integer":
		t = types.IntType
	case "number":
		t = types.DoubleType
	case "boolean":
		t = types.BoolType
	case "null":
		return types.NullType, nil
	case "array":
		item, _ := w.FromSchema("an item of "+title, s["items"])
		t = types.NewListType(item)
	case "object":
		t = w.fromObject(title, s)
	}
	if null && t != types.DynType {
		t = types.NewNullableType(t)
	}
	return t, nil
}

func (w *World) fromObject(title string, s map[string]any) *types.Type {
	properties, ok := s["properties"].(map[string]any)
	if !ok {
		value, _ := w.FromSchema("a value of "+title, s["additionalProperties"])
		return types.NewMapType(types.StringType, value)
	}
	required, _ := s["required"].([]any)
	fields := map[string]*Field{}
	for name, schema := range properties {
		f := &Field{}
		f.Type, f.Words = w.FromSchema(title+"."+name, schema)
		s, _ := schema.(map[string]any)
		if _, f.filled = s["default"]; !f.filled && !slices.Contains(required, any(name)) {
			f.Absent = "the schema does not require it"
		}
		fields[name] = f
	}
	t := w.Add(title, fields)
	w.Object(t).open = s["additionalProperties"] != false
	return t
}

// enum is the texts that a schema allows; ok is false when it allows others, or something else.
func enum(s map[string]any) (words []string, ok bool) {
	list, _ := s["enum"].([]any)
	if c, has := s["const"]; has {
		list = []any{c}
	}
	for _, v := range list {
		word, isText := v.(string)
		if !isText {
			return nil, false
		}
		words = append(words, word)
	}
	return words, len(words) > 0
}

// singleType is the one type beside null that a schema's type names.
func singleType(t any) (name string, null bool) {
	list, ok := t.([]any)
	if !ok {
		name, _ = t.(string)
		return name, false
	}
	for _, one := range list {
		switch one := one.(type) {
		case string:
			switch {
			case one == "null":
				null = true
			case name != "":
				return "", null
			default:
				name = one
			}
		}
	}
	return name, null
}
