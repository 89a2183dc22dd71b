package main

import (
	"os"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/client"
)

// Who has no operator's token is told so, and not that the control plane does not answer.
func TestMissingTokenIsNamed(t *testing.T) {
	s := start(t, t.TempDir())
	file := client.TokenFile(s.data)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"agents", "list"}, {"token", "list"}, {"prompt", "shell", "x"}, {"ready"}} {
		_, said, err := invoke(t, append(args, "--data", s.data)...)
		if cli.Code(err) != cli.Failed || said != "control: "+file+", the operator's token, is missing: start the "+
			"control plane again, which then makes one, or give another token with --server "+s.here.GRPC+
			" --token-file FILE\n" {
			t.Errorf("%v: code %d, %q", args, cli.Code(err), said)
		}
	}
	if err := os.WriteFile(file, []byte("two tokens\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, said, err := invoke(t, "agents", "list", "--data", s.data)
	if cli.Code(err) != cli.Failed || !strings.Contains(said, "holds more than one token, or none: run this as") {
		t.Errorf("code %d, %q", cli.Code(err), said)
	}
}
