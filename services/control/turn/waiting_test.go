package turn

import (
	"cmp"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/session"
)

// What a wait says: what is missing and what to do, by what is known of the executor.
func TestWhyACallWaits(t *testing.T) {
	seen := fleet.Executor{ID: "m", LastSeen: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)}
	for name, c := range map[string]struct {
		tenant   string // "" for the default one
		sandbox  agent.Sandbox
		executor string // that the workspace is bound to
		known    bool
		reason   string
		says     []string
	}{
		"no executor at all": {
			"",
			agent.Sandbox{Kind: agent.SandboxLocal},
			"", true, "NO_EXECUTOR",
			[]string{"no executor is connected", "control token create --executor NAME"},
		},
		"none with the labels": {
			"",
			agent.Sandbox{Kind: agent.SandboxExecutor, Labels: map[string]string{"b": "2", "a": "1"}},
			"", true, "NO_EXECUTOR",
			[]string{"the labels a=1, b=2", "--label a=1 --label b=2"},
		},
		"none for a tenant": {
			"acme",
			agent.Sandbox{Kind: agent.SandboxExecutor, Labels: map[string]string{"a": "1"}},
			"", true, "NO_EXECUTOR",
			[]string{
				"no executor with the labels a=1 serves the tenant acme", "--executor NAME --tenant acme",
				"--shared", "--allow-shared-none",
			},
		},
		"the one with the files is away": {
			"",
			agent.Sandbox{},
			"m", true, "EXECUTOR_AWAY",
			[]string{"executor m, which has this session's files, is not connected (last seen 2026-02-03 04:05:06 " +
				"UTC)", "start it again"},
		},
		"it is gone for good": {
			"",
			agent.Sandbox{},
			"m", false, "EXECUTOR_GONE",
			[]string{"executor m, which has this session's files, is not known any more", "prompt another session"},
		},
	} {
		key := session.Key{Tenant: cmp.Or(c.tenant, session.DefaultTenant)}
		l := &Lane{deps: Deps{DisconnectGrace: time.Minute}, executor: c.executor, key: key}
		w := NewStrand(l, anybody{}, Who{}, &Kit{Sandbox: c.sandbox}).unplaced(seen.LastSeen, seen, c.known)
		if w.Reason != c.reason || w.Executor != c.executor || w.Until.Sub(w.Since) != time.Minute {
			t.Errorf("%s: %+v", name, w)
		}
		for _, part := range c.says {
			if !strings.Contains(w.Message, part) {
				t.Errorf("%s: %q lacks %q", name, w.Message, part)
			}
		}
	}
}
