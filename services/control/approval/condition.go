package approval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

const (
	// MaxCondition bounds a condition in bytes.
	MaxCondition = 4 << 10
	// maxCost bounds what one evaluation may do, in CEL's units of cost: about as much as looking at every byte of the
	// longest arguments ten times.
	maxCost = 2 << 20
	// maxKnown bounds the conditions that are kept for use.
	maxKnown = 1000
)

// Condition is a CEL expression over `args`, the arguments of a call, and `tool`, its name. Safe for concurrent use.
type Condition struct {
	program cel.Program
	err     error // why there is none
}

// Problem is what is wrong with a condition, and where. Line and Column count from 1, within the condition.
type Problem struct {
	Line, Column int
	Text         string
}

// Check returns what is wrong with a condition about calls of tools that have these JSON Schemas of their arguments,
// nil when nothing is. Without a schema, any argument may be named.
func Check(when string, schemas []json.RawMessage) []Problem {
	if len(when) > MaxCondition {
		return []Problem{{1, 1, fmt.Sprintf("is longer than %d bytes", MaxCondition)}}
	}
	env, err := environment(arguments(schemas))
	if err != nil {
		return []Problem{{1, 1, err.Error()}}
	}
	ast, issues := env.Compile(when)
	if issues.Err() != nil {
		var all []Problem
		for _, e := range issues.Errors() {
			all = append(all, Problem{e.Location.Line(), e.Location.Column() + 1, oneLine(e.Message)})
		}
		return all
	}
	if t := ast.OutputType(); t != cel.BoolType && t != cel.DynType {
		return []Problem{{1, 1, fmt.Sprintf("must be true or false, and is of type %s", t)}}
	}
	return nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// conditions are those that were read, by their text.
var conditions = struct {
	mu   sync.Mutex // guards all
	all  map[string]*Condition
	envs func() (*cel.Env, error)
}{all: map[string]*Condition{}, envs: sync.OnceValues(func() (*cel.Env, error) { return environment(nil) })}

// known reads a condition, once.
func known(when string) *Condition {
	conditions.mu.Lock()
	defer conditions.mu.Unlock()
	if c := conditions.all[when]; c != nil {
		return c
	}
	if len(conditions.all) >= maxKnown {
		clear(conditions.all)
	}
	c := &Condition{}
	c.program, c.err = read(when)
	conditions.all[when] = c
	return c
}

func read(when string) (cel.Program, error) {
	env, err := conditions.envs()
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(when)
	if issues.Err() != nil {
		return nil, errors.New(oneLine(issues.Err().Error()))
	}
	return env.Program(ast, cel.CostLimit(maxCost), cel.EvalOptions(cel.OptOptimize))
}

// Holds reports whether the condition holds of a call. Its errors are for people.
func (c *Condition) Holds(tool string, args json.RawMessage) (bool, error) {
	if c.err != nil {
		return false, c.err
	}
	values, err := decode(args)
	if err != nil {
		return false, err
	}
	out, _, err := c.program.Eval(map[string]any{"args": values, "tool": tool})
	if err != nil {
		return false, errors.New(oneLine(err.Error()))
	}
	holds, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("it is of type %s, and neither true nor false", out.Type().TypeName())
	}
	return holds, nil
}

// decode reads arguments so that whole numbers are ints, as CEL tells these from others.
func decode(args json.RawMessage) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(args))
	dec.UseNumber()
	var all map[string]any
	if err := dec.Decode(&all); err != nil {
		return nil, fmt.Errorf("the arguments are no object: %w", err)
	}
	numbers(all)
	return all, nil
}

func numbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64() // beyond its range it is infinite
		return f
	}
	return v
}

// argsType is the name of the type of args where the arguments of a tool are known.
const argsType = "args"

// environment is what conditions may use. fields are the arguments that there are; nil is any.
func environment(fields map[string]*types.Type) (*cel.Env, error) {
	args, options := cel.MapType(cel.StringType, cel.DynType), []cel.EnvOption{}
	if fields != nil {
		base, err := types.NewRegistry()
		if err != nil {
			return nil, err
		}
		args = types.NewObjectType(argsType)
		options = append(options, cel.CustomTypeProvider(provider{base, fields}))
	}
	options = append(options, cel.Variable("args", args), cel.Variable("tool", cel.StringType),
		cel.CrossTypeNumericComparisons(true))
	return cel.NewEnv(options...)
}

// provider knows the arguments of a tool as the fields of a type. It is for checks only: conditions are evaluated over
// maps.
type provider struct {
	*types.Registry
	fields map[string]*types.Type
}

// FindStructType implements types.Provider.
func (p provider) FindStructType(name string) (*types.Type, bool) {
	if name == argsType {
		return types.NewTypeTypeWithParam(types.NewObjectType(argsType)), true
	}
	return p.Registry.FindStructType(name)
}

// FindStructFieldType implements types.Provider.
func (p provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if name != argsType {
		return p.Registry.FindStructFieldType(name, field)
	}
	t, ok := p.fields[field]
	if !ok {
		return nil, false
	}
	return &types.FieldType{Type: t, IsSet: func(any) bool { return false }, GetFrom: func(any) (any, error) {
		return nil, errors.New("this environment only checks")
	}}, true
}

// NewValue implements types.Provider.
func (p provider) NewValue(name string, fields map[string]ref.Val) ref.Val {
	return p.Registry.NewValue(name, fields)
}

// arguments are the arguments that tools with these schemas have, with their types; nil when there are no schemas.
func arguments(schemas []json.RawMessage) map[string]*types.Type {
	var all map[string]*types.Type
	for _, s := range schemas {
		var schema struct {
			Properties map[string]struct {
				Type any `json:"type"`
			} `json:"properties"`
		}
		if json.Unmarshal(s, &schema) != nil || schema.Properties == nil {
			return nil
		}
		if all == nil {
			all = map[string]*types.Type{}
		}
		for name, p := range schema.Properties {
			t := typeOf(p.Type)
			if other, there := all[name]; there && other != t {
				t = types.DynType
			}
			all[name] = t
		}
	}
	return all
}

// typeOf is CEL's type for one of JSON Schema. A number may be an int or not.
func typeOf(t any) *types.Type {
	switch t {
	case "string":
		return types.StringType
	case "integer":
		return types.IntType
	case "boolean":
		return types.BoolType
	}
	return types.DynType
}
