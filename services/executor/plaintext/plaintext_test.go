package plaintext

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// wide is text in UTF-16 with a mark.
func wide(e Encoding, text string) string {
	return marks[e] + string(e.encode(nil, text, false))
}

func read(t interface{ Fatal(...any) }, file string) string {
	e, ok := Detect([]byte(file))
	if !ok {
		return "(binary)"
	}
	b, err := io.ReadAll(NewReader(iotest.OneByteReader(strings.NewReader(file)), e))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTextOfAFile(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"plain":             {"a\nb", "a\nb"},
		"empty":             {"", ""},
		"CRLF":              {"a\r\nb\r\n", "a\nb\n"},
		"lone CR":           {"a\rb\r", "a\rb\r"},
		"CR CRLF":           {"a\r\r\n", "a\r\n"},
		"mark":              {"\xef\xbb\xbfa\r\n", "a\n"},
		"mark alone":        {"\xef\xbb\xbf", ""},
		"mark inside":       {"a\uFEFF", "a\uFEFF"},
		"latin 1":           {"caf\xe9\r\n", "caf\xe9\n"},
		"UTF-16 LE":         {wide(UTF16LE, "zażółć\r\n😀\n"), "zażółć\n😀\n"},
		"UTF-16 BE":         {wide(UTF16BE, "zażółć\r\n😀\n"), "zażółć\n😀\n"},
		"half a pair":       {"\xff\xfe\x3d\xd8a\x00", "\uFFFDa"},
		"half a pair, end":  {"\xff\xfea\x00\x3d\xd8", "a\uFFFD"},
		"half a character":  {"\xff\xfea\x00b", "a\uFFFD"},
		"CR at the end":     {wide(UTF16LE, "a\r"), "a\r"},
		"UTF-32":            {"\xff\xfe\x00\x00a\x00\x00\x00", "(binary)"},
		"NUL":               {"a\x00", "(binary)"},
		"NUL after a mark":  {"\xef\xbb\xbfa\x00", "(binary)"},
		"UTF-16, no mark":   {"a\x00b\x00", "(binary)"},
		"UTF-16 mark alone": {"\xff\xfe", ""},
	} {
		if got := read(t, c.file); got != c.want {
			t.Errorf("%s: read %q, want %q", name, got, c.want)
		}
		if d := Parse([]byte(c.file)); d.Text != c.want && (c.want != "(binary)" || d.Text != c.file) {
			t.Errorf("%s: parsed %+v, want %q", name, d, c.want)
		}
	}
}

