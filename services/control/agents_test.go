package control

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tenancy"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// definitions counts what is stored.
type definitions struct{ stored int }

func (d *definitions) PutDefinition(context.Context, string, string, []byte) error {
	d.stored++
	return nil
}

func (*definitions) GetDefinition(context.Context, string) ([]byte, error) {
	return []byte(`{"name":"old"}`), nil
}

// A definition that is in use is stored again from time to time: a stored one that nothing was pinned to for long is
// deleted.
func TestDefinitionsInUseAreStoredAgain(t *testing.T) {
	catalogue, err := agent.Load("", func(string) (string, bool) { return "", false }, nil, agent.Shell())
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		d := &definitions{}
		p := newPins(catalogue, d)
		for range 10 * 60 { // minutes
			if _, err := p.PinAgent(t.Context(), session.DefaultTenant, "shell"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		if d.stored != 10 {
			t.Errorf("stored %d times in 10 hours, want 10", d.stored)
		}
	})
}

// Each edit of a file leaves a definition that work may still be pinned to. A process that lives through many edits
// does not keep them all.
func TestOldDefinitionsAreBounded(t *testing.T) {
	catalogue, err := agent.Load("", func(string) (string, bool) { return "", false }, nil, agent.Shell())
	if err != nil {
		t.Fatal(err)
	}
	p := newPins(catalogue, &definitions{})
	for n := range 10 * keptOld {
		if def, err := p.Definition(t.Context(), fmt.Sprint("digest-", n)); err != nil || def.Name != "old" {
			t.Fatal(def.Name, err)
		}
	}
	if len(p.old) > keptOld {
		t.Errorf("%d definitions are kept, want at most %d", len(p.old), keptOld)
	}
}

// damaged has definitions that cannot be decoded.
type damaged struct{ definitions }

func (*damaged) GetDefinition(context.Context, string) ([]byte, error) { return []byte("{"), nil }

// Work that is pinned to what cannot be decoded settles with a reason: another attempt would find the same bytes.
func TestUnreadableDefinitionHasAReason(t *testing.T) {
	catalogue, err := agent.Load("", func(string) (string, bool) { return "", false }, nil, agent.Shell())
	if err != nil {
		t.Fatal(err)
	}
	_, err = newPins(catalogue, &damaged{}).Definition(t.Context(), "digest")
	if e, ok := errs.Public(err); !ok || errs.Temporary(err) || e.Reason() != "DEFINITION_UNREADABLE" {
		t.Error(err)
	}
}

// none is a project without workflows.
func none(t *testing.T) *workflow.Catalogue {
	t.Helper()
	c, err := workflow.Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tenants are those of an installation.
type tenants struct {
	tenancy.Store
	names []string
}

func (t tenants) ListTenants(context.Context) (all []tenancy.Tenant, err error) {
	for _, name := range t.names {
		all = append(all, tenancy.Tenant{Name: name})
	}
	return append(all, tenancy.Tenant{Name: "gone", DeletingAt: time.Now()}), nil
}

// An agent for a tenant that there is not, or not for long, is loaded: the tenant may be made later. The log says so.
func TestAgentsForTenantsThatThereAreNot(t *testing.T) {
	for names, want := range map[string]string{
		"acme": "", "acme zoo": "zoo", "acme gone": "gone", "": "",
	} {
		def := agent.Shell()
		def.Tenants = strings.Fields(names)
		c, err := agent.Load("", os.LookupEnv, nil, def)
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		to := slog.New(slog.NewTextHandler(&log, nil))
		a := agents{c, none(t), nil, tenants{names: []string{"acme"}}, to, func() {}}
		ctx, end := context.WithCancel(t.Context())
		end()
		if err := a.onSignal(ctx, nil); err != nil {
			t.Fatal(err)
		}
		if want != "" && !strings.Contains(log.String(), "tenants=["+want+"]") || want == "" && log.Len() > 0 {
			t.Errorf("%q: %s", names, log.String())
		}
	}
}

// speaking are models of which some speak an API that has a search.
type speaking struct{}

type speaks struct {
	*modeltest.Scripted
	api model.API
}

func (m speaks) API() model.API { return m.api }

func (speaking) Model(ref model.Ref) (model.Model, error) {
	api := map[string]model.API{"searches": model.APIGemini, "plain": model.APIChat}[ref.ID]
	return speaks{modeltest.New(), api}, nil
}

// A reload that makes an agent search with a model whose API has no search says so, of fallbacks too.
func TestAReloadWarnsOfModelsThatCannotSearch(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.md")
	write := func(models string, search bool) {
		text := fmt.Sprintf("---\nmodel: %s\nsearch: %v\nsandbox: none\n---\nHelp.\n", models, search)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("x/searches", true)
	c, err := agent.Load(filepath.Dir(file), os.LookupEnv, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := agents{c, none(t), speaking{}, nil, slog.New(slog.DiscardHandler), func() {}}
	for _, tt := range []struct {
		models string
		search bool
		want   []agent.Warning
	}{
		{"[x/searches]", true, nil},
		{"x/plain", false, nil},
		{"[x/searches, x/plain]", true, []agent.Warning{{
			Name: "a", Message: "search: x/plain cannot search the web: its API has no search",
		}}},
	} {
		write(tt.models, tt.search)
		change, _ := a.Reload()
		if len(change.Problems) > 0 || !slices.Equal(change.Warnings, tt.want) {
			t.Errorf("%s: %+v, %v, want %v", tt.models, change.Problems, change.Warnings, tt.want)
		}
	}
}
