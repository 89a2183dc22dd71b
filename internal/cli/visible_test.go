package cli

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// Nothing of what others wrote acts on a terminal.
func TestVisible(t *testing.T) {
	for in, want := range map[string]string{
		"plain text, ünïcode\tand\nlines": "plain text, ünïcode\tand\nlines",
		"\x1b[31mred\x1b[0m":              `\x1b[31mred\x1b[0m`,
		"\x1b]0;title\a":                  `\x1b]0;title\x07`,
		"one\rtwo":                        `one\x0dtwo`,
		"dos\r\nlines\r\n":                "dos\nlines\n",
		"\u009b31m":                       `\x9b31m`,
		"\x9b31m":                         `\x9b31m`,
		"a\x00b\x7f":                      `a\x00b\x7f`,
		"abc\u202edcb":                    `abc\u202edcb`,
		"a\u2028b":                        `a\u2028b`,
		"\uFFFD":                          "\uFFFD",
	} {
		if got := Visible(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzVisible(f *testing.F) {
	f.Add("\x1b[31m\x9b\u009b\r\n\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		got := Visible(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, Acts) || Visible(got) != got {
			t.Errorf("%q became %q", s, got)
		}
	})
}
