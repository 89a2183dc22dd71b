package skill

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/document"
)

// Bounds of the files of a skill of the project, which are put into workspaces.
const (
	maxFiles = 200
	maxBytes = 1 << 20
	maxDepth = 8
)

// Load reads a skill of the project: the folder dir, whose name is the skill's. All problems are reported together, one
// line each, with the file; each is an ErrInvalid. Links are refused, and so are files whose names are those of
// secrets.
func Load(dir string) (Skill, error) {
	l := &loader{dir: dir}
	l.walk(".", 0)
	slices.SortFunc(l.files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	i := slices.IndexFunc(l.files, func(f File) bool { return f.Path == FileName })
	if i < 0 {
		if len(l.problems) == 0 {
			l.report(FileName, "is missing: a folder of skills/ is a skill and has one")
		}
		return Skill{}, errors.Join(l.problems...)
	}
	s, err := Parse(filepath.Base(dir), filepath.Join(dir, FileName), l.files[i].Data)
	if err := errors.Join(append(l.problems, err)...); err != nil {
		return Skill{}, err
	}
	s.Digest = digest(l.files)
	if s.Files = slices.Delete(l.files, i, i+1); len(s.Files) == 0 {
		s.Files = nil
	}
	return s, nil
}

// digest is over all files, in order of their paths.
func digest(files []File) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%q %t %d\n", f.Path, f.Executable, len(f.Data))
		h.Write(f.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Fingerprint tells instructions from others.
func Fingerprint(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// loader reads the files of a folder.
type loader struct {
	dir      string
	files    []File
	bytes    int64
	problems []error
	full     bool
}

func (l *loader) report(name, format string, args ...any) {
	l.problems = append(l.problems, ErrInvalid.With("%s: %s", filepath.Join(l.dir, filepath.FromSlash(name)),
		fmt.Sprintf(format, args...)))
}

func (l *loader) walk(folder string, depth int) {
	entries, err := os.ReadDir(filepath.Join(l.dir, filepath.FromSlash(folder)))
	if err != nil {
		l.report(folder, "cannot be read: %v", document.Cause(err))
		return
	}
	for _, e := range entries {
		name := path.Join(folder, e.Name())
		switch {
		case l.full:
			return
		case skipped[e.Name()]:
		case secret(e.Name()):
			l.report(name, "looks like a secret, and the files of a skill are put into workspaces: take it out of the "+
				"skill's folder")
		case e.Type()&fs.ModeSymlink != 0:
			l.report(name, "is a link; a skill has files and folders only: copy what it leads to")
		case e.IsDir() && depth+1 >= maxDepth:
			l.report(name, "is more than %d folders deep", maxDepth)
		case e.IsDir():
			l.walk(name, depth+1)
		case !e.Type().IsRegular():
			l.report(name, "is not a regular file")
		default:
			l.read(name)
		}
	}
}

func (l *loader) read(name string) {
	f, err := os.Open(filepath.Join(l.dir, filepath.FromSlash(name)))
	if err != nil {
		l.report(name, "cannot be read: %v", document.Cause(err))
		return
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		l.report(name, "cannot be read: %v", document.Cause(err))
		return
	}
	data, err := io.ReadAll(io.LimitReader(f, maxBytes-l.bytes+1))
	switch {
	case err != nil:
		l.report(name, "cannot be read: %v", document.Cause(err))
	case l.bytes+int64(len(data)) > maxBytes:
		l.report(name, "the files of the skill have more than %d KiB in all", maxBytes>>10)
		l.full = true
	case len(l.files) >= maxFiles:
		l.report(name, "the skill has more than %d files", maxFiles)
		l.full = true
	default:
		l.bytes += int64(len(data))
		l.files = append(l.files, File{Path: name, Executable: info.Mode()&0o111 != 0, Data: data})
	}
}

// skipped are names of what tools leave behind.
var skipped = map[string]bool{".git": true, ".DS_Store": true, "__pycache__": true, "node_modules": true}

// secret reports whether a file or folder has a name that secrets have.
func secret(name string) bool {
	name = strings.ToLower(name)
	switch name {
	case ".env", ".aws", ".ssh", ".gnupg", ".netrc", ".npmrc", ".pypirc", ".git-credentials", ".kube", ".docker",
		"credentials", "credentials.json", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519":
		return true
	case ".env.example", ".env.sample", ".env.template":
		return false
	}
	return strings.HasPrefix(name, ".env.") || slices.Contains(secretEndings, path.Ext(name))
}

var secretEndings = []string{".pem", ".key", ".p12", ".pfx", ".jks", ".keystore", ".kdbx"}
