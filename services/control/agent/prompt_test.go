package agent

import (
	"slices"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/tool/builtin"
)

func TestSystemPrompt(t *testing.T) {
	d := Definition{Instructions: "You review changes.\nBe brief."}
	for name, c := range map[string]struct {
		d    Definition
		s    Surroundings
		want string
	}{
		"all": {d, Surroundings{Date: "Mon, Nov 23, 2026"}, headless +
			"\n\nYou review changes.\nBe brief.\n\nDate: Mon, Nov 23, 2026"},
		"no instructions": {Definition{}, Surroundings{Date: "today"}, headless + "\n\nDate: today"},
		"nothing":         {Definition{}, Surroundings{}, headless},
	} {
		if got := SystemPrompt(c.d, c.s); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
	}
	for _, must := range []string{"never ask", "never wait", "No human"} {
		if !strings.Contains(headless, must) {
			t.Errorf("the preamble must say %q", must)
		}
	}
}

func TestShellIsComplete(t *testing.T) {
	d := Shell()
	if d.Name != "shell" || d.Model.String() != "offline/shell" || d.Sandbox.Kind != SandboxLocal ||
		!slices.Equal(d.Tools, builtin.Names()) ||
		d.Limits != DefaultLimits() || d.Description == "" || d.Instructions == "" || !d.Exposes(HTTP) ||
		!d.Exposes(WebSocket) {
		t.Errorf("got %#v", d)
	}
	d.Expose = []Surface{WebSocket}
	if d.Exposes(HTTP) {
		t.Error("exposed on a surface that is not named")
	}
}
