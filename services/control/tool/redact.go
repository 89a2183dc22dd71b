package tool

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pawl-dev/pawl/internal/rawjson"
)

// MinSecret is the shortest secret that is redacted, in characters: a shorter one would hit ordinary text.
const MinSecret = 6

// Redacted stands where a secret was.
const Redacted = "[redacted]"

// Clean makes of a reply what may be kept of it and shown to the model: every secret is replaced, overlapping ones too,
// also where an executor's cut left only a part of one. Of a secret with several lines each line counts as one, since
// text is often shown line by line. Secrets shorter than MinSecret are left. Apply it before a reply is rendered, which
// makes further cuts.
func Clean(reply Reply, secrets []string) Reply {
	if reply == nil {
		return nil
	}
	return reply.Clean(Cleaner{needles(secrets)})
}

// Redact is a text without secrets.
func Redact(text string, secrets []string) string { return Cleaner{needles(secrets)}.Text(text) }

// Cleaner replaces secrets. Its zero value knows none.
type Cleaner struct{ needles []string }

// NewCleaner replaces secrets as Clean does.
func NewCleaner(secrets []string) Cleaner { return Cleaner{needles(secrets)} }

// Text is s without secrets.
func (c Cleaner) Text(s string) string { return cover(s, spans(s, c.needles)) }

// Beginning is s without secrets where the text was cut behind it, maybe within a secret.
func (c Cleaner) Beginning(s string) string {
	return cover(s, append(spans(s, c.needles), openEnd(s, c.needles)...))
}

// JSON is a JSON value without secrets in its texts. One that has none is left as it is; nil is no JSON.
func (c Cleaner) JSON(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || len(c.needles) == 0 {
		return raw
	}
	in := json.NewDecoder(bytes.NewReader(raw))
	in.UseNumber()
	var v any
	if in.Decode(&v) != nil {
		return nil // nothing that could be looked through
	}
	clean, found := c.value(v)
	if !found {
		return raw
	}
	out, err := rawjson.Encode(clean)
	if err != nil {
		return nil
	}
	return out
}

// value is a JSON value without secrets, and whether it had any.
func (c Cleaner) value(v any) (clean any, found bool) {
	switch v := v.(type) {
	case string:
		text := c.Text(v)
		return text, text != v
	case []any:
		for i := range v {
			one, has := c.value(v[i])
			v[i], found = one, found || has
		}
	case map[string]any:
		for name, of := range v {
			key := c.Text(name)
			one, has := c.value(of)
			if has = has || key != name; has {
				delete(v, name)
				v[key], found = one, true
			}
		}
	}
	return v, found
}

// cleanCaptured looks for secrets twice: escape sequences can be a part of one, and can stand within one.
func cleanCaptured(c Captured, needles []string) Captured {
	c = redactCaptured(c, needles)
	c.Head, c.Tail = []byte(plain(string(c.Head))), []byte(plain(string(c.Tail)))
	return redactCaptured(c, needles)
}

func redactCaptured(c Captured, needles []string) Captured {
	c.Error = cover(c.Error, spans(c.Error, needles))
	if c.Cut <= 0 {
		text := string(c.Head) + string(c.Tail)
		c.Head, c.Tail = []byte(cover(text, spans(text, needles))), nil
		return c
	}
	head, tail := string(c.Head), string(c.Tail)
	c.Head = []byte(cover(head, append(spans(head, needles), openEnd(head, needles)...)))
	c.Tail = []byte(cover(tail, append(spans(tail, needles), openStart(tail, needles)...)))
	return c
}

