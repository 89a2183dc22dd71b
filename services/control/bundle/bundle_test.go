package bundle

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var some = []File{
	{Path: "a/b.md", Data: []byte("b")}, {Path: "c", Data: nil}, {
		Path: "run.sh", Executable: true,
		Data: []byte("echo"),
	},
}

func TestWhatWasPackedIsTheSame(t *testing.T) {
	archive, err := Pack(".", some)
	if err != nil {
		t.Fatal(err)
	}
	if size := Size(some); int64(archive.Len()) > size {
		t.Errorf("%d bytes, and at most %d are said", archive.Len(), size)
	}
	if found, err := Compare(bytes.NewReader(archive.Bytes()), some); found != Same || err != nil {
		t.Errorf("%d, %v", found, err)
	}
	for cut := range 2048 { // the last file begins there
		if found, err := Compare(bytes.NewReader(archive.Bytes()[:cut]), some); found == Same && err == nil {
			t.Fatalf("what is cut off after %d bytes is whole", cut)
		}
	}
}

// What is not exactly the files is not taken for them, and what writing them would leave is told apart.
func TestCompare(t *testing.T) {
	file := func(name, content string, mode int64) tar.Header {
		return tar.Header{
			Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)),
			PAXRecords: map[string]string{"TEST.content": content},
		}
	}
	all := []tar.Header{file("a/b.md", "b", 0o644), file("c", "", 0o600), file("run.sh", "echo", 0o700)}
	replaced := func(i int, h tar.Header) []tar.Header {
		other := append([]tar.Header(nil), all...)
		other[i] = h
		return other
	}
	for what, c := range map[string]struct {
		headers []tar.Header
		want    Found
	}{
		"the files":                {all, Same},
		"with their folders":       {append([]tar.Header{{Typeflag: tar.TypeDir, Name: "a/"}}, all...), Same},
		"nothing":                  {nil, Lacking},
		"without one":              {all[1:], Lacking},
		"another content":          {replaced(0, file("a/b.md", "x", 0o644)), Lacking},
		"a longer content":         {replaced(0, file("a/b.md", "bb", 0o644)), Lacking},
		"another mode":             {replaced(2, file("run.sh", "echo", 0o600)), Lacking},
		"a file more":              {append([]tar.Header{file("d", "", 0o644)}, all...), Alien},
		"a file twice":             {append(all[:len(all):len(all)], all[0]), Alien},
		"a folder more":            {append([]tar.Header{{Typeflag: tar.TypeDir, Name: "d/"}}, all...), Alien},
		"a folder in place of one": {replaced(1, tar.Header{Typeflag: tar.TypeDir, Name: "c/"}), Alien},
		"a link in place of one": {
			replaced(1, tar.Header{Typeflag: tar.TypeSymlink, Name: "c", Linkname: "x"}),
			Alien,
		},
		"a hard link in place of it": {
			replaced(1, tar.Header{Typeflag: tar.TypeLink, Name: "c", Linkname: "x"}),
			Alien,
		},
		"a file for a folder": {replaced(0, file("a", "b", 0o644)), Alien},
		"outside":             {append([]tar.Header{file("../d", "", 0o644)}, all...), Alien},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range c.headers {
			content := h.PAXRecords["TEST.content"]
			h.PAXRecords = nil
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(content)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if found, err := Compare(&b, some); found != c.want || err != nil {
			t.Errorf("%s: %d, %v", what, found, err)
		}
	}
}

// Links are followed where that is wanted, and never out of the root.
func TestLinks(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "in")
	for name, content := range map[string]string{"in/real/a": "a", "out/b": "secret"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(top, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(top, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"file": "real/a", "folder": "real", "away": "../out/b", "off": "../out", "full": filepath.Join(dir, "real"),
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close() //nolint:errcheck // it was only read
	rules := Rules{What: "thing", Files: 10, Bytes: 1000, Depth: 5, Links: true}
	files, problems := Load(root, ".", rules)
	var got []string
	for _, f := range files {
		got = append(got, f.Path+"="+string(f.Data))
	}
	if want := "file=a folder/a=a real/a=a"; strings.Join(got, " ") != want {
		t.Errorf("got %q", got)
	}
	if len(problems) != 3 {
		t.Errorf("problems: %v", problems)
	}
	if files, problems = Load(root, "folder", rules); len(files) != 1 || files[0].Path != "a" || problems != nil {
		t.Errorf("of a folder: %v, %v", files, problems)
	}
	rules.Links = false
	if files, problems = Load(root, ".", rules); len(files) != 1 || len(problems) != 5 {
		t.Errorf("without links: %v, %v", files, problems)
	}
}
