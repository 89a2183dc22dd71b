package work

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/work/worktest"
)

func show(t tb, content string, offset, limit int64) *pawlv1.TextResult {
	t.Helper()
	box := worktest.New()
	box.Put("f", content)
	r, err := readText(context.Background(), box, "f", &pawlv1.ReadText{Offset: offset, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	return r.Text
}

func TestReadText(t *testing.T) {
	long := strings.Repeat("x", maxText-1) + "é" + strings.Repeat("y", 1000)
	lines := func(from, to int) string {
		var b strings.Builder
		for i := from; i <= to; i++ {
			fmt.Fprintf(&b, "line %d\n", i)
		}
		return b.String()
	}
	wide := strings.Repeat(strings.Repeat("w", 999)+"\n", 100)
	for _, c := range []struct {
		name          string
		content       string
		offset, limit int64
		want          *pawlv1.TextResult
	}{
		{"empty", "", 0, 0, &pawlv1.TextResult{FirstLine: 1}},
		{"no end", "a\nb", 0, 0, &pawlv1.TextResult{Content: []byte("a\nb"), FirstLine: 1, Lines: 2, TotalLines: 2}},
		{"end", "a\nb\n", 0, 0, &pawlv1.TextResult{Content: []byte("a\nb\n"), FirstLine: 1, Lines: 2, TotalLines: 2}},
		{"window", lines(1, 10), 3, 2, &pawlv1.TextResult{
			Content: []byte("line 3\nline 4\n"), FirstLine: 3, Lines: 2,
			TotalLines: 10,
		}},
		{"beyond", "a\n", 5, 0, &pawlv1.TextResult{FirstLine: 5, TotalLines: 1}},
		{"most lines", lines(1, 3000), 0, 0, &pawlv1.TextResult{
			Content: []byte(lines(1, 2000)), FirstLine: 1,
			Lines: 2000, TotalLines: 3000,
		}},
		{"limit over most", lines(1, 3000), 2, 2500, &pawlv1.TextResult{
			Content: []byte(lines(2, 2001)), FirstLine: 2,
			Lines: 2000, TotalLines: 3000,
		}},
		{"most bytes", wide, 0, 0, &pawlv1.TextResult{
			Content: []byte(wide[:51000]), FirstLine: 1, Lines: 51,
			TotalLines: 100,
		}},
		{"long line", long + "\nnext\n", 0, 0, &pawlv1.TextResult{
			Content: []byte(long[:maxText-1]), FirstLine: 1,
			Lines: 1, TotalLines: 2, LineCut: true,
		}},
		{"behind a long line", long + "\nnext\n", 2, 0, &pawlv1.TextResult{
			Content: []byte("next\n"), FirstLine: 2,
			Lines: 1, TotalLines: 2,
		}},
		{"before a long line", "a\n" + long, 0, 0, &pawlv1.TextResult{
			Content: []byte("a\n"), FirstLine: 1, Lines: 1,
			TotalLines: 2,
		}},
		{"binary", "a\x00b", 0, 0, &pawlv1.TextResult{Binary: true}},
		{"image", "\x89PNG\x0d\x0a\x1a\x0a rest", 0, 0, &pawlv1.TextResult{
			MediaType: "image/png",
			Image:     []byte("\x89PNG\x0d\x0a\x1a\x0a rest"),
		}},
		{
			"large image", "GIF89a" + strings.Repeat("x", maxImage), 0, 0,
			&pawlv1.TextResult{MediaType: "image/gif", Binary: true},
		},
		{"CRLF", "a\r\nb\r\n", 2, 0, &pawlv1.TextResult{Content: []byte("b\n"), FirstLine: 2, Lines: 1, TotalLines: 2}},
		{
			"UTF-16", "\xff\xfea\x00\r\x00\n\x00", 0, 0,
			&pawlv1.TextResult{Content: []byte("a\n"), FirstLine: 1, Lines: 1, TotalLines: 1},
		},
		{
			"byte order mark", "\xef\xbb\xbfa", 0, 0,
			&pawlv1.TextResult{Content: []byte("a"), FirstLine: 1, Lines: 1, TotalLines: 1},
		},
		{
			"from the end", lines(1, 10), -2, 0,
			&pawlv1.TextResult{Content: []byte("line 9\nline 10\n"), FirstLine: 9, Lines: 2, TotalLines: 10},
		},
		{
			"more than there is", "a\n", math.MinInt64, 0,
			&pawlv1.TextResult{Content: []byte("a\n"), FirstLine: 1, Lines: 1, TotalLines: 1},
		},
		{"latin 1", "caf\xe9\n", 0, 0, &pawlv1.TextResult{
			Content: []byte("caf\xe9\n"), FirstLine: 1, Lines: 1,
			TotalLines: 1,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.Size = int64(len(c.content))
			if diff := cmp.Diff(c.want, show(t, c.content, c.offset, c.limit), protocmp.Transform()); diff != "" {
				t.Error(diff[:min(len(diff), 2000)])
			}
		})
	}
}

func TestReadTextDirectory(t *testing.T) {
	box := worktest.New()
	box.Put("d/b", "")
	box.Put("d/.a", "")
	box.Put("d/sub/x", "")
	r, err := readText(context.Background(), box, "d", &pawlv1.ReadText{})
	if err != nil || !r.Text.GetIsDir() || strings.Join(r.Text.GetEntries(), " ") != ".a b sub" {
		t.Errorf("%v, %v", r, err)
	}
}

// A directory with more names than can be sent is listed as far as it can be, and its size is told.
func TestReadTextLargeDirectory(t *testing.T) {
	box := worktest.New()
	for i := range 5_000 {
		box.Put(fmt.Sprintf("d/%0250d", i), "")
	}
	r, err := readText(context.Background(), box, "d", &pawlv1.ReadText{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(r.Text.GetEntries()); n != maxList/250 || r.Text.GetTotalLines() != 5_000 {
		t.Errorf("%d of %d entries", n, r.Text.GetTotalLines())
	}
}

// The window is what splitting the whole text would give.
func TestReadTextWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		for range rapid.IntRange(0, 60).Draw(t, "lines") {
			b.WriteString(strings.Repeat(rapid.SampledFrom([]string{"x", "é", "\r"}).Draw(t, "c"),
				rapid.SampledFrom([]int{0, 1, 5, 3000, 30000}).Draw(t, "n")))
			b.WriteString("\n")
		}
		text := b.String() + rapid.SampledFrom([]string{"", "tail"}).Draw(t, "tail")
		offset, limit := rapid.Int64Range(-70, 70).Draw(t, "offset"), rapid.Int64Range(0, 70).Draw(t, "limit")
		r := show(t, text, offset, limit)
		all := strings.SplitAfter(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
		if all[len(all)-1] == "" {
			all = all[:len(all)-1]
		}
		from := min(len(all), int(max(1, offset))-1)
		if offset < 0 {
			from = max(0, len(all)+int(offset))
		}
		want, n := "", 0
		for _, l := range all[from:] {
			if limit > 0 && n == int(limit) || len(want)+len(l) > maxText {
				break
			}
			want += l
			n++
		}
		cut := n == 0 && from < len(all)
		if cut {
			n, want = 1, all[from][:maxText]
			for !utf8.ValidString(want) {
				want = want[:len(want)-1]
			}
		}
		if string(r.GetContent()) != want || r.GetLines() != int64(n) || r.GetTotalLines() != int64(len(all)) ||
			r.GetLineCut() != cut {
			t.Fatalf("%d bytes in %d of %d lines, cut %v; want %d bytes in %d of %d, cut %v", len(r.GetContent()),
				r.GetLines(), r.GetTotalLines(), r.GetLineCut(), len(want), n, len(all), cut)
		}
	})
}

// Applying the diff of an edit to the old text gives the new one.
func TestUnifiedApplies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.SampledFrom([]string{"a", "b", "ab", "\n", "\n", "\n\n", "c\n"})
		old := strings.Join(rapid.SliceOfN(word, 1, 80).Draw(t, "old"), "")
		find := strings.Join(rapid.SliceOfN(word, 1, 3).Draw(t, "find"), "")
		now := strings.Join(rapid.SliceOfN(word, 0, 3).Draw(t, "new"), "")
		if !strings.Contains(old, find) || find == now {
			return // nothing to replace
		}
		want := strings.ReplaceAll(old, find, now)
		diff := unified("f", []byte(old), []byte(find), []byte(now))
		got, err := patch(old, diff)
		if err != nil || got != want {
			t.Fatalf("%v\nold  %q\nwant %q\ngot  %q\n%s", err, old, want, got, diff)
		}
	})
}

