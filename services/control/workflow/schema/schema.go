// Package schema makes JSON Schemas of the files that people write, for their editors: workflows, and the front matter
// of agents.
//
// A schema accepts all that the control plane accepts. It refuses what an editor can know to be wrong: unknown keys,
// words that there are not, values of another type. Expressions and references are for `control check`.
package schema

import (
	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// draft is the version of JSON Schema.
const draft = "https://json-schema.org/draft/2020-12/schema"

// Workflow is the schema of workflows/NAME.yaml, as JSON.
func Workflow() ([]byte, error) {
	s := workflow.ObjectSchema(workflow.WorkflowOptions())
	s["$schema"], s["$id"] = draft, "https://pawl.dev/schema/workflow.json"
	s["title"] = "Pawl workflow"
	kinds := []any{}
	defs := map[string]any{
		"steps": map[string]any{
			"type": "array", "minItems": 1, "items": map[string]any{"$ref": "#/$defs/step"},
		},
	}
	for _, k := range workflow.Kinds() {
		name := "step_" + k.Name
		defs[name] = step(k)
		kinds = append(kinds, map[string]any{"$ref": "#/$defs/" + name})
	}
	defs["step"] = map[string]any{"type": "object", "oneOf": kinds}
	s["$defs"] = defs
	return rawjson.Encode(s)
}

// step is the schema of steps of one kind.
func step(k workflow.Kind) map[string]any {
	options := append(workflow.CommonOptions(), k.Options...)
	for i := range options {
		if options[i].Name == k.Name {
			options[i].Required = true
		}
	}
	s := workflow.ObjectSchema(options)
	s["title"], s["description"] = k.Name, k.Doc
	return s
}

// Agent is the schema of the front matter of agents/NAME.md, as JSON.
func Agent() ([]byte, error) {
	s := agent.Schema()
	s["$schema"], s["$id"] = draft, "https://pawl.dev/schema/agent.json"
	s["title"] = "Pawl agent"
	return rawjson.Encode(s)
}
