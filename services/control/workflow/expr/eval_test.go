package expr

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"

	"cel.dev/cel-go/common/types"
)

// scope has an input of the types of a schema.
func scope(t testing.TB, schema string) *Scope {
	t.Helper()
	var s any
	if err := json.Unmarshal([]byte(schema), &s); err != nil {
		t.Fatal(err)
	}
	w := NewWorld()
	input, _ := w.FromSchema("input", s)
	return w.NewScope(map[string]*types.Type{"input": input}, nil)
}

const inputSchema = `{"type": "object",
	"required": ["text", "list", "n", "x", "map", "any", "objects", "at", "nil"],
	"properties": {
		"text": {"type": "string"}, "n": {"type": "integer"}, "x": {"type": "number"}, "at": {"type": "string"},
		"list": {"type": "array", "items": {"type": "string"}}, "nil": {"type": ["string", "null"]},
		"map": {"type": "object", "additionalProperties": {"type": "number"}}, "any": {}, "maybe": {"type": "string"},
		"objects": {"type": "array", "items": {"type": "object", "required": ["id", "size"],
			"properties": {"id": {"type": "string"}, "size": {"type": "number"}, "note": {"type": "string"}}}}
	}}`

func input() map[string]any {
	return map[string]any{
		"text": "Hello, Wörld", "n": int64(3), "x": int64(2), "list": []any{"b", "a", "b"}, "nil": nil,
		"map": map[string]any{"z": int64(1), "a": 2.5}, "any": map[string]any{"deep": []any{int64(1), "two"}},
		"at": "2026-01-02T03:04:05Z",
		"objects": []any{
			map[string]any{"id": "one", "size": int64(2)},
			map[string]any{"id": "two", "size": 1.5, "note": "x"},
		},
	}
}

func compile(t testing.TB, s *Scope, source string) *Expr {
	t.Helper()
	e, problems := s.Compile(source)
	if len(problems) > 0 {
		t.Fatalf("%s: %v", source, problems)
	}
	return e
}

func TestEval(t *testing.T) {
	s := scope(t, inputSchema)
	for source, want := range map[string]any{
		"input.n + 1":                        int64(4),
		"input.x + 1.5":                      3.5, // whole in JSON, and a number by its schema
		"input.map.z / 4.0":                  0.25,
		"input.objects.map(o, o.size * 2.0)": []any{4.0, 3.0},
		"input.map.map(k, k)":                []any{"a", "z"},
		"input.any.deep[0] + 1":              int64(2),
		"input.?maybe.orValue('none')":       "none",
		"has(input.maybe)":                   false,
		"input.objects.exists(o, has(o.note) && o.note == 'x')": true,
		"input.nil == null":                              true,
		"timestamp(input.at) + duration('1h')":           "2026-01-02T04:04:05Z",
		"duration('90m')":                                "1h30m0s",
		"input.text.lower().replace(',', '').split(' ')": []any{"hello", "wörld"},
		"input.text.substring(7, 9)":                     "Wö",
		"input.text.substring(7)":                        "Wörld",
		"input.text.substring(0, 100)":                   "Hello, Wörld",
		"'  x '.trim().upper()":                          "X",
		"'a\\r\\nb\\n\\n'.lines()":                       []any{"a", "b"},
		"''.lines()":                                     []any{},
		"input.list.join('+')":                           "b+a+b",
		"input.list.distinct().sort()":                   []any{"a", "b"},
		"[1, 1.0, 2, '1'].distinct()":                    []any{int64(1), int64(2), "1"},
		"[[1], [2, [3]]].flatten()":                      []any{int64(1), int64(2), []any{int64(3)}},
		"[[1], [2, [3]]].flatten(9)":                     []any{int64(1), int64(2), int64(3)},
		"input.objects.sortBy(o, o.size).map(o, o.id)":   []any{"two", "one"},
		"lists.range(3).reverse().slice(0, 2)":           []any{int64(2), int64(1)},
		"sets.contains([1, 2], [2, 2.0])":                true,
		"sets.equivalent([1, 2], [2, 1, 1])":             true,
		"sets.intersects([1, 2], [3])":                   false,
		"fixed(2.0 / 3.0, 2)":                            "0.67",
		"to_json({'b': [1, 2.5, null], 'a': \"<é\"})":    `{"a":"<é","b":[1,2.5,null]}`,
		"parse_json('{\"a\": [1, 1.5]}').a":              []any{int64(1), 1.5},
		"sha256('').substring(0, 8)":                     "e3b0c442",
		"'Ünï & Code!'.slug()":                           "n-code",
		"base64.encode(b'hi')":                           "aGk=",
		"string(base64.decode('aGk'))":                   "hi",
		"'a1b22'.matches('^[a-z]')":                      true,
		"regex.extract('v1.2', 'v([0-9]+)').orValue('')": "1",
		"regex.extractAll('a1b22', '[0-9]+')":            []any{"1", "22"},
		"regex.replace('ab', '(a)(b)', '\\\\2\\\\1')":    "ba",
		"regex.replace('aaa', 'a', 'xy', 2)":             "xyxya",
		"math.greatest(1, 2)":                            int64(2),
		"cel.bind(a, 2, a * a)":                          int64(4),
		"{'b': 1, 'a': 2}.size()":                        int64(2),
		"['x', 'y'].transformMapEntry(i, v, {v: i})":     map[string]any{"x": int64(0), "y": int64(1)},
		"input.map.transformMap(k, v, v + 1.0)":          map[string]any{"a": 3.5, "z": 2.0},
	} {
		e := compile(t, s, source)
		got, err := e.Eval(t.Context(), Values{"input": input()})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %#v, %v; want %#v", source, got, err, want)
		}
	}
}

