package agent

import (
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/skill"
)

// Schema is the JSON Schema of the front matter of an agent's file. It accepts all that Parse accepts, and refuses what
// an editor can know to be wrong.
func Schema() map[string]any {
	s := object(map[string]any{
		"model": documented("The model as provider/id, or a list of models of which later ones are asked when those "+
			"before cannot be.", oneOf(reference(), listOf(reference(), 1))),
		"description": documented("What the agent is for; agents that may ask it are told.", text(maxDescription)),
		"thinking": documented("How much the model thinks.", words(string(model.ThinkingOff),
			string(model.ThinkingMinimal), string(model.ThinkingLow), string(model.ThinkingMedium),
			string(model.ThinkingHigh), string(model.ThinkingXHigh))),
		"sandbox":    documented("Where calls run.", SandboxSchema()),
		"cwd":        documented("Directory in which calls run.", text(maxPath)),
		"env":        documented("Variables of calls; ${NAME} is one of control's.", variables()),
		"tools":      documented("Tools that it has; the built-in ones by default.", listOf(text(maxName), 0)),
		"search":     documented("Whether the model may use its provider's search of the web.", boolean()),
		"skills":     documented("Skills of the project.", listOf(text(skill.MaxName), 0)),
		"plugins":    documented("Plugins of the project: it has all that they bring.", listOf(text(maxName), 0)),
		"subagents":  documented("Agents that it may ask.", listOf(text(maxName), 0)),
		"compaction": documented("When and how long conversations are summarised.", compactionSchema()),
		"limits": documented("Bounds of one submission.", object(map[string]any{
			"turns": count(), "tokens": count(), "attempts": count(), "calls": count(), "timeout": text(0),
			"cost_usd": map[string]any{"type": "number", "exclusiveMinimum": 0},
		})),
		"expose":  documented("Where clients can reach it.", listOf(words(string(HTTP), string(WebSocket)), 0)),
		"approve": documented("Rules of which calls wait for somebody to decide.", listOf(ruleSchema(), 0)),
		"tenants": documented("Whom it exists for; all if there is no list.", listOf(text(maxName), 1)),
	})
	s["required"] = []any{"model"}
	return s
}

func ruleSchema() map[string]any {
	s := object(map[string]any{
		"tool": documented("Names of tools, or patterns with *.", oneOf(text(maxPattern), listOf(text(maxPattern), 1))),
		"when": documented("Condition in CEL over args, the arguments.", text(approval.MaxCondition)),
		"do": documented("What becomes of the call.", words(string(approval.DoAsk), string(approval.DoAllow),
			string(approval.DoDeny))),
		"to":      documented("Who may decide.", listOf(words(approval.LevelNames()...), 1)),
		"timeout": documented("How long it waits.", text(0)),
		"on_timeout": documented("What a timeout stands for.",
			words(string(approval.DoDeny), string(approval.DoAllow))),
		"other": documented("Whether somebody else than who asked has to decide.", boolean()),
	})
	s["required"] = []any{"tool", "do"}
	return s
}

func compactionSchema() map[string]any {
	return oneOf(words("off"), object(map[string]any{
		"reserve": count(), "keep": count(), "window": count(), "model": reference(),
	}))
}

func variables() map[string]any {
	return map[string]any{
		"type":                 "object",
		"propertyNames":        map[string]any{"pattern": `^[A-Za-z_][A-Za-z0-9_]*$`},
		"additionalProperties": map[string]any{"type": []any{"string", "null"}},
	}
}

func object(properties map[string]any) map[string]any {
	return map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
}

// documented adds what editors show of a key.
func documented(doc string, s map[string]any) map[string]any {
	s["description"] = doc
	return s
}

func oneOf(schemas ...any) map[string]any { return map[string]any{"anyOf": schemas} }

func reference() map[string]any { return map[string]any{"type": "string", "pattern": `^[^/\s]+/\S+$`} }

func text(most int) map[string]any {
	s := map[string]any{"type": "string"}
	if most > 0 {
		s["maxLength"] = most
	}
	return s
}

func boolean() map[string]any { return map[string]any{"type": "boolean"} }

func count() map[string]any { return map[string]any{"type": "integer", "minimum": 1} }

func listOf(items map[string]any, least int) map[string]any {
	return map[string]any{"type": "array", "items": items, "minItems": least, "uniqueItems": true}
}

func words(choices ...string) map[string]any {
	enum := make([]any, len(choices))
	for i, c := range choices {
		enum[i] = c
	}
	return map[string]any{"enum": enum}
}
