package workflow

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// parse reads a workflow of which only what matters is given.
func parse(t *testing.T, src string) (*Definition, error) {
	t.Helper()
	return Parse("x", "x.yaml", []byte(src), Surrounding{})
}

// The workflows beside the design, each of which shows something else, are good.
func TestGoodWorkflows(t *testing.T) {
	c, err := Load("testdata/good", nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(c.All()); n != 10 {
		t.Errorf("%d workflows", n)
	}
}

// wanted is a comment in a bad file: what is wrong in the line before, and at which text or column of it.
var wanted = regexp.MustCompile(`^\s*#@()(?:(\d+)|"([^"]*)") (.*)$`)

// Every planted error of the bad files is found at its place, with a text that helps, and nothing else is found.
func TestBadWorkflows(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) { checkBad(t, file) })
	}
}

func checkBad(t *testing.T, file string) {
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Parse("bad", "bad.yaml", src, Surrounding{})
	if !errors.Is(err, ErrInvalid) {
		t.Fatalf("got %v", err)
	}
	left := strings.Split(err.Error(), "\n")
	lines := strings.Split(string(src), "\n")
	for i, line := range lines {
		m := wanted.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		place := place(t, lines[:i], m)
		found := -1
		for j, got := range left {
			if strings.HasPrefix(got, place) && strings.Contains(got, m[4]) {
				found = j
				break
			}
		}
		if found < 0 {
			t.Errorf("%s%s is not told; left are\n%s", place, m[4], strings.Join(left, "\n"))
			continue
		}
		left = append(left[:found], left[found+1:]...)
	}
	if len(left) > 0 {
		t.Errorf("told beside what was planted:\n%s", strings.Join(left, "\n"))
	}
}

// place is the beginning of an error's text: of the last line that is no comment, and has the text that is meant.
func place(t *testing.T, lines []string, m []string) string {
	t.Helper()
	for i := len(lines) - 1; i >= 0; i-- {
		at := strings.Index(lines[i], m[3])
		if wanted.MatchString(lines[i]) || at < 0 {
			continue
		}
		column := m[2]
		if column == "" {
			column = strconv.Itoa(utf8.RuneCountInString(lines[i][:at]) + 1)
		}
		return "bad.yaml:" + strconv.Itoa(i+1) + ":" + column + ": "
	}
	t.Fatalf("no line before has %s", m[3])
	return ""
}