// A map is walked in the order of its keys, wherever it comes from.
func TestMapsAreWalkedInOrder(t *testing.T) {
	s := scope(t, inputSchema)
	many := map[string]any{}
	for _, c := range "qwertzuiopasdfghjklyxcvbnm" {
		many[string(c)] = int64(c)
	}
	want := "abcdefghijklmnopqrstuvwxyz"
	in := input()
	in["map"], in["any"] = many, many
	for _, source := range []string{
		"input.map.map(k, k).join('')",
		"dyn(input.any).map(k, k).join('')",
		"parse_json(to_json(input.map)).map(k, k).join('')",
		"input.map.transformMap(k, v, v).map(k, k).join('')",
		"cel.bind(m, input.map.transformMap(k, v, k), m.transformList(k, v, v)).join('')",
		"input.map.filter(k, k != '').join('')",
		"[input.map][0].map(k, k).join('')",
	} {
		e := compile(t, s, source)
		for range 20 {
			got, err := e.Eval(t.Context(), Values{"input": in})
			if err != nil || got != want {
				t.Fatalf("%s is %v, %v", source, got, err)
			}
		}
	}
}

// What is not there, and what cannot be computed, is an error that names the expression.
func TestEvalFails(t *testing.T) {
	s := scope(t, inputSchema)
	for source, want := range map[string]string{
		"input.list[7]":                    "index out of bounds",
		"1 / (input.n - 3)":                "division by zero",
		"input.any.none":                   "no such key",
		"parse_json('{')":                  "parse_json: unexpected EOF",
		"parse_json('1 2')":                "there is more behind the value",
		"timestamp(input.text)":            "Hello",
		"input.text.substring(3, 1)":       "the first is at least 0, and at most the second",
		"[1].slice(0, 2)":                  "slice(0, 2) of a list of 1 elements",
		"[dyn(1), 'a'].map(x, x).sort()":   "elements must be of one type",
		"regex.extract('a', '(a)(b)')":     "more than one group",
		"regex.replace('a', 'a', '\\\\1')": `the replacement has \1, and the pattern has 0 groups`,
		"'a'.matches('[')":                 "missing closing ]",
		"fixed(1.0, 21)":                   "0 to 20 digits",
		"1.0 / 0.0":                        "a number that JSON does not have",
		"9223372036854775807 + input.n":    "overflow",
		"base64.decode('?')":               "is no base64",
		"[dyn(1)].map(x, x).join('')":      "no such overload: join(list, string)",
	} {
		e, problems := s.Compile(source)
		if len(problems) > 0 {
			t.Errorf("%s: %v", source, problems)
			continue
		}
		_, err := e.Eval(t.Context(), Values{"input": input()})
		if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), want) ||
			!strings.HasPrefix(err.Error(), source) {
			t.Errorf("%s: %v", source, err)
		}
	}
}

// Whoever cancels an evaluation is told so.
func TestEvalEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	mine := errors.New("mine")
	cancel(mine)
	e := compile(t, scope(t, inputSchema), "lists.range(50000).map(x, lists.range(10).map(y, x + y).size()).size()")
	if _, err := e.Eval(ctx, Values{"input": input()}); !errors.Is(err, mine) {
		t.Errorf("%v", err)
	}
}

// Programs are compiled when they are first used, and only the last ones are kept.
func TestProgramsAreKeptForTheLastOnes(t *testing.T) {
	s := scope(t, inputSchema)
	var all []*Expr
	for i := range maxPrograms + 10 {
		e := compile(t, s, "input.n + "+string(rune('0'+i%10)))
		if _, err := e.Eval(t.Context(), Values{"input": input()}); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	programs.mu.Lock()
	_, oldest := programs.of[all[0]]
	_, newest := programs.of[all[len(all)-1]]
	if n := programs.last.Len(); n != maxPrograms || len(programs.of) != n || oldest || !newest {
		t.Errorf("%d and %d are kept, the oldest %v, the newest %v", n, len(programs.of), oldest, newest)
	}
	programs.mu.Unlock()
	if v, err := all[0].Eval(t.Context(), Values{"input": input()}); err != nil || v != int64(3) {
		t.Errorf("one that was dropped is %v, %v", v, err)
	}
}

// Expressions of one definition are compiled and evaluated at the same time.
func TestEvalConcurrently(t *testing.T) {
	s := scope(t, inputSchema)
	var all []*Expr
	for _, source := range []string{"input.n + 1", "input.objects.map(o, o.id).size()", "has(input.maybe) ? 1 : 2"} {
		all = append(all, compile(t, s, source))
	}
	in := Values{"input": input()}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for _, e := range all {
				if _, err := e.Eval(t.Context(), in); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}
