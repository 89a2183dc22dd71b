package control_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control"
	"github.com/pawl-dev/pawl/services/control/agent"
)

// The snippets of the guide to models can be copied: the providers file is one, and agents that are shown load with it.
func TestModelsAreDocumentedAsTheyAre(t *testing.T) {
	text, err := os.ReadFile("../../docs/models.md")
	if err != nil {
		t.Fatal(err)
	}
	var files, agents []string
	for i, part := range strings.Split(string(text), "```") {
		snippet, ok := strings.CutPrefix(part, "yaml\n")
		switch {
		case i%2 == 0 || !ok:
		case strings.HasPrefix(snippet, "---\n"):
			agents = append(agents, snippet)
		case strings.HasPrefix(snippet, "model: "):
			agents = append(agents, "---\n"+snippet+"---\nYou help.\n")
		default:
			files = append(files, snippet)
		}
	}
	if len(files) != 1 || len(agents) < 2 {
		t.Fatalf("the guide shows %d providers files and %d agents", len(files), len(agents))
	}
	file := filepath.Join(t.TempDir(), "providers.yaml")
	if err := os.WriteFile(file, []byte(files[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"GOOGLE_CLOUD_PROJECT": "p", "ANTHROPIC_API_KEY": "k", "GEMINI_API_KEY": "k"}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	models, err := control.NewModels(file, lookup)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range agents {
		if _, err := agent.Parse("shown", "docs/models.md", []byte(a), lookup, models.Check); err != nil {
			t.Errorf("%v\n%s", err, a)
		}
	}
	var named []string
	for _, ref := range models.Configured() {
		named = append(named, ref.String())
	}
	if got := strings.Join(named, " "); got != "local/qwen3 work/my-deployment" {
		t.Errorf("the file has %s", got)
	}
	// The table names the variable that holds each provider's key.
	for provider, variable := range maps.All(map[string]string{
		"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY", "gemini": "GEMINI_API_KEY",
		"azure": "AZURE_OPENAI_API_KEY", "groq": "GROQ_API_KEY",
	}) {
		if !strings.Contains(string(text), "`"+variable+"`") {
			t.Errorf("%s is not documented", variable)
		}
		all := models.Of(provider)
		if len(all) == 0 {
			t.Errorf("no model of %s is known", provider)
			continue
		}
		d := models.Describe(all[0])
		if d.KeyEnv != variable || d.KeySet != (env[variable] != "") {
			t.Errorf("the key of %s is in %s, set: %v", d.Ref, d.KeyEnv, d.KeySet)
		}
	}
}
