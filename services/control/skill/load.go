package skill

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/pawl-dev/pawl/services/control/bundle"
	"github.com/pawl-dev/pawl/services/control/document"
)

// rules of the files of a skill of the project, which are put into workspaces.
var rules = bundle.Rules{What: "skill", Files: 200, Bytes: 1 << 20, Depth: 8, Skip: []string{"node_modules"}}

// Load reads a skill of the project: the folder dir, whose name is the skill's. All problems are reported together, one
// line each, with the file; each is an ErrInvalid. Links are refused, and so are files whose names are those of
// secrets.
func Load(dir string) (s Skill, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Skill{}, ErrInvalid.With("%s: cannot be read: %v", dir, document.Cause(err))
	}
	defer root.Close() //nolint:errcheck // it was only read
	return load(root, dir, ".", rules)
}

// LoadFrom reads a skill of a plugin: a folder of root, which is at dir. Links within root are followed.
func LoadFrom(root *os.Root, dir, folder string) (Skill, error) {
	r := rules
	r.Links = true
	return load(root, dir, folder, r)
}

func load(root *os.Root, dir, folder string, r bundle.Rules) (Skill, error) {
	at := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	files, found := bundle.Load(root, folder, r)
	var problems []error
	for _, p := range found {
		problems = append(problems, ErrInvalid.With("%s: %s", at(p.Path), p.Text))
	}
	file := at(path.Join(folder, FileName))
	i := slices.IndexFunc(files, func(f bundle.File) bool { return f.Path == FileName })
	if i < 0 {
		if len(problems) == 0 {
			problems = append(problems, ErrInvalid.With("%s: is missing: a folder of skills/ is a skill and has one",
				file))
		}
		return Skill{}, errors.Join(problems...)
	}
	s, err := Parse(filepath.Base(at(folder)), file, files[i].Data)
	if err := errors.Join(append(problems, err)...); err != nil {
		return Skill{}, err
	}
	s.Digest = bundle.Digest(files)
	if s.Files = slices.Delete(files, i, i+1); len(s.Files) == 0 {
		s.Files = nil
	}
	return s, nil
}

// Fingerprint tells instructions from others.
func Fingerprint(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}
