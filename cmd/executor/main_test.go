package main

import (
	"io"
	"strings"
	"testing"
)

// What control would refuse is refused before it is asked.
func TestSlots(t *testing.T) {
	t.Setenv("PAWL_TOKEN", "x")
	for _, n := range []string{"0", "10001", "3000000000"} {
		c := command(io.Discard)
		c.SetArgs([]string{"--slots", n, "--data", t.TempDir()})
		if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "--slots is 1 to 10000, not "+n) {
			t.Errorf("%s: %v", n, err)
		}
	}
}
