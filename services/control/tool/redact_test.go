package tool

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestRedact(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		secrets []string
		want    string
	}{
		"none":         {"nothing here", nil, "nothing here"},
		"every one":    {"a hunter2 b hunter2", []string{"hunter2"}, "a [redacted] b [redacted]"},
		"six":          {"abcdef", []string{"abcdef"}, "[redacted]"},
		"five":         {"abcde", []string{"abcde"}, "abcde"},
		"characters":   {"äöüäö", []string{"äöüäö"}, "äöüäö"},
		"six of them":  {"äöüäöü", []string{"äöüäöü"}, "[redacted]"},
		"longer first": {"xx secret-key yy", []string{"secret", "secret-key"}, "xx [redacted] yy"},
		"overlap":      {"abcdefghij!", []string{"abcdef", "cdefghij"}, "[redacted]!"},
		"with itself":  {"aaaaaaaa.", []string{"aaaaaa"}, "[redacted]."},
		"touching":     {"secretsecret", []string{"secret"}, "[redacted]"},
		"lines": {
			"12: first-line\n13: second-line",
			[]string{"first-line\nsecond-line\n"},
			"12: [redacted]\n13: [redacted]",
		},
		"trimmed": {"a secret b", []string{" secret\n"}, "a [redacted] b"},
		"empty":   {"abc", []string{""}, "abc"},
	} {
		if got := cover(c.text, spans(c.text, needles(c.secrets))); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestClean(t *testing.T) {
	secrets := []string{"topsecret"}
	b := func(s string) []byte { return []byte(s) }
	for name, c := range map[string]struct{ in, want Reply }{
		"read": {
			TextReply{Content: b("a topsecret b topsec"), TotalLines: 1},
			TextReply{Content: b("a [redacted] b topsec"), TotalLines: 1},
		},
		"line cut": {
			TextReply{Content: b("a topsec"), LineCut: true},
			TextReply{Content: b("a [redacted]"), LineCut: true},
		},
		"directory": {
			TextReply{IsDir: true, Entries: []string{"a", "topsecret.txt"}},
			TextReply{IsDir: true, Content: b(""), Entries: []string{"a", "[redacted].txt"}},
		},
		"edit": {EditReply{Replacements: 1, Diff: "+topsecret"}, EditReply{Replacements: 1, Diff: "+[redacted]"}},
		"exec": {
			ExecReply{
				ExitCode: 1, Stdout: Captured{Head: b("x tops"), Tail: b("ecret y")},
				Stderr: Captured{Tail: b("topsecret")},
			},
			ExecReply{
				ExitCode: 1, Stdout: Captured{Head: b("x [redacted] y")},
				Stderr: Captured{Head: b("[redacted]")},
			},
		},
		"exec, cut": {
			ExecReply{Stdout: Captured{Head: b("topsecret x topsecr"), Tail: b("psecret y topsecret"), Cut: 5}},
			ExecReply{
				Stdout: Captured{Head: b("[redacted] x [redacted]"), Tail: b("[redacted] y [redacted]"), Cut: 5},
				Stderr: Captured{Head: b("")},
			},
		},
		"exec, cut elsewhere": {
			ExecReply{Stdout: Captured{Head: b("tops"), Tail: b("cret"), Cut: 5}},
			ExecReply{Stdout: Captured{Head: b("tops"), Tail: b("cret"), Cut: 5}, Stderr: Captured{Head: b("")}},
		},
		"notes": {EditReply{Note: "topsecret"}, EditReply{Note: "[redacted]"}},
		"note":  {GrepReply{Note: "topsecret"}, GrepReply{Note: "[redacted]"}},
		"grep": {GrepReply{Total: 3, Matches: []Match{
			{"topsecret", 1, "topsecret"},
			{"p", 2, "a topsecr..."},
			{"p", 3, "a topsecr"},
		}}, GrepReply{Total: 3, Matches: []Match{{"[redacted]", 1, "[redacted]"}, {
			"p", 2,
			"a [redacted]...",
		}, {"p", 3, "a [redacted]"}}}},
		"glob": {
			GlobReply{Paths: []string{"d/topsecret"}, Note: "topsecret"},
			GlobReply{Paths: []string{"d/[redacted]"}, Note: "[redacted]"},
		},
		"failure":  {Failure{Reason: "X", Message: "no topsecret"}, Failure{Reason: "X", Message: "no [redacted]"}},
		"write":    {WriteReply{Size: 1}, WriteReply{Size: 1}},
		"no reply": {nil, nil},
	} {
		if got := Clean(c.in, secrets); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
	in := GrepReply{Matches: []Match{{"p", 1, "topsecret"}}}
	Clean(in, secrets)
	if in.Matches[0].Text != "topsecret" {
		t.Error("the reply that was given changed")
	}
	dir := TextReply{Entries: []string{"topsecret"}}
	Clean(dir, secrets)
	if dir.Entries[0] != "topsecret" {
		t.Error("the reply that was given changed")
	}
	same := TextReply{Content: b("topsecret")}
	if got := Clean(same, nil); !reflect.DeepEqual(got, same) {
		t.Errorf("got %v", got)
	}
}

func TestStreamRedactsAcrossPieces(t *testing.T) {
	for name, c := range map[string]struct {
		pieces []string
		want   []string // one per piece, then the rest
	}{
		"whole":         {[]string{"a topsecret b"}, []string{"a [redacted] b", ""}},
		"in two":        {[]string{"a tops", "ecret b"}, []string{"a ", "[redacted] b", ""}},
		"a false start": {[]string{"a top", "ology"}, []string{"a ", "topology", ""}},
		"at the end":    {[]string{"a topsecre"}, []string{"a ", "topsecre"}},
		"single bytes": {strings.Split("xtopsecrety", ""), []string{
			"x", "", "", "", "", "", "", "", "", "",
			"[redacted]y", "",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewStream([]string{"topsecret"})
			var got []string
			for _, p := range c.pieces {
				got = append(got, string(s.Next([]byte(p))))
			}
			got = append(got, string(s.Close()))
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if rest := s.Close(); len(rest) != 0 {
				t.Errorf("closed twice: %q", rest)
			}
		})
	}
}

// A piece may end in a secret of which an earlier one is a part.
func TestStreamHoldsOverlappingSecrets(t *testing.T) {
	s := NewStream([]string{"aaabba", "babaaa"})
	got := string(s.Next([]byte("aaabbab"))) + string(s.Next([]byte("aaabba"))) + string(s.Close())
	if got != Redacted {
		t.Errorf("got %q", got)
	}
}

// JSON has a secret in another form than text: as a value, and as a text that is JSON.
func TestSecretsInJSON(t *testing.T) {
	secret := `pa"ss<&wörd`
	for name, text := range map[string]string{
		"plain": secret, "JSON": `{"a":"pa\"ss<&wörd"}`, "JSON for HTML": `{"a":"pa\"ss\u003c\u0026wörd"}`,
	} {
		if got := Redact(text, []string{secret}); strings.Contains(got, "ss") || !strings.Contains(got, Redacted) {
			t.Errorf("%s: %q", name, got)
		}
	}
	structured := `{"a":["p\u0061\"ss<&w\u00f6rd",12345678901234567890]}`
	got := Clean(ServerReply{Structured: structured}, []string{secret}).(ServerReply).Structured
	if want := `{"a":["[redacted]",12345678901234567890]}`; got != want {
		t.Errorf("got %s", got)
	}
	if got := NewCleaner([]string{"topsecret"}).Beginning("topsecret topsec"); got != Redacted+" "+Redacted {
		t.Errorf("of a text that was cut: %q", got)
	}
}

// Whatever the text, the secrets and the cuts: no secret survives, and text without secrets passes unchanged.
func TestRedactionProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.StringMatching(`[ab]{0,20}`)
		secrets := rapid.SliceOfN(rapid.StringMatching(`[ab]{6,8}`), 0, 3).Draw(t, "secrets")
		pieces := rapid.SliceOfN(letters, 0, 6).Draw(t, "pieces")
		text := strings.Join(pieces, "")
		s := NewStream(secrets)
		streamed := ""
		for _, p := range pieces {
			streamed += string(s.Next([]byte(p)))
		}
		streamed += string(s.Close())
		whole := cover(text, spans(text, needles(secrets)))
		clean := true
		for _, secret := range secrets {
			clean = clean && !strings.Contains(text, secret)
			if strings.Contains(whole, secret) || strings.Contains(streamed, secret) {
				t.Fatalf("%q survives in %q or %q", secret, whole, streamed)
			}
		}
		if clean && (whole != text || streamed != text) {
			t.Fatalf("%q became %q and %q", text, whole, streamed)
		}
		if collapse(whole) != collapse(streamed) {
			t.Fatalf("whole %q, in pieces %q", whole, streamed)
		}
	})
}