// patch applies a unified diff and checks it against the old text on the way.
func patch(old, diff string) (string, error) {
	lines := strings.SplitAfter(old, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	var out strings.Builder
	at := 0
	diffs := strings.SplitAfter(diff, "\n")
	for i := 0; i < len(diffs); i++ {
		l := diffs[i]
		switch {
		case l == "", strings.HasPrefix(l, "--- a/"), strings.HasPrefix(l, "+++ b/"):
			continue
		case strings.HasPrefix(l, "@@ -"):
			var a, n, b, m int
			head := strings.TrimSuffix(strings.TrimPrefix(l, "@@ "), " @@\n")
			was, is, _ := strings.Cut(head, " ")
			a, n = parseSpan(was[1:])
			b, m = parseSpan(is[1:])
			_ = m
			if n > 0 {
				a--
			}
			if a < at {
				return "", fmt.Errorf("hunk at %d after %d", a, at)
			}
			out.WriteString(strings.Join(lines[at:a], ""))
			at = a
			if made := strings.Count(out.String(), "\n"); m > 0 && made != b-1 || m == 0 && made != b {
				return "", fmt.Errorf("hunk goes to line %d of the new text, want %d", b, made)
			}
			continue
		}
		text := l[1:]
		if i+1 < len(diffs) && strings.HasPrefix(diffs[i+1], "\\") {
			text = strings.TrimSuffix(text, "\n")
			i++
		}
		if l[0] == '+' {
			out.WriteString(text)
			continue
		}
		if at >= len(lines) || lines[at] != text {
			return "", fmt.Errorf("line %d is not %q", at+1, text)
		}
		at++
		if l[0] == ' ' {
			out.WriteString(text)
		}
	}
	out.WriteString(strings.Join(lines[at:], ""))
	return out.String(), nil
}

func parseSpan(s string) (from, n int) {
	n = 1
	if strings.Contains(s, ",") {
		fmt.Sscanf(s, "%d,%d", &from, &n)
	} else {
		fmt.Sscanf(s, "%d", &from)
	}
	return from, n
}

func TestUnifiedGolden(t *testing.T) {
	old := "1\n2\n3\n4\n5\n6\n7\n8\n9\n"
	got := unified("dir/f", []byte(old), []byte("5\n"), []byte("five\n"))
	want := "--- a/dir/f\n+++ b/dir/f\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n"
	if got != want {
		t.Errorf("%s", got)
	}
	if got := unified("f", []byte("a\x00b"), []byte("a"), []byte("x")); got != "Binary files differ\n" {
		t.Errorf("%q", got)
	}
	big := bytes.Repeat([]byte("line\n"), 100_000)
	if got := unified("f", big, []byte("line"), []byte("LINE")); len(got) > maxDiff+100 {
		t.Errorf("%d bytes", len(got))
	}
}

// An edit takes a few times the file's size of memory, whatever is in the file and however much is replaced.
func TestUnifiedMemory(t *testing.T) {
	lines := bytes.Repeat([]byte("\n"), maxEdit)
	lines[maxEdit/2] = 'x'
	long := bytes.Repeat([]byte("a"), maxEdit)
	for _, c := range []struct {
		name      string
		old       []byte
		find, now string
		most      uint64
	}{
		{"one of many lines", lines, "x", "y", 1 << 20},
		{"every line", lines, "\n", " \n", 8 << 20},
		{"all line ends", lines, "\n", " ", 8 * maxEdit},
		{"much of one line", long, "a", "b", 8 * maxEdit},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			unified("f", c.old, []byte(c.find), []byte(c.now))
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > c.most {
				t.Errorf("%d bytes were allocated, want %d at most", n, c.most)
			}
		})
	}
}
