package control

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// A run that began with a definition goes on with it, whatever becomes of the file, in another process too.
func TestRunsFindTheirDefinition(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	db, err := sqlite.Open(t.Context(), sqlite.Memory, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	process := func() (workflowPins, *workflow.Catalogue) {
		c, err := workflow.LoadIfThere(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		return newWorkflowPins(c, db), c
	}
	write("steps: [{id: one, log: first}]\n")
	before, c := process()
	digest, d, err := before.PinWorkflow(t.Context(), session.DefaultTenant, "a")
	if err != nil || digest != d.Digest() {
		t.Fatal(digest, err)
	}
	if _, _, err := before.PinWorkflow(t.Context(), session.DefaultTenant, "b"); !errors.Is(err, workflow.ErrNotFound) {
		t.Errorf("a workflow that there is not: %v", err)
	}
	write("steps: [{id: two, log: second}]\n")
	if change := c.Reload(); len(change.Changed) != 1 {
		t.Fatalf("%+v", change)
	}
	if now, _, err := before.PinWorkflow(t.Context(), session.DefaultTenant, "a"); err != nil || now == digest {
		t.Errorf("new runs begin with the old definition: %v", err)
	}
	after, _ := process()
	for name, p := range map[string]workflowPins{"before": before, "after": after} {
		got, err := p.Workflow(t.Context(), digest)
		if err != nil || got.Digest() != digest || got.Steps[0].ID != "one" {
			t.Errorf("%s the restart: %v", name, err)
		}
	}
	// In a catalogue of another process nothing is known of it: it came from the database.
	if _, err := after.catalogue.ByDigest(digest); !errors.Is(err, workflow.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// A run that is pinned to what cannot be decoded settles with a reason that speaks of runs.
func TestUnreadableWorkflowHasAReason(t *testing.T) {
	_, err := newWorkflowPins(none(t), &damaged{}).Workflow(t.Context(), "digest")
	if e, ok := errs.Public(err); !ok || errs.Temporary(err) || e.Reason() != "DEFINITION_UNREADABLE" ||
		!strings.Contains(err.Error(), "start the workflow again") {
		t.Error(err)
	}
}
