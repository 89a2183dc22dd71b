package expr

import (
	"fmt"
	"testing"
)

// BenchmarkCompile checks an expression, as it is when a file is loaded.
func BenchmarkCompile(b *testing.B) {
	s := scope(b, inputSchema)
	b.ReportAllocs()
	for b.Loop() {
		compile(b, s, "input.n > 1 && has(input.maybe) ? input.maybe : input.text + '!'")
	}
}

// BenchmarkFirstEval makes the program of an expression, and evaluates it.
func BenchmarkFirstEval(b *testing.B) {
	e := compile(b, scope(b, inputSchema), "input.n > 1 && has(input.maybe) ? input.maybe : input.text + '!'")
	in := Values{"input": input()}
	b.ReportAllocs()
	for b.Loop() {
		again := *e
		if _, err := again.Eval(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkEval(b *testing.B, source string, in map[string]any) {
	e := compile(b, scope(b, inputSchema), source)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Eval(b.Context(), Values{"input": in}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEvalCondition(b *testing.B) {
	benchmarkEval(b, "input.n > 1 && input.text != ''", input())
}

func BenchmarkEvalText(b *testing.B) { benchmarkEval(b, "input.text + ' ' + string(input.n)", input()) }

// BenchmarkEvalThousand walks 1,000 objects.
func BenchmarkEvalThousand(b *testing.B) {
	in := input()
	objects := []any{}
	for i := range 1000 {
		objects = append(objects, map[string]any{"id": fmt.Sprint(i), "size": int64(i % 7), "note": "x"})
	}
	in["objects"] = objects
	benchmarkEval(b, "input.objects.filter(o, o.size > 3.0).map(o, o.id).size()", in)
}
