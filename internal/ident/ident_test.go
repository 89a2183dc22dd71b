package ident_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/pawl-dev/pawl/internal/ident"
)

func TestNewIDsAreInOrder(t *testing.T) {
	ids := make([]string, 1000)
	for i := range ids {
		ids[i] = ident.New()
		if !ident.IsUUID(ids[i]) || ids[i][14] != '7' {
			t.Fatalf("%s is no UUIDv7", ids[i])
		}
	}
	if !slices.IsSorted(ids) || len(slices.Compact(ids)) != 1000 {
		t.Error("ids are not unique and in order of creation")
	}
}

func TestIsUUID(t *testing.T) {
	const id = "01890a5d-ac96-774b-bcce-b302099a8057"
	for s, want := range map[string]bool{
		id: true, strings.ToUpper(id): false, "{" + id + "}": false, "urn:uuid:" + id: false,
		strings.ReplaceAll(id, "-", ""): false, id[:35]: false, id + " ": false, "": false,
	} {
		if ident.IsUUID(s) != want {
			t.Errorf("%q: got %v, want %v", s, !want, want)
		}
	}
}

// word is n times the letter a.
func word(n int) string { return strings.Repeat("a", n) }

func TestNames(t *testing.T) {
	label := func(key string) error { return ident.CheckLabel(key, "a100") }
	value := func(s string) error { return ident.CheckLabel("gpu", s) }
	// refused wherever free text is a name
	text := []string{"", " ", "\t\u00a0\n", "a\nb", "a\x00b", "a\u0085b", "\xff", "a\xc3", "a\u202eb", "a\u2066b"}
	for _, test := range []struct {
		name    string
		check   func(string) error
		allowed []string
		refused []string
	}{
		{
			"agent", ident.CheckAgent,
			[]string{"a", "Z9", "code-reviewer_2", word(64)},
			[]string{"", "9a", "-a", "_a", "a b", "a.b", "a/b", "é", "a\n", "\na", word(65)},
		},
		{
			"instance", ident.CheckInstance,
			[]string{"a", "9", "user@example.com", "a b", "a/b", "über", "日本", word(512), strings.Repeat("é", 256)},
			append(text, word(513), strings.Repeat("é", 257)),
		},
		{
			"session", ident.CheckSession,
			[]string{"default", "task", "my task: one", "Task:1", "a/b", "a/task", "a/Task:1", word(256)},
			append(text, "task:", "rewound:1", "task:1", "default/task:1", "a/task:", "a/task:b/task:c", word(257)),
		},
		{
			"executor", ident.CheckExecutor,
			[]string{"gpu1", "1", "rack-4.example.com", "a_b", word(64)},
			[]string{"", "-a", ".a", "a b", "a/b", "a:b", "é", "a\n", word(65)},
		},
		{
			"label key", label,
			[]string{"gpu", "example.com/zone", "1", word(63)},
			[]string{"", "/a", "a b", "a=b", "é", "a\n", word(64)},
		},
		{"label value", value, []string{"a100", "=", "a b", word(256)}, append(text, word(257))},
		{"idempotency key", ident.CheckIdempotencyKey, []string{"k", "order 7", word(255)}, append(text, word(256))},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, s := range test.allowed {
				if err := test.check(s); err != nil {
					t.Errorf("%.40q: got %v, want no error", s, err)
				}
			}
			for _, s := range test.refused {
				err := test.check(s)
				if !errors.Is(err, ident.ErrInvalid) || ident.ErrInvalid.Reason() != "INVALID_NAME" {
					t.Errorf("%.40q: got %v, want it refused", s, err)
				} else if err.Error() == ident.ErrInvalid.Error() {
					t.Errorf("%.40q: the error does not say the rule", s)
				}
			}
		})
	}
}

// FuzzNames holds every name that is accepted to what the code behind the edge relies on.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"", "a", "a b", "task:1", "a\x00", "\xff", "é", word(64), word(512)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		label := func(s string) error { return ident.CheckLabel(s, s) }
		for _, name := range []struct {
			most  int
			check func(string) error
		}{
			{64, ident.CheckAgent},
			{512, ident.CheckInstance},
			{256, ident.CheckSession},
			{64, ident.CheckExecutor},
			{63, label},
			{255, ident.CheckIdempotencyKey},
		} {
			err := name.check(s)
			if err != nil && !errors.Is(err, ident.ErrInvalid) {
				t.Errorf("%q: %v carries no reason", s, err)
			}
			if err == nil && (len(s) > name.most || strings.TrimSpace(s) == "" || !utf8.ValidString(s) ||
				strings.ContainsFunc(s, unicode.IsControl)) {
				t.Errorf("%q was accepted with a limit of %d bytes", s, name.most)
			}
			if err != nil && !utf8.ValidString(err.Error()) {
				t.Errorf("%q: the error is no text for the wire", s)
			}
		}
	})
}
