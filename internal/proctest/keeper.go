package proctest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// EndKeeper kills the keeper of an executor's data directory and waits until it is gone. A keeper outlives its executor
// for a while, and would write into a directory that a test removes.
func EndKeeper(dir string, within time.Duration) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("ending the keeper of %s: %w", dir, err)
	}
	for giveUp := time.Now().Add(within); ; time.Sleep(time.Millisecond) {
		left, err := killKeeper(dir)
		if err != nil {
			return fmt.Errorf("ending the keeper of %s: %w", dir, err)
		}
		if !left {
			return nil
		}
		if time.Now().After(giveUp) {
			return fmt.Errorf("the keeper of %s does not end", dir)
		}
	}
}

// killKeeper kills the keepers that serve dir; left is false when there was none.
func killKeeper(dir string) (left bool, err error) {
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return false, err
	}
	for _, name := range commands {
		line, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(line), "\x00__keeper\x00"+dir+"\x00") {
			continue // gone, or another's
		}
		left = true
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			return left, err
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return left, err
		}
	}
	return left, nil
}
