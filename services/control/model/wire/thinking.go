package wire

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pawl-dev/pawl/services/control/model"
)

// clamp is the level that the model has for want: the same, else the next above, else the next below. "" if it has
// none.
func clamp(want string, has []string) string {
	at := slices.Index(model.Efforts, want)
	for _, e := range model.Efforts[max(at, 0):] {
		if slices.Contains(has, e) {
			return e
		}
	}
	for i := at - 1; i >= 0; i-- {
		if slices.Contains(has, model.Efforts[i]) {
			return model.Efforts[i]
		}
	}
	return ""
}

// usual are the levels of a model of which nothing is known.
var usual = []string{"low", "medium", "high"}

// budgetOf is a level of thinking in tokens.
func budgetOf(t model.Thinking) int64 {
	switch t {
	case model.ThinkingMinimal:
		return minBudget
	case model.ThinkingLow:
		return 2048
	case model.ThinkingMedium:
		return 8192
	case model.ThinkingHigh:
		return 16384
	case model.ThinkingXHigh:
		return 32768
	}
	return 0
}

// anthropicThinking is how a model is told to think: 0 and "" leave it out. Models of one generation take a budget of
// tokens, later ones a level; the catalogue tells which, since only the latter have the level "max".
func anthropicThinking(t Target, want model.Thinking, maxOutput int64) (budget int64, effort string) {
	known := t.Info.Thinks != nil
	if want == "" || want == model.ThinkingOff || known && !*t.Info.Thinks {
		return 0, ""
	}
	if slices.Contains(t.Info.Efforts, "max") || !known && t.Own {
		if known {
			return 0, clamp(string(want), t.Info.Efforts)
		}
		return 0, clamp(string(want), usual)
	}
	if budget = min(budgetOf(want), maxOutput-minAnswer); budget < minBudget {
		return 0, ""
	}
	return budget, ""
}

// openAIEffort is the level for an OpenAI API, "" to leave it to the model.
func openAIEffort(t Target, want model.Thinking) string {
	if want == "" || !isReasoner(t) {
		return ""
	}
	level := string(want)
	if want == model.ThinkingOff {
		level = "none"
	}
	if len(t.Info.Efforts) == 0 {
		return clamp(level, usual)
	}
	return clamp(level, t.Info.Efforts)
}

// isReasoner reports whether a model of an OpenAI API can be told to think. A model that nothing is known of is asked
// only if its name is one of OpenAI's: other servers may not know the parameter.
func isReasoner(t Target) bool {
	if t.Info.Thinks != nil {
		return *t.Info.Thinks
	}
	for _, family := range []string{"o1", "o3", "o4", "gpt-5", "codex-"} {
		if strings.HasPrefix(t.Ref.ID, family) {
			return true
		}
	}
	return false
}

// Bounds of the budgets of Gemini's older models, in tokens.
const (
	geminiLeast = 128    // the least that a model takes that always thinks
	geminiMost  = 24_576 // the most that all of them take
)

// geminiThinking is the thinkingConfig of a request, "" to leave it to the model. Models up to 2.5 take a budget of
// tokens, later ones a level.
func geminiThinking(t Target, want model.Thinking, maxOutput int64) string {
	gemini := strings.HasPrefix(t.Ref.ID, "gemini-")
	if want == "" || t.Info.Thinks != nil && !*t.Info.Thinks || t.Info.Thinks == nil && !gemini {
		return ""
	}
	budgeted := len(t.Info.Efforts) == 0 && (!gemini || !wantsSignatures(t))
	if want == model.ThinkingOff {
		switch {
		case !budgeted:
			return `{"thinkingLevel":"` + strings.ToUpper(clamp("none", geminiLevels(t))) + `"}`
		case strings.Contains(t.Ref.ID, "pro"):
			return `{"thinkingBudget":` + strconv.Itoa(geminiLeast) + `}`
		}
		return `{"thinkingBudget":0}`
	}
	if !budgeted {
		return `{"includeThoughts":true,"thinkingLevel":"` + strings.ToUpper(clamp(string(want),
			geminiLevels(t))) + `"}`
	}
	budget := min(budgetOf(want), geminiMost)
	if maxOutput > 0 {
		budget = min(budget, maxOutput-minAnswer)
	}
	if budget < geminiLeast {
		return ""
	}
	return `{"includeThoughts":true,"thinkingBudget":` + strconv.FormatInt(budget, 10) + `}`
}

func geminiLevels(t Target) []string {
	if len(t.Info.Efforts) == 0 {
		return usual
	}
	return t.Info.Efforts
}

// wantsSignatures reports whether a model refuses its calls without their signatures: Gemini from version 3 on.
func wantsSignatures(t Target) bool {
	version, ok := strings.CutPrefix(t.Ref.ID, "gemini-")
	return ok && version != "" && version[0] >= '3' && version[0] <= '9'
}
