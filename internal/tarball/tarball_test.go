package tarball_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/internal/tarball"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	d, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// made is an archive of entries, each with a few bytes if it is a file.
func made(t *testing.T, entries ...tar.Header) *bytes.Buffer {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range entries {
		if h.Typeflag == tar.TypeReg {
			h.Size = 2
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte("hi")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &out
}

// What comes out of an archive is what went in, links as links.
func TestThereAndBack(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	long := strings.Repeat("long", 60)
	for name, content := range map[string]string{"a": "one", "d/b": "two", "d/e/" + long: "", "odd\xff\n": "odd"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(from, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(from, name), []byte(content), 0o751); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(os.Mkdir(filepath.Join(from, "empty"), 0o700), os.Symlink("../a", filepath.Join(from, "d/link")),
		os.Symlink("/etc/passwd", filepath.Join(from, "out")), unix.Mkfifo(filepath.Join(from, "pipe"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	if err := tarball.Pack(t.Context(), open(t, from), &all, nil); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(all.String(), "root:") {
		t.Error("a link was followed")
	}
	var refused *tarball.EntryError
	err = tarball.Unpack(t.Context(), open(t, to), bytes.NewReader(all.Bytes()))
	if !errors.As(err, &refused) || refused.Name != "out" {
		t.Fatalf("a link that leads out: %v", err)
	}
	if err := os.Remove(filepath.Join(from, "out")); err != nil {
		t.Fatal(err)
	}
	all.Reset()
	err = errors.Join(tarball.Pack(t.Context(), open(t, from), &all, nil),
		tarball.Unpack(t.Context(), open(t, to), bytes.NewReader(all.Bytes())))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "d/b", "d/e/" + long, "odd\xff\n"} {
		was, _ := os.ReadFile(filepath.Join(from, name))
		is, err := os.ReadFile(filepath.Join(to, name))
		st, serr := os.Stat(filepath.Join(to, name))
		if err := errors.Join(err, serr); err != nil || string(is) != string(was) || st.Mode().Perm() != 0o751 {
			t.Errorf("%s: %q, %v", name, is, err)
		}
	}
	if got, err := os.Readlink(filepath.Join(to, "d/link")); got != "../a" {
		t.Error(got, err)
	}
	if _, err := os.Lstat(filepath.Join(to, "pipe")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if st, err := os.Stat(filepath.Join(to, "empty")); err != nil || !st.IsDir() {
		t.Error(err)
	}
}

// Nothing of an archive ends up outside of the directory, whatever it says.
func TestWhatIsRefused(t *testing.T) {
	file, link, hard := byte(tar.TypeReg), byte(tar.TypeSymlink), byte(tar.TypeLink)
	here := tar.Header{Typeflag: link, Name: "l", Linkname: "."}
	for name, entries := range map[string][]tar.Header{
		"absolute":             {{Typeflag: file, Name: "/x"}},
		"up":                   {{Typeflag: file, Name: "a/../../x"}},
		"up and down":          {{Typeflag: file, Name: "a/../x"}},
		"nothing":              {{Typeflag: file, Name: "."}},
		"absolute link":        {{Typeflag: link, Name: "l", Linkname: "/etc"}},
		"link up":              {{Typeflag: link, Name: "l", Linkname: "../x"}},
		"link up from below":   {{Typeflag: link, Name: "d/l", Linkname: "../../x"}},
		"link over a link":     {here, {Typeflag: link, Name: "m", Linkname: "l/.."}},
		"through a link":       {here, {Typeflag: file, Name: "l/x"}},
		"below a link":         {here, {Typeflag: link, Name: "l/m", Linkname: "../x"}},
		"directory over link":  {here, {Typeflag: tar.TypeDir, Name: "l/"}},
		"hard link up":         {{Typeflag: hard, Name: "h", Linkname: "../secret"}},
		"hard link out":        {{Typeflag: hard, Name: "h", Linkname: "/etc/passwd"}},
		"through one in there": {{Typeflag: file, Name: "out/x"}},
		"hard link through it": {{Typeflag: hard, Name: "h", Linkname: "out/secret"}},
		"device":               {{Typeflag: tar.TypeBlock, Name: "b", Devmajor: 8}},
		"pipe":                 {{Typeflag: tar.TypeFifo, Name: "p"}},
		"deep":                 {{Typeflag: file, Name: strings.Repeat("d/", 300) + "x"}},
		"sparse":               {{Typeflag: file, Name: "s", PAXRecords: map[string]string{"GNU.sparse.x": "1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			above := t.TempDir()
			dir := filepath.Join(above, "dir")
			err := errors.Join(os.Mkdir(dir, 0o700),
				os.WriteFile(filepath.Join(above, "secret"), []byte("secret"), 0o600),
				os.Symlink("..", filepath.Join(dir, "out")))
			if err != nil {
				t.Fatal(err)
			}
			archive := io.Reader(nil)
			if name == "sparse" {
				archive = sparse(t)
			} else {
				archive = made(t, entries...)
			}
			var refused *tarball.EntryError
			if err := tarball.Unpack(t.Context(), open(t, dir), archive); !errors.As(err, &refused) {
				t.Errorf("%v", err)
			}
			left, err := os.ReadDir(above)
			if err != nil || len(left) != 2 {
				t.Errorf("%v, %v", left, err)
			}
			if got, err := filepath.Glob(filepath.Join(dir, ".pawl-*")); err != nil || len(got) > 0 {
				t.Errorf("%v is left, %v", got, err)
			}
		})
	}
}

// sparse is an archive of a file of a terabyte without content, as GNU tar makes it.
func sparse(t *testing.T) io.Reader {
	t.Helper()
	records := ""
	for _, r := range []string{
		"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=s", "GNU.sparse.realsize=1099511627776",
	} {
		n := len(r) + 2
		for n != len(fmt.Sprintf("%d %s\n", n, r)) {
			n = len(fmt.Sprintf("%d %s\n", n, r))
		}
		records += fmt.Sprintf("%d %s\n", n, r)
	}
	block := func(name string, flag byte, size int) string {
		var b [512]byte
		copy(b[:], name)
		copy(b[100:], "0000644\x000000000\x000000000\x00")
		copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00        %c", size, 0, flag))
		copy(b[257:], "ustar\x0000")
		sum := 0
		for _, c := range b {
			sum += int(c)
		}
		copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
		return string(b[:])
	}
	pad := func(s string) string { return s + strings.Repeat("\x00", (512-len(s)%512)%512) }
	return strings.NewReader(block("x", 'x', len(records)) + pad(records) + block("GNUSparseFile/s", '0', 512) +
		pad("1\n1099511627776\n0\n") + strings.Repeat("\x00", 1024))
}

// A link that is put in the place of a directory while an archive is unpacked, or packed, leads nobody out.
func TestRacingLink(t *testing.T) {
	above := t.TempDir()
	dir, outside := filepath.Join(above, "dir"), filepath.Join(above, "outside")
	err := errors.Join(os.MkdirAll(filepath.Join(dir, "real"), 0o700), os.Mkdir(outside, 0o700),
		os.WriteFile(filepath.Join(outside, "secret"), []byte("the secret"), 0o600),
		os.Symlink("../outside", filepath.Join(dir, "link")))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { // `d` is the directory and the link in turns, at once
		defer close(done)
		at := filepath.Join(dir, "d")
		for ctx.Err() == nil {
			_ = os.Rename(filepath.Join(dir, "real"), at)
			_ = os.Rename(at, filepath.Join(dir, "real"))
			_ = os.Rename(filepath.Join(dir, "link"), at)
			_ = os.Rename(at, filepath.Join(dir, "link"))
		}
	}()
	archive := made(t, tar.Header{Typeflag: tar.TypeReg, Name: "d/x"}).Bytes()
	for range 200 {
		_ = tarball.Unpack(ctx, open(t, dir), bytes.NewReader(archive)) // it may be refused
		var all bytes.Buffer
		_ = tarball.Pack(ctx, open(t, dir), &all, nil)
		if strings.Contains(all.String(), "the secret") {
			t.Fatal("a link was followed out of the directory")
		}
	}
	stop()
	<-done
	left, err := os.ReadDir(outside)
	if err != nil || len(left) != 1 {
		t.Errorf("outside of the directory: %v, %v", left, err)
	}
}

// entries is an archive without an end, of empty files.
type entries struct {
	n    int
	rest []byte
}

func (e *entries) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		h := &tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"a": "b"}}
		if err := w.WriteHeader(h); err != nil {
			return 0, err
		}
		if err := w.Flush(); err != nil {
			return 0, err
		}
		e.n++
		e.rest = out.Bytes()
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

// An archive that has no end is ended, and so is one that is cut off or none at all.
func TestBombs(t *testing.T) {
	dir := open(t, t.TempDir())
	var refused *tarball.EntryError
	bomb := &entries{}
	if err := tarball.Unpack(t.Context(), dir, bomb); !errors.As(err, &refused) || bomb.n > tarball.MaxEntries+10 {
		t.Errorf("%v after %d entries", err, bomb.n)
	}
	whole := made(t, tar.Header{Typeflag: tar.TypeReg, Name: "x"}).Bytes()
	for _, cut := range []int{100, 513} {
		if err := tarball.Unpack(t.Context(), dir, bytes.NewReader(whole[:cut])); !errors.As(err, &refused) {
			t.Errorf("%d bytes: %v", cut, err)
		}
	}
	none := strings.NewReader(strings.Repeat("no archive", 100))
	if err := tarball.Unpack(t.Context(), dir, none); !errors.As(err, &refused) {
		t.Error(err)
	}
}
