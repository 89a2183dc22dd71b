package control

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// pinnedTo are loops by their ids.
type pinnedTo map[string]store.Pin

// PinOf implements store.Pinned.
func (p pinnedTo) PinOf(_ context.Context, loopID string) (store.Pin, error) { return p[loopID], nil }

// What a call comes to that nobody's lane takes in is recorded without the secrets of its workflow and of its agent.
func TestRepliesOfRunsAreRedacted(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"agents/writer.md": "---\nmodel: offline/echo\nenv: {KEY: '${OF_AGENT}'}\n---\nWrite.\n",
		"workflows/w.yaml": "steps:\n  - {id: a, shell: 'env', env: {TOKEN: '${{ secrets.OF_RUN }}'}}\n" +
			"  - {id: b, if: 'false', http: 'https://example.com/', headers: {X: 'Bearer ${{ secrets.OF_HEADER }}'}}\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	db, err := sqlite.Open(t.Context(), sqlite.Memory, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // nothing depends on it
	env := map[string]string{"OF_AGENT": "agent-secret", "OF_RUN": "run-secret", "OF_HEADER": "header-secret"}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	agents, err := agent.Load(filepath.Join(dir, "agents"), lookup, nil)
	if err != nil {
		t.Fatal(err)
	}
	workflows, err := workflow.LoadIfThere(filepath.Join(dir, "workflows"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ofAgents, ofWorkflows := newPins(agents, db), newWorkflowPins(workflows, db)
	pin, err := ofAgents.PinAgent(t.Context(), session.DefaultTenant, "writer")
	if err != nil {
		t.Fatal(err)
	}
	digest, _, err := ofWorkflows.PinWorkflow(t.Context(), session.DefaultTenant, "w")
	if err != nil {
		t.Fatal(err)
	}
	r := redactor{
		pinnedTo{
			"submission": {Agent: pin.Digest}, "run": {Workflow: digest},
			"guest": {Agent: pin.Digest, Workflow: digest},
		},
		ofAgents, ofWorkflows, lookup,
	}
	said := tool.Answer{Text: "agent-secret run-secret header-secret"}
	for loop, want := range map[string]string{
		"submission": "[redacted] run-secret header-secret", "run": "agent-secret [redacted] [redacted]",
		"guest": "[redacted] [redacted] [redacted]",
	} {
		reply, err := r.Redact(t.Context(), call.Call{ID: "call", LoopID: loop}, said)
		if err != nil {
			t.Fatal(err)
		}
		if got := reply.(tool.Answer).Text; got != want {
			t.Errorf("of a %s: %q, want %q", loop, got, want)
		}
	}
	// Where a secret is not known nothing is recorded: with a reason, which leaves it to the lane's next owner.
	delete(env, "OF_HEADER")
	_, err = r.Redact(t.Context(), call.Call{ID: "call", LoopID: "guest"}, said)
	if e, ok := errs.Public(err); !ok || errs.Temporary(err) || !strings.Contains(e.Error(), "OF_HEADER") {
		t.Errorf("without a secret: %v", err)
	}
}
