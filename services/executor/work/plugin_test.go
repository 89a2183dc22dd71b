package work

import (
	"errors"
	"testing"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/mcp"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// A server of a plugin is started with the places of its plugin, and in one of them.
func TestAServerOfAPlugin(t *testing.T) {
	within(t, func(r *rig) {
		home := r.box.Home()
		root, data := home+"/.pawl/plugins/p@d", home+"/.pawl/plugin-data/t/p"
		r.box.Put(root+"/sub/f", "x")
		place := func(cwd string) (mcp.Spec, error) {
			theirs := "agent's"
			spec := mcp.Spec{
				Name: "s", Program: "./bin/run", Args: []string{"${PLUGIN_ROOT}/x", "${PLUGIN_DATA}:${HOME}"}, Cwd: cwd,
				Env: map[string]*string{"A": &theirs, "PLUGIN_ROOT": &theirs},
			}
			err := r.s.ofPlugin(t.Context(), &spec, &pawlv1.McpPlugin{
				Root: "~/.pawl/plugins/p@d", Data: "~/.pawl/plugin-data/t/p",
				Env: map[string]string{"A": "${PLUGIN_DATA}/a", "B": "$PLUGIN_ROOT"},
			})
			return spec, err
		}
		spec, err := place("")
		if err != nil || spec.Program != root+"/bin/run" || spec.Args[0] != root+"/x" ||
			spec.Args[1] != data+":${HOME}" || spec.Cwd != root {
			t.Errorf("%+v, %v", spec, err)
		}
		for name, want := range map[string]string{
			"A": data + "/a", "B": "$PLUGIN_ROOT", "PLUGIN_ROOT": root, "PLUGIN_DATA": data,
		} {
			if got := spec.Env[name]; got == nil || *got != want {
				t.Errorf("%s is not %s: %v", name, want, got)
			}
		}
		for cwd, want := range map[string]string{
			"./sub": root + "/sub", "${PLUGIN_ROOT}/sub": root + "/sub", "${PLUGIN_DATA}/new": data + "/new",
		} {
			if spec, err := place(cwd); err != nil || spec.Cwd != want {
				t.Errorf("%s is %s, %v", cwd, spec.Cwd, err)
			}
		}
		for _, cwd := range []string{"../..", "/etc", "${PLUGIN_DATA}/../other", root + "-other"} {
			if spec, err := place(cwd); !errors.Is(err, sandbox.ErrInvalidArg) {
				t.Errorf("%s is %s, %v", cwd, spec.Cwd, err)
			}
		}
	})
}
