package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/cli"
)

// What control would refuse is refused before it is asked, in one line.
func TestRefusals(t *testing.T) {
	t.Setenv("PAWL_TOKEN", "x")
	for want, args := range map[string][]string{
		"--slots is 1 to 10000, not 0":                                        {"--slots", "0"},
		"--slots is 1 to 10000, not 10001":                                    {"--slots", "10001"},
		"--slots is 1 to 10000, not 3000000000":                               {"--slots", "3000000000"},
		`--log-format is text or json, not "xml"`:                             {"--log-format", "xml"},
		"unknown flag: --foo: see `executor --help`":                          {"--foo"},
		"executor takes no arguments, not \"gpu1\": see `executor --help`":    {"gpu1"},
		"--control is HOST:PORT, control's gRPC listener, not \"http://h:1\"": {"--control", "http://h:1"},
		"--label =x: a label's key begins":                                    {"--label", "=x"},
		"--control pawl.example:1 is not on this host, and the token would":   {"--control", "pawl.example:1"},
	} {
		var said bytes.Buffer
		c := command()
		c.SetErr(&said)
		c.SetArgs(append(args, "--data", t.TempDir()))
		err := cli.Execute(t.Context(), c)
		if err == nil || !strings.HasPrefix(said.String(), "executor: "+want) || strings.Count(said.String(), "\n") != 1 {
			t.Errorf("%s: %v, %q", args, err, said.String())
		}
	}
}
