package debian

import (
	"errors"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	if path, err := Find(t.Context(), "dash", "no-such-program-1", "sh"); err != nil || !strings.HasSuffix(path,
		"/sh") {
		t.Errorf("%q, %v", path, err)
	}
}

// What is not root installs nothing, and says what to install.
func TestMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // without apt-get
	_, err := Find(t.Context(), "some-package", "no-such-program")
	if err == nil || !strings.Contains(err.Error(), "apt-get install some-package") {
		t.Errorf("%v", err)
	}
	missing := errors.New("missing")
	if _, err := Install(t.Context(), "some-package", func() (string, bool) { return "", false },
		missing); !errors.Is(err, missing) {
		t.Errorf("%v", err)
	}
}