func TestApply(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		edit Edit
		want string
		note string
	}{
		"literal":            {"a b c", Edit{Old: "b", New: "$1"}, "a $1 c", ""},
		"all":                {"x\r\nx\r\n", Edit{Old: "x", New: "y\nz", All: true}, "y\r\nz\r\ny\r\nz\r\n", ""},
		"over lines":         {"a\r\nb\r\nc\r\n", Edit{Old: "a\nb", New: "a\nX\nb"}, "a\r\nX\r\nb\r\nc\r\n", ""},
		"new lines":          {"a\r\nb\r\nc\r\n", Edit{Old: "b", New: "b1\nb2"}, "a\r\nb1\r\nb2\r\nc\r\n", ""},
		"given with CRLF":    {"a\r\nb\r\n", Edit{Old: "a\r\nb", New: "x\r\ny"}, "x\r\ny\r\n", ""},
		"new with CRLF":      {"a\r\nb\r\n", Edit{Old: "a", New: "x\r\ny"}, "x\r\ny\r\nb\r\n", ""},
		"to LF":              {"a\r\nb\r\n", Edit{Old: "a\r\n", New: "a\n"}, "a\nb\r\n", ""},
		"to CRLF":            {"a\nb\n", Edit{Old: "a\n", New: "a\r\n"}, "a\r\nb\n", ""},
		"CRLF for a LF file": {"a\nb\n", Edit{Old: "a\r\nb", New: "a\r\nc"}, "a\nc\n", ""},
		"mixed, LF here":     {"a\r\nb\nc\r\n", Edit{Old: "b", New: "b\nx"}, "a\r\nb\nx\nc\r\n", ""},
		"mixed, CRLF here":   {"a\nb\r\nc\n", Edit{Old: "b", New: "b\nx"}, "a\nb\r\nx\r\nc\n", ""},
		"mixed, kept":        {"a\nb\r\nc\n", Edit{Old: "a\nb\nc", New: "a\nb\nd"}, "a\nb\r\nd\n", ""},
		"last line, no end":  {"a\r\nb", Edit{Old: "b", New: "b\nc"}, "a\r\nb\r\nc", ""},
		"mark":               {"\xef\xbb\xbfa\n", Edit{Old: "a", New: "b"}, "\xef\xbb\xbfb\n", ""},
		"mark given":         {"\xef\xbb\xbfa\n", Edit{Old: "\uFEFFa", New: "\uFEFFb"}, "\xef\xbb\xbfb\n", ""},
		"everything":         {"\xef\xbb\xbfa\r\n", Edit{Old: "a\n", New: ""}, "\xef\xbb\xbf", ""},
		"UTF-16": {
			wide(UTF16LE, "😀a\r\nb\r\n"),
			Edit{Old: "a\nb", New: "ż\n😀"},
			wide(UTF16LE, "😀ż\r\n😀\r\n"), "",
		},
		"UTF-16 BE":          {wide(UTF16BE, "a\nb\n"), Edit{Old: "b", New: "c\nd"}, wide(UTF16BE, "a\nc\nd\n"), ""},
		"UTF-16, odd":        {"\xff\xfe\x3d\xd8a\x00b", Edit{Old: "a", New: "c"}, "\xff\xfe\x3d\xd8c\x00b", ""},
		"other bytes":        {"\xe9 a \xff\n", Edit{Old: "a", New: "é"}, "\xe9 é \xff\n", ""},
		"binary":             {"a\x00b\r\n", Edit{Old: "b", New: "c\n"}, "a\x00c\n\r\n", ""},
		"within a character": {"ä\n", Edit{Old: "ä", New: "ö"}, "ö\n", ""},
		"overlap":            {"aaa", Edit{Old: "aa", New: "ab", All: true}, "aba", ""},
		"grows by its own":   {"ab", Edit{Old: "ab", New: "aab"}, "aab", ""},
		"end of line given": {
			"a\nb", Edit{Old: "b\n", New: "c\n"}, "a\nc", "The file has no line break at its end.",
		},
		"numbers": {
			"x\n\tif a {\n\t}\n",
			Edit{Old: "   2\t\tif a {\n   3\t\t}\n", New: "   2\t\tif b {\n   3\t\t}\n"},
			"x\n\tif b {\n\t}\n",
			"The line numbers in oldText are not in the file and were left out.",
		},
		"numbers in old only": {
			"a\nb\n",
			Edit{Old: "1→a\n2→b", New: "c"},
			"c\n",
			"The line numbers in oldText are not in the file and were left out.",
		},
		"numbers of the file": {"1: a\n2: b\n", Edit{Old: "2: b", New: "3: b"}, "1: a\n3: b\n", ""},
		"white space at ends": {
			"a  \nb\t\nc\n",
			Edit{Old: "a\nb\n", New: "x\n"},
			"x\nc\n",
			"oldText was found with other white space at the ends of lines.",
		},
		"white space given": {
			"a\nb\nc",
			Edit{Old: "b \nc", New: "x"},
			"a\nx",
			"oldText was found with other white space at the ends of lines.",
		},
	} {
		got, err := Parse([]byte(c.file)).Apply(c.edit)
		if err != nil || string(got.File) != c.want || got.Note != c.note {
			t.Errorf("%s: %+v, %v, want %q %q", name, got, err, c.want, c.note)
			continue
		}
		if strings.Count(got.Before, got.Old) != got.Count {
			t.Errorf("%s: %q is %d times in %q", name, got.Old, got.Count, got.Before)
		}
	}
}

