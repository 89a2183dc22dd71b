package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pawl-dev/pawl/internal/debian"
)

var errNoFakeTime = errors.New("libfaketime is not installed: install it (Debian: apt-get install libfaketime)")

// fakeTime is the library that tells a server another time. On Debian, root gets it installed.
func fakeTime(ctx context.Context) (string, error) {
	return debian.Install(ctx, "libfaketime", func() (string, bool) {
		found, _ := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1") // the pattern is constant and well-formed
		if len(found) == 0 {
			return "", false
		}
		return found[0], true
	}, errNoFakeTime)
}

// SetClock makes the server's clock apart from this machine's by an offset, from now on and at once, as a failover to a
// machine with another clock does. It is for clusters that were started with Options.Clock.
func (c *Cluster) SetClock(offset time.Duration) error {
	if c.clock == "" {
		return errors.New("the cluster was started without a clock of its own")
	}
	return writeClock(c.clock, offset)
}

// writeClock replaces the file that the server reads whenever it looks at the clock.
func writeClock(file string, offset time.Duration) error {
	next := file + ".next"
	//nolint:gosec // who runs the server reads it
	if err := os.WriteFile(next, fmt.Appendf(nil, "%+.3f\n", offset.Seconds()), 0o644); err != nil {
		return err
	}
	return os.Rename(next, file)
}
