package agent

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// The schema for editors knows the keys that the parser knows, at every level.
func TestSchemaKnowsEveryKey(t *testing.T) {
	keys := func(s any, way ...string) string {
		for _, name := range way {
			of := s.(map[string]any)
			if s = of[name]; name == "" {
				s = of["anyOf"].([]any)[1]
			}
		}
		return strings.Join(slices.Sorted(maps.Keys(s.(map[string]any)["properties"].(map[string]any))), ", ")
	}
	s := Schema()
	for where, want := range map[string]string{
		"color: red":                                        keys(s),
		"limits: {color: red}":                              keys(s, "properties", "limits"),
		"compaction: {color: red}":                          keys(s, "properties", "compaction", ""),
		"approve: [{color: red, tool: bash, do: ask}]":      keys(s, "properties", "approve", "items"),
		"sandbox: {executor: {labels: {a: b}}, color: red}": keys(s, "properties", "sandbox", ""),
	} {
		_, err := parse("---\nmodel: offline/shell\n" + where + "\n---\n")
		if err == nil {
			t.Errorf("%s is accepted", where)
			continue
		}
		_, known, ok := strings.Cut(err.Error(), "unknown key; there are ")
		all := strings.Split(known, ", ")
		slices.Sort(all)
		if got := strings.Join(all, ", "); !ok || got != want {
			t.Errorf("%s: the parser knows %s, the schema %s", where, got, want)
		}
	}
}
