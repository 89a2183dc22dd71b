package clip

import (
	"strings"
	"testing"
)

func TestHeadKeepsWholeLinesIfThereAreAny(t *testing.T) {
	for _, c := range []struct {
		text         string
		lines, bytes int
		head         string
		cut          int
	}{
		{"", 1, 1, "", 0},
		{"a\nb", 2, 3, "a\nb", 0},
		{"a\nb\n", 1, 9, "a\n", 2},
		{"ab\ncd\n", 9, 4, "ab\n", 3},
		{"abcdef", 9, 4, "abcd", 2},
		{"aéé", 9, 4, "aé", 2},
	} {
		if head, cut := Head(c.text, c.lines, c.bytes); head != c.head || cut != c.cut {
			t.Errorf("%q in %d lines, %d bytes: got %q and %d", c.text, c.lines, c.bytes, head, cut)
		}
	}
}

func TestFitShowsWholeLines(t *testing.T) {
	lines := []string{"ab", "cd", "ef"}
	for _, c := range []struct {
		lines, bytes int
		joined       string
		shown        int
	}{{3, 99, "ab\ncd\nef", 3}, {2, 99, "ab\ncd", 2}, {3, 6, "ab\ncd", 2}, {3, 2, "", 0}} {
		if joined, shown := Fit(lines, c.lines, c.bytes); joined != c.joined || shown != c.shown {
			t.Errorf("in %d lines, %d bytes: got %q and %d", c.lines, c.bytes, joined, shown)
		}
	}
}

func TestDisplayIsOneLine(t *testing.T) {
	for path, want := range map[string]string{
		"": `""`, "a b": "a b", "a\nb": `"a\nb"`, "a\x00": "a\uFFFD", strings.Repeat("é", MaxPath): strings.Repeat("é",
			MaxPath/2) + "...",
	} {
		if got := Display(path); got != want {
			t.Errorf("%.20q: got %.20q", path, got)
		}
	}
}

// What is cut begins and ends with whole characters.
func TestPlacesAreThoseOfCharacters(t *testing.T) {
	const text = "aé世"
	for i, want := range [][2]int{{0, 0}, {1, 1}, {1, 3}, {3, 3}, {3, 6}, {3, 6}, {6, 6}, {6, 7}} {
		if got := [2]int{Floor(text, i), Ceil(text, i)}; got != want {
			t.Errorf("around %d: got %v, want %v", i, got, want)
		}
	}
}
