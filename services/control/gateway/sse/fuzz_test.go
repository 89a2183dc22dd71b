package sse

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
)

// An id is a cursor exactly when a frame could have had it.
func FuzzID(f *testing.F) {
	for _, s := range []string{
		"0", "1", "-1", "+1", "01", " 1", "1 ", "9223372036854775807", "9223372036854775808", "1e3", "٣", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		seq, ok := ParseID(text)
		if !ok {
			return
		}
		if seq < 0 || seq > 0 && strconv.FormatInt(seq, 10) != strings.TrimLeft(text, "0") {
			t.Errorf("%q is %d", text, seq)
		}
		frame := AppendFrame(nil, "x", seq, []byte("{}"))
		_, after, _ := bytes.Cut(frame, []byte("id: "))
		id, _, _ := bytes.Cut(after, []byte("\n"))
		if again, ok := ParseID(string(id)); !ok || again != seq {
			t.Errorf("%q is %d, and then %q", text, seq, id)
		}
	})
}
