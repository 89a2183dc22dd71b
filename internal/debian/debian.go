// Package debian installs the programs that tests run and that a machine may lack. It does so on Debian and for root
// only: elsewhere a test fails and says what to install.
package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Find is the path of a program, which is installed if it is missing. names are its names in the search path, in order
// of preference; pkg is the package that it is in.
func Find(ctx context.Context, pkg string, names ...string) (string, error) {
	look := func() (string, bool) {
		for _, name := range names {
			if path, err := exec.LookPath(name); err == nil {
				return path, true
			}
		}
		return "", false
	}
	return Install(ctx, pkg, look, fmt.Errorf("%s is not installed: install it (Debian: apt-get install %s)", names[0],
		pkg))
}

// Install is what look finds. If it finds nothing, the package is installed; if that is not possible, the error is
// missing. Processes that install at the same time wait for each other.
func Install(ctx context.Context, pkg string, look func() (path string, ok bool), missing error) (string, error) {
	if path, ok := look(); ok {
		return path, nil
	}
	apt, err := exec.LookPath("apt-get")
	if err != nil || os.Geteuid() != 0 {
		return "", missing
	}
	unlock, err := lock(filepath.Join(os.TempDir(), "pawl-test-install.lock"))
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
