package provider

import (
	"encoding/json"
	"fmt"

	"charm.land/fantasy"

	"github.com/pawl-dev/pawl/services/control/model"
)

// tools are the tools in fantasy's form.
func tools(from []model.Tool) ([]fantasy.Tool, error) {
	var to []fantasy.Tool
	for _, t := range from {
		var schema map[string]any
		if err := json.Unmarshal(t.Schema, &schema); err != nil {
			return nil, fmt.Errorf("the schema of tool %q: %w", t.Name, err)
		}
		if schema["type"] == "object" && schema["properties"] == nil {
			schema["properties"] = map[string]any{} // OpenAI wants them
		}
		to = append(to, fantasy.FunctionTool{Name: t.Name, Description: t.Description, InputSchema: schema})
	}
	return to, nil
}

// anthropicTool is a tool as Anthropic takes it. Fantasy passes on no more of a schema than its properties: "$defs" and the like
// would be lost.
type anthropicTool struct {
	Name         string            `json:"name"`
	Description  string            `json:"description,omitempty"`
	InputSchema  json.RawMessage   `json:"input_schema"`
	CacheControl map[string]string `json:"cache_control,omitempty"`
}

// anthropicTools are the tools with their whole schemas. The last one marks the end of a prefix to cache.
func anthropicTools(from []model.Tool) ([]json.RawMessage, error) {
	var to []json.RawMessage
	for i, t := range from {
		a := anthropicTool{Name: t.Name, Description: t.Description, InputSchema: t.Schema}
		if i == len(from)-1 {
			a.CacheControl = map[string]string{"type": "ephemeral"}
		}
		raw, err := json.Marshal(a)
		if err != nil {
			return nil, fmt.Errorf("the schema of tool %q: %w", t.Name, err)
		}
		to = append(to, raw)
	}
	return to, nil
}
