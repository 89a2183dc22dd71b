package catalogue

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/document"
)

// Form is how files are named that define something called <name>: <name><Suffix>, or <name>/<Inner>. "" is not so.
type Form struct{ Suffix, Inner string }

// Source is a file that defines something.
type Source struct{ Name, File string }

// Files finds the files of a form in dir, by name. Hidden names and everything else are left out. The error is why the
// directory cannot be read.
func Files(dir string, f Form) ([]Source, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, document.Cause(err)
	}
	var out []Source
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := os.Stat(path) // links are followed: configuration is often mounted as such
		switch {
		case err == nil && info.IsDir():
			inner := filepath.Join(path, f.Inner)
			// What cannot be looked at is not gone: reading it says what is wrong.
			if _, err := os.Lstat(inner); f.Inner != "" && !errors.Is(err, fs.ErrNotExist) {
				out = append(out, Source{Name: e.Name(), File: inner})
			}
			continue
		case err != nil && !errors.Is(err, fs.ErrNotExist) && f.Inner != "" && !f.flat(e.Name()):
			out = append(out, Source{Name: e.Name(), File: filepath.Join(path, f.Inner)})
			continue
		}
		if f.flat(e.Name()) {
			out = append(out, Source{Name: strings.TrimSuffix(e.Name(), f.Suffix), File: path})
		}
	}
	slices.SortFunc(out, func(a, b Source) int { return strings.Compare(a.File, b.File) })
	return out, nil
}

// flat reports whether a name can be that of a file which defines something alone.
func (f Form) flat(name string) bool { return f.Suffix != "" && strings.HasSuffix(name, f.Suffix) }
