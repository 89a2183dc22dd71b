package rawjson

import "testing"

func FuzzStringIsWrittenAsEncodeWritesIt(f *testing.F) {
	for _, s := range []string{
		"", "plain", "a\"b\\c/d", "\x00\x1f\x7f\b\f\n\r\t", "<&>", "é\u2028\u2029\U0001F600",
		"\xff\xc3", "\ufffd", "\xed\xa0\x80",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := Encode(s)
		if got := AppendString(nil, s); err != nil || string(got) != string(want) {
			t.Errorf("%q: %s, want %s, %v", s, got, want, err)
		}
	})
}
