package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
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

var errNotInstalled = errors.New("PostgreSQL (13 or later) is not installed: install it (Debian: apt-get install postgresql; " +
	"macOS: brew install postgresql) or set " + Env + " to the postgres:// URL of a server where databases may be created")

// binaries is the directory of initdb and postgres. On Debian, root gets them installed.
func binaries(ctx context.Context) (string, error) {
	return installed(ctx, "postgresql", func() (string, bool) { return find(os.Getenv("PATH"), places) }, errNotInstalled)
}

// installed is what look finds. On Debian, root gets the package installed that it is in.
func installed(ctx context.Context, pkg string, look func() (string, bool), missing error) (string, error) {
	if path, ok := look(); ok {
		return path, nil
	}
	apt, err := exec.LookPath("apt-get")
	if err != nil || os.Geteuid() != 0 {
		return "", missing
	}
	unlock, err := lock(filepath.Join(os.TempDir(), "pawl-pg-install.lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if path, ok := look(); ok { // by another test binary, while this one waited
		return path, nil
	}
	for _, args := range [][]string{{"update"}, {"install", "-y", "--no-install-recommends", pkg}} {
		cmd := exec.CommandContext(ctx, apt, append([]string{"-o", "DPkg::Lock::Timeout=300"}, args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w (tried: apt-get %s: %w:\n%s)", missing, args[0], err, out)
		}
	}
	if path, ok := look(); ok {
		return path, nil
	}
	return "", missing
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

// lock waits until no other process holds the file; packages of one run install at most once.
func lock(file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}