func TestApplyFails(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		edit Edit
		want string
	}{
		"absent": {
			"a",
			Edit{Old: "b"},
			"the old text was not found; it must match exactly, white space included: read the file again",
		},
		"twice": {
			"a\nb\na\n",
			Edit{Old: "a"},
			"the old text was found 2 times, in lines 1, 3; give more of the text around it, or replace all",
		},
		"often": {
			strings.Repeat("a\n", 12),
			Edit{Old: "a"},
			"the old text was found 12 times, in lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …; give more of the text " +
				"around it, or replace all",
		},
		"indentation": {
			"x\n    if a {\n",
			Edit{Old: "\tif a {"},
			"the old text was not found; what begins at line 2 differs only in white space or punctuation. Give " +
				"it as the file has it:\n    if a {",
		},
		"quotes": {
			"say “hi” – now\n",
			Edit{Old: `say "hi" - now`},
			"the old text was not found; what begins at line 1 differs only in white space or punctuation. Give " +
				"it as the file has it:\nsay “hi” – now",
		},
		"undecodable": {
			"caf\xe9",
			Edit{Old: "caf\uFFFD"},
			"the old text was not found; its U+FFFD stands for bytes that are not UTF-8 and cannot be given as " +
				"text: use bash",
		},
		"twice alike": {
			"a \nb\na\t\n",
			Edit{Old: "a\n"},
			"the old text was not found; what begins at line 1 differs only in white space or punctuation. Give " +
				"it as the file has it:\na \n",
		},
		"blank lines": {
			"a\n\nb",
			Edit{Old: " \n"},
			"the old text was not found; it must match exactly, white space included: read the file again",
		},
		"odd numbers": {
			"a\nb\n",
			Edit{Old: "1→a\n3→b"},
			"the old text was not found; it must match exactly, white space included: read the file again",
		},
	} {
		if got, err := Parse([]byte(c.file)).Apply(c.edit); err == nil || err.Error() != c.want {
			t.Errorf("%s: %+v, %v, want %q", name, got, err, c.want)
		}
	}
	// A number before a line stands before all of it.
	for _, all := range []bool{false, true} {
		var none *NotFound
		for _, file := range []string{"name: webhook\n", "the web\n", "web\nwebhook\n"} {
			got, err := Parse([]byte(file)).Apply(Edit{Old: "80: web", New: "80: api", All: all})
			if !errors.As(err, &none) {
				t.Errorf("%q, all %t: %+v, %v", file, all, got, err)
			}
		}
	}
	// that one line is like it, but for its end, decides nothing
	for _, file := range []string{"aa", "x a\na \ny a\n"} {
		var many *Ambiguous
		if got, err := Parse([]byte(file)).Apply(Edit{Old: "a", New: "b"}); !errors.As(err, &many) {
			t.Errorf("%q: %+v, %v", file, got, err)
		}
	}
}

// An edit of the text and one of the file come to the same, and what is outside of the edit keeps its bytes.
func TestApplyIsAnEditOfTheText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.SampledFrom([]string{"a", "b", "ä", "😀", "\n", "\r\n", "\r", " ", "\xff", "c\n"})
		file := strings.Join(rapid.SliceOfN(word, 0, 30).Draw(t, "file"), "")
		switch rapid.IntRange(0, 3).Draw(t, "encoding") {
		case 0:
			file = wide(UTF16LE, strings.ToValidUTF8(file, "")) +
				rapid.SampledFrom([]string{"", "\x3d\xd8", "x"}).Draw(t, "odd")
		case 1:
			file = wide(UTF16BE, strings.ToValidUTF8(file, ""))
		case 2:
			file = marks[UTF8Mark] + file
		}
		d := Parse([]byte(file))
		if read(t, file) != d.Text {
			t.Fatalf("%q is read as %q and parsed as %q", file, read(t, file), d.Text)
		}
		plain := rapid.SampledFrom([]string{"a", "b", "ä", "😀", "\n", " ", "c\n"})
		e := Edit{
			Old: strings.Join(rapid.SliceOfN(plain, 1, 3).Draw(t, "old"), ""),
			New: strings.Join(rapid.SliceOfN(plain, 0, 3).Draw(t, "new"), ""),
			All: rapid.Bool().Draw(t, "all"),
		}
		got, err := d.Apply(e)
		if err != nil || e.Old == e.New {
			return
		}
		after := Parse(got.File)
		if want := strings.ReplaceAll(d.Text, got.Old, got.New); after.Text != want && !strings.Contains(d.Text, "\r") {
			t.Fatalf("%q: %+v in %q gives %q, which is %q", file, e, d.Text, got.File, after.Text)
		}
		if at := strings.Index(d.Text, got.Old); !bytes.HasPrefix(got.File, []byte(file)[:d.fileOffset(at)]) {
			t.Fatalf("%q: %+v changed what is before it: %q", file, e, got.File)
		}
		at := strings.LastIndex(d.Text, got.Old) + len(got.Old)
		if !e.All && !bytes.HasSuffix(got.File, []byte(file)[d.fileOffset(at):]) {
			t.Fatalf("%q: %+v changed what is behind it: %q", file, e, got.File)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "\xff\xfe", "\xff\xfea", "\xff\xfe\x0d\x00\x0a",
		"\xef\xbb", "\xef\xbb\xbf\r", "a\r\n\r",
	} {
		f.Add([]byte(s), "a", "b\n")
	}
	f.Add([]byte("\xfe\xff00"), "\x80", "0") // a byte of the file's only character, as UTF-8
	f.Fuzz(func(t *testing.T, file []byte, old, fresh string) {
		d := Parse(file)
		if got := read(t, string(file)); got != d.Text && got != "(binary)" {
			t.Fatalf("read as %q and parsed as %q", got, d.Text)
		}
		if old != "" {
			d.Apply(Edit{Old: old, New: fresh, All: true})
			d.Apply(Edit{Old: old, New: fresh})
		}
	})
}
