package search

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// asNobody runs f on a thread that may not read what only its owner may, whoever runs the test.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		defer close(done)
		if os.Geteuid() == 0 {
			runtime.LockOSThread() // for good: the thread ends with the goroutine
			if err := syscall.Setfsuid(65534); err != nil {
				done <- err
				return
			}
		}
		f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A search that could not read everything says so: that nothing was found would be a guess.
func TestSearchSaysWhatItCouldNotRead(t *testing.T) {
	for _, test := range []struct {
		closed []string
		note   string
	}{
		{nil, ""},
		{[]string{"b"}, "1 path could not be read: b"},
		{[]string{"a/f", "b", "c"}, "3 paths could not be read: a/f, b, c"},
		{[]string{"a/f", "b", "c", "d", "e"}, "5 paths could not be read: a/f, b, c, …"},
	} {
		root := tree(t, map[string]string{
			"a/f": "needle\n", "b/f": "needle\n", "c/f": "needle\n", "d/f": "needle\n",
			"e/f": "needle\n", "f/f": "needle\n",
		})
		if err := os.Chmod(filepath.Dir(root), 0o755); err != nil {
			t.Fatal(err)
		}
		dirs := 0
		for _, name := range test.closed {
			path := filepath.Join(root, name)
			if filepath.Dir(name) == "." {
				dirs++
			}
			if err := os.Chmod(path, 0); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(path, 0o755) })
		}
		asNobody(t, func() {
			found, err := Grep(t.Context(), root, GrepOptions{Pattern: "needle"})
			if err != nil || found.Note != test.note || found.Total != 6-len(test.closed) {
				t.Errorf("without %v grep finds %d lines, %q, %v", test.closed, found.Total, found.Note, err)
			}
			paths, err := Glob(t.Context(), root, "**/f", "", 0)
			// The files below a directory that cannot be read are not listed; a file that cannot be read is.
			if err != nil || paths.Total != 6-dirs || (paths.Note == "") != (dirs == 0) {
				t.Errorf("without %v glob finds %d paths, %q, %v", test.closed, paths.Total, paths.Note, err)
			}
			found, err = Grep(t.Context(), root, GrepOptions{Pattern: `nothing\nhere`})
			if want := "A pattern is searched in one line at a time and cannot match a line break."; err != nil ||
				test.note != "" && found.Note != want+" "+test.note || test.note == "" && found.Note != want {
				t.Errorf("without %v grep says %q, %v", test.closed, found.Note, err)
			}
		})
	}
}
