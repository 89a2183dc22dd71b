package expr

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"cel.dev/cel-go/common/types"
)

// racing says that the race detector watches, which reserves more memory than any machine has.
var racing bool

// mostAddresses bounds the memory of this test's process: whatever asks for more kills it.
const mostAddresses = 4 << 30

func TestMain(m *testing.M) {
	debug.SetMemoryLimit(1 << 30)
	if !racing {
		limit := syscall.Rlimit{Cur: mostAddresses, Max: mostAddresses}
		if err := syscall.Setrlimit(syscall.RLIMIT_AS, &limit); err != nil {
			fmt.Fprintln(os.Stderr, "bounding the memory of the tests:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// Bounds of one evaluation, whatever the expression: of what it allocates in all, and of how long it takes. A search
// with a regular expression is not interrupted.
const (
	mostAllocated = 512 << 20
	mostTime      = 5 * time.Second
)

// bounded evaluates an expression, and checks that it keeps to the bounds.
func bounded(t *testing.T, e *Expr, in map[string]any) (any, error) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	v, err := e.Eval(t.Context(), Values{"input": in})
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > mostAllocated {
		t.Errorf("%s allocates %d MiB", short(e.Source), n>>20)
	}
	if took > mostTime && !racing {
		t.Errorf("%s takes %v", short(e.Source), took)
	}
	return v, err
}

// nest puts a text into the places of a pattern, again and again.
func nest(pattern, inner string, times int) string {
	for range times {
		inner = strings.ReplaceAll(pattern, "@", inner)
	}
	return inner
}

// chain binds names a0, a1 and so on, each to a pattern of the one before.
func chain(first, pattern, last string, times int) string {
	s := strings.ReplaceAll(last, "@", fmt.Sprintf("a%d", times))
	for i := times; i > 0; i-- {
		s = fmt.Sprintf("cel.bind(a%d, %s, %s)", i, strings.ReplaceAll(pattern, "@", fmt.Sprintf("a%d", i-1)), s)
	}
	return fmt.Sprintf("cel.bind(a0, %s, %s)", first, s)
}

// big is a text of 16 MB, of what hostile expressions are given.
const big = "input.list.join('')"

// hostile are expressions that would grow beyond any memory, or go on for ever.
var hostile = map[string]string{
	"nested replace":          nest("@.replace('x', input.text)", "input.text", 5),
	"replace all of much":     big + ".replace('x', " + big + ")",
	"doubled text":            chain("input.text", "@ + @", "@", 40),
	"doubled bytes":           chain("bytes(input.text)", "@ + @", "@", 40),
	"doubled list":            chain("input.list", "@ + @", "@", 40),
	"a tree of lists":         chain("[1]", "[@, @]", "@ == @", 60),
	"nested base64":           nest("base64.encode(bytes(@))", big, 30),
	"a long separator":        "lists.range(100000).map(x, '').join(input.text)",
	"a long range":            "lists.range(9223372036854775807)",
	"lists of any type":       "lists.range(1000).map(x, dyn(lists.range(100000)) + dyn([x])).size()",
	"a walk without a list":   "lists.range(100000).all(x, lists.range(100000).all(y, x + y >= 0))",
	"split by nothing":        big + ".split('').map(x, x + x)",
	"distinct of many":        "lists.range(20000).map(x, string(x)).distinct().size() == 20000",
	"sets of many":            "sets.equivalent(lists.range(20000), lists.range(20000))",
	"a costly pattern":        big + ".matches('(a?){50}(a?){50}b')",
	"a pattern of many parts": "input.text.matches('((a{0,100}){0,100}){0,100}')",
	"an empty pattern":        "regex.replace(" + big + ", '', input.text)",
	"JSON that is deep":       "parse_json(lists.range(50000).map(x, '[').join(''))",
}

// crowded is an input with long texts and lists.
func crowded() map[string]any {
	in := input()
	in["text"] = strings.Repeat("x", 8<<10)
	list := make([]any, 2000)
	for i := range list {
		list[i] = in["text"]
	}
	in["list"] = list
	return in
}

// What would grow beyond any memory, or go on for ever, is an error.
func TestHostileExpressionsAreBounded(t *testing.T) {
	s := scope(t, inputSchema)
	in := crowded()
	for what, source := range hostile {
		e, problems := s.Compile(source)
		if len(problems) > 0 {
			if !strings.Contains(problems[0].Text, "4 KiB") && !strings.Contains(problems[0].Text, "recursion") {
				t.Errorf("%s: %v", what, problems)
			}
			continue
		}
		begin := time.Now()
		v, err := bounded(t, e, in)
		if err != nil && !errors.Is(err, ErrFailed) {
			t.Errorf("%s: %v", what, err)
		}
		if testing.Verbose() {
			t.Logf("%s in %v: %.40v %.90v", what, time.Since(begin), v, err)
		}
	}
}

// Each function has its bound, and says so.
func TestFunctionsAreBounded(t *testing.T) {
	s := scope(t, inputSchema)
	in := crowded()
	for source, want := range map[string]string{
		big + " + " + big: "a value of 32768000 bytes is too large",
		"cel.bind(b, bytes(input.list.slice(0, 1100).join('')), b + b)":        "18022400 bytes is too large",
		"lists.range(60000) + lists.range(60000)":                              "a list of 120000 elements is too long",
		"[lists.range(60000), lists.range(60000)].flatten()":                   "elements is too long",
		"base64.encode(bytes(input.list.slice(0, 1600).join('')))":             "bytes is too large",
		"input.list.join(input.text)":                                          "bytes is too large",
		"to_json([" + big + ", " + big + "])":                                  "more than 16 MiB",
		"to_json(lists.range(400).map(x, input.text.replace('x', '\\u0001')))": "larger than 16 MiB",
		big + ".split('x').size()":                                             "elements is too long",
		"input.text.replace('x', 'x\\n'.replace('x', input.text)).lines()":     "too large",
		"parse_json('[' + lists.range(70000).map(x, '[[1]]').join(',') + ']')": "more than 200000 values",
		"input.text.matches('a{1000}b{1000}')":                                 "which are too many for a text",
		"input.text.matches('" + strings.Repeat("a", 1025) + "')":              "a pattern of 1025 bytes is too long",
		"input.text.matches('(a)(a)(a)(a)(a)(a)(a)(a)(a)(a)')":                 "the pattern has 10 groups",
		"regex.replace(input.text, 'x', input.text)":                           "67108864 bytes is too large",
	} {
		e := compile(t, s, source)
		if _, err := bounded(t, e, in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %.200v", short(source), err)
		}
	}
}

// A template is bounded as a whole.
func TestTemplatesAreBounded(t *testing.T) {
	s := scope(t, inputSchema)
	tmpl, problems := s.Template(strings.Repeat("${{ input.text }}", 300))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	in := input()
	in["text"] = strings.Repeat("x", 1<<20)
	if _, err := tmpl.Text(t.Context(), Values{"input": in}); !errors.Is(err, ErrFailed) {
		t.Errorf("%v", err)
	}
}

// FuzzEval evaluates any expression over any input. Nothing panics, and every bound is kept.
func FuzzEval(f *testing.F) {
	for _, source := range []string{
		"input.text", "input.list.map(x, x + x).join('')", "to_json(input)", "input.text.replace('', input.text)",
		"lists.range(input.n).map(x, lists.range(x)).flatten()", "parse_json(input.text)",
		"regex.replace(input.text, input.at, input.text)", "cel.bind(a, [input.list], [a, a] + [a])",
		"input.objects.sortBy(o, o.size).distinct()", "input.?maybe.orValue(input.text).substring(1, input.n)",
		"{'a': input.list, 'b': input.map}.transformMap(k, v, v)", "fixed(input.x, input.n)",
		"base64.encode(bytes(input.text)) + string(base64.decode(input.text))",
	} {
		f.Add(source, `{"text":"a","n":3,"x":1.5,"list":["a"],"map":{"a":1},"any":null,"objects":[],"at":""}`)
	}
	if flag.Lookup("test.fuzz").Value.String() != "" { // else TestHostileExpressionsAreBounded runs them
		for _, source := range hostile {
			f.Add(source, "crowded")
		}
	}
	f.Fuzz(func(t *testing.T, source, values string) {
		s := scope(t, inputSchema)
		e, problems := s.Compile(source)
		if len(problems) > 0 {
			for _, p := range problems {
				if p.Offset < 0 || p.Offset > len(source) || p.Text == "" {
					t.Errorf("%q: %v", source, p)
				}
			}
			return
		}
		var in map[string]any
		if json.Unmarshal([]byte(values), &in) != nil {
			in = input()
			if values == "crowded" {
				in = crowded()
			}
		}
		once, err := bounded(t, e, in)
		again, errAgain := bounded(t, e, in)
		slow := func(err error) bool { return err != nil && strings.Contains(err.Error(), MaxTime.String()) }
		if slow(err) || slow(errAgain) {
			return
		}
		if fmt.Sprint(once, err) != fmt.Sprint(again, errAgain) {
			t.Errorf("%q is %v, %v and then %v, %v", source, once, err, again, errAgain)
		}
	})
}

// FuzzTemplate reads any text.
func FuzzTemplate(f *testing.F) {
	for _, source := range []string{
		"plain", "${{ input.text }}", "a ${{ '}}' }} b ${{ {'a': {'b': 1}}.a.b }}", "${{", "${{ r'\\' }}",
		"${{ ''' ' ''' }}",
		"${{ \"\\\"}}\" }}", "$${{ 1 }}", "${{ input.list }} x",
	} {
		f.Add(source)
	}
	f.Fuzz(func(t *testing.T, source string) {
		s := scope(t, inputSchema)
		tmpl, problems := s.Template(source)
		for _, p := range problems {
			if p.Offset < 0 || p.Offset > len(source) {
				t.Errorf("%q: %v", source, p)
			}
		}
		if tmpl == nil {
			return
		}
		if whole, ok := tmpl.Literal(); ok && (whole != source || strings.Contains(source, Open)) {
			t.Errorf("%q is %q", source, whole)
		}
		if v, err := tmpl.Eval(t.Context(), Values{"input": input()}); err == nil && tmpl.Type == types.StringType {
			if _, ok := v.(string); !ok {
				t.Errorf("%q is %#v", source, v)
			}
		}
	})
}
