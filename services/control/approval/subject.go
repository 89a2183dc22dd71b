package approval

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/pawl-dev/pawl/internal/rawjson"
)

// Digest names what is to be decided about: a tool, its arguments as they were understood, with secrets, and where it
// is to run. It is computed again before what was approved is done.
func Digest(tool string, args json.RawMessage, cwd string) []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%q\n%q\n", tool, cwd)
	h.Write(args)
	return h.Sum(nil)
}

// Show fills in the arguments and the diff as people see them: without secrets, which clean takes out of a text, and
// within MaxArguments each.
func (s *Subject) Show(args json.RawMessage, diff string, clean func(string) string) {
	s.show(args, diff, MaxArguments, clean)
}

func (s *Subject) show(args json.RawMessage, diff string, size int, clean func(string) string) {
	s.Diff, s.Cut = bound(clean(diff), size)
	var all any
	if json.Unmarshal(args, &all) != nil {
		all = string(args) // it came out of an encoder
	}
	for most := size; ; most /= 2 {
		text, cut := all, false
		text = walk(text, func(s string) string {
			s, short := bound(clean(s), most)
			cut = cut || short
			return s
		})
		body, err := rawjson.Encode(text)
		if err == nil && len(body) <= size {
			s.Arguments, s.Cut = body, s.Cut || cut
			return
		}
		if most == 0 { // too many of them
			head, _ := bound(string(body), size/8)
			s.Arguments, _ = rawjson.Encode(head)
			s.Cut = true
			return
		}
	}
}

// Brief shortens what is shown, for lists.
func (s *Subject) Brief(most int) {
	if len(s.Arguments) <= most && len(s.Diff) <= most {
		return
	}
	args, cut := s.Arguments, s.Cut
	s.show(args, s.Diff, most, func(s string) string { return s })
	s.Cut = s.Cut || cut
}

// walk is a value of JSON with each of its texts as f has it, names included.
func walk(v any, f func(string) string) any {
	switch v := v.(type) {
	case string:
		return f(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = walk(v[i], f)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, value := range v {
			out[f(k)] = walk(value, f)
		}
		return out
	}
	return v
}

// bound is s, or its beginning with a note of what is cut.
func bound(s string, most int) (string, bool) {
	if len(s) <= most {
		return s, false
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s… [%d more bytes]", strings.ToValidUTF8(s[:cut], ""), len(s)-cut), true
}