// collapse makes neighbouring marks one: where pieces meet there may be two.
func collapse(s string) string {
	for strings.Contains(s, Redacted+Redacted) {
		s = strings.ReplaceAll(s, Redacted+Redacted, Redacted)
	}
	return s
}

// Whole output and files stay as they are, but for secrets.
func TestWholeIsKeptAsItIs(t *testing.T) {
	const drawn = "one\rtwo\x1b[31m\xff\x00\r\n"
	secrets := []string{"s3cret-value"}
	x := Clean(ExecReply{
		Stdout: Captured{Head: []byte(drawn + "s3cret-value")}, Stderr: Captured{Head: []byte("no s3cret-value")},
		Whole: true,
	}, secrets).(ExecReply)
	if string(x.Stdout.Head) != drawn+Redacted || string(x.Stderr.Head) != "no "+Redacted {
		t.Errorf("got %q and %q", x.Stdout.Head, x.Stderr.Head)
	}
	f := Clean(FileReply{Content: []byte(drawn + "s3cret-value")}, secrets).(FileReply)
	if string(f.Content) != drawn+Redacted {
		t.Errorf("got %q", f.Content)
	}
	for _, r := range []Reply{x, f} {
		stored, err := Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := (Set{}).Decode("gone", stored); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("read back as %+v, %v", got, err)
		}
	}
}
