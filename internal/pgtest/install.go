package pgtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pawl-dev/pawl/internal/debian"
)

// places hold a version's binaries where the search path does not lead to them.
var places = []string{
	"/usr/lib/postgresql/*/bin", // Debian
	"/usr/pgsql-*/bin",          // Red Hat
	"/usr/local/bin",
	"/usr/local/pgsql/bin",
	"/opt/homebrew/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql@*/bin",
}

var errNotInstalled = errors.New("PostgreSQL (13 or later) is not installed: install it (Debian: apt-get install " +
	"postgresql; " +
	"macOS: brew install postgresql) or set " + Env + " to the postgres:// URL of a server where databases may be " +
	"created")

// binaries is the directory of initdb and postgres. On Debian, root gets them installed.
func binaries(ctx context.Context) (string, error) {
	look := func() (string, bool) { return find(os.Getenv("PATH"), places) }
	return debian.Install(ctx, "postgresql", look, errNotInstalled)
}

// find prefers the search path, then the newest version in the places.
func find(path string, places []string) (string, bool) {
	dirs := filepath.SplitList(path)
	var versions []string
	for _, p := range places {
		found, _ := filepath.Glob(p) // the patterns are constant and well-formed
		versions = append(versions, found...)
	}
	slices.SortStableFunc(versions, func(a, b string) int { return version(b) - version(a) })
	for _, dir := range append(dirs, versions...) {
		if executable(filepath.Join(dir, "initdb")) && executable(filepath.Join(dir, "postgres")) {
			return dir, true
		}
	}
	return "", false
}

// version is the number in a path such as /usr/lib/postgresql/15/bin, 0 if it has none.
func version(dir string) int {
	digits := strings.TrimLeft(filepath.Base(filepath.Dir(dir)), "abcdefghijklmnopqrstuvwxyz-@")
	n, _ := strconv.Atoi(digits)
	return n
}

func executable(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