// needles are the strings to look for. A secret stands in texts that are JSON as JSON has it, with what is escaped for
// HTML or without.
func needles(secrets []string) []string {
	var out []string
	for _, s := range secrets {
		for _, part := range append([]string{s}, strings.Split(s, "\n")...) {
			if part = strings.TrimSpace(part); utf8.RuneCountInString(part) < MinSecret {
				continue
			}
			out = append(out, part)
			plain := rawjson.AppendString(nil, part)
			html, err := json.Marshal(part)
			if err != nil {
				panic(err) // texts always have a form
			}
			for _, form := range [][]byte{plain, html} {
				out = append(out, string(form[1:len(form)-1]))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// span is a piece of text to be covered.
type span struct{ from, to int }

// spans finds every occurrence of every needle, those that overlap included.
func spans(text string, needles []string) []span {
	var out []span
	for _, n := range needles {
		start := len(out)
		for at := 0; ; {
			i := strings.Index(text[at:], n)
			if i < 0 {
				break
			}
			from := at + i
			if last := len(out) - 1; last >= start && from <= out[last].to {
				out[last].to = from + len(n) // or a long run of one character makes as many spans
			} else {
				out = append(out, span{from, from + len(n)})
			}
			at = from + 1
		}
	}
	return out
}

// openEnd finds the beginning of a needle at the end of text that was cut there.
func openEnd(text string, needles []string) []span {
	best := 0
	for _, n := range needles {
		for k := min(len(n)-1, len(text)); k >= MinSecret && k > best; k-- {
			if strings.HasSuffix(text, n[:k]) {
				best = k
			}
		}
	}
	if best == 0 {
		return nil
	}
	return []span{{len(text) - best, len(text)}}
}

// openStart finds the end of a needle at the start of text that was cut there.
func openStart(text string, needles []string) []span {
	best := 0
	for _, n := range needles {
		for k := min(len(n)-1, len(text)); k >= MinSecret && k > best; k-- {
			if strings.HasPrefix(text, n[len(n)-k:]) {
				best = k
			}
		}
	}
	if best == 0 {
		return nil
	}
	return []span{{0, best}}
}

// merge sorts the spans and joins those that overlap or touch.
func merge(found []span) []span {
	slices.SortFunc(found, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var out []span
	for _, f := range found {
		if last := len(out) - 1; last >= 0 && f.from <= out[last].to {
			out[last].to = max(out[last].to, f.to)
			continue
		}
		out = append(out, f)
	}
	return out
}

// cover replaces each run of spans by one Redacted.
func cover(text string, found []span) string {
	if len(found) == 0 {
		return text
	}
	var b strings.Builder
	pos := 0
	for _, f := range merge(found) {
		b.WriteString(text[pos:f.from])
		b.WriteString(Redacted)
		pos = f.to
	}
	b.WriteString(text[pos:])
	return b.String()
}

// Stream redacts output that arrives in pieces, wherever the pieces are cut. It holds back what may be the beginning of
// a secret. Not for concurrent use.
type Stream struct {
	needles []string
	held    string
}

// NewStream redacts as Redact does.
func NewStream(secrets []string) *Stream { return &Stream{needles: needles(secrets)} }

// Next takes a piece and returns what can be shown now, which may be nothing.
func (s *Stream) Next(piece []byte) []byte {
	text := s.held + string(piece)
	end := s.open(text)
	for _, f := range merge(spans(text, s.needles)) {
		if f.from < end && end < f.to {
			end = f.from // what follows may still be a part of this one
		}
	}
	s.held = text[end:]
	return []byte(cover(text[:end], spans(text[:end], s.needles)))
}

// Close returns the rest.
func (s *Stream) Close() []byte {
	rest := cover(s.held, spans(s.held, s.needles))
	s.held = ""
	return []byte(rest)
}

// open is where the longest end of text begins that may grow into a secret.
func (s *Stream) open(text string) int {
	longest := 0
	for _, n := range s.needles {
		longest = max(longest, len(n)-1)
	}
	for i := max(len(text)-longest, 0); i < len(text); i++ {
		for _, n := range s.needles {
			if len(text)-i < len(n) && strings.HasPrefix(n, text[i:]) {
				return i
			}
		}
	}
	return len(text)
}
