package openapi

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
)

// byHand describes what no generator can: files, whose bytes are no JSON, and commands, whose RPC takes a stream. Each
// path of a session is there for executors, too.
//
//go:embed byhand.json
var byHand string

//go:embed byhand.schemas.json
var byHandSchemas string

// addByHand adds the paths and schemas that are described by hand.
func addByHand(paths, schemas object) error {
	twin := strings.NewReplacer("/v1/sessions/{session_id}", "/v1/executors/{executor_id}",
		`"name": "session_id"`, `"name": "executor_id"`,
		"The id of a session.", "The id of an executor: for operators.",
		"below the agent's cwd", "below the executor's root")
	for _, text := range []string{byHand, twin.Replace(byHand)} {
		var more object
		if err := json.Unmarshal([]byte(text), &more); err != nil {
			return fmt.Errorf("byhand.json: %w", err)
		}
		maps.Copy(paths, more)
	}
	var more object
	if err := json.Unmarshal([]byte(byHandSchemas), &more); err != nil {
		return fmt.Errorf("byhand.schemas.json: %w", err)
	}
	maps.Copy(schemas, more)
	return nil
}
