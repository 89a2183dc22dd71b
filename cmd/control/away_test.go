package main

import (
	"strings"
	"testing"
)

// Whoever moves a session to an executor that is away is told so: its calls wait there.
func TestRebindToOneThatIsAway(t *testing.T) {
	data := t.TempDir()
	s := start(t, data)
	answer(t, data, "shell", "true")
	_, said, err := invoke(t, "sessions", "rebind", "shell/cli", "builtin", "--data", data)
	if err != nil || said != "" {
		t.Errorf("to one that is there: %v, %q", err, said)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	start(t, data, "--executor", "none")
	var out string
	out, said, err = invoke(t, "sessions", "rebind", "shell/cli", "builtin", "--data", data)
	if err != nil || out != "session shell/cli is with executor builtin now\n" ||
		!strings.HasPrefix(said, "executor builtin is not connected: calls of the session wait for it") {
		t.Errorf("to one that is away: %v, %q, %q", err, out, said)
	}
}
