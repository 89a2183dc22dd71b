package provider

import (
	"slices"
	"strings"

	"charm.land/fantasy"
	"charm.land/fantasy/providers/anthropic"
	"charm.land/fantasy/providers/openai"
	"charm.land/fantasy/providers/openaicompat"

	"github.com/pawl-dev/pawl/services/control/model"
)

// clamp is the level that the model has for want: the same, else the next above, else the next below. "" if it has none.
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

const (
	defaultMaxOutput = 32_000 // for Anthropic, which wants to be told
	minBudget        = 1024   // of thinking tokens that Anthropic accepts
	minAnswer        = 1024   // that a budget leaves for the answer
)

var budgets = map[model.Thinking]int64{
	model.ThinkingMinimal: minBudget, model.ThinkingLow: 2048, model.ThinkingMedium: 8192,
	model.ThinkingHigh: 16384, model.ThinkingXHigh: 32768,
}

// anthropicThinking is how a model is told to think. Models of one generation take a budget of tokens, later ones a level;
// the catalogue tells which, since only the latter have the level "max".
func (m *languageModel) anthropicThinking(t model.Thinking, maxOutput int64) (*anthropic.ThinkingProviderOption, *anthropic.Effort) {
	known := m.info.Thinks != nil
	if t == "" || t == model.ThinkingOff || known && !*m.info.Thinks {
		return nil, nil
	}
	if slices.Contains(m.info.Efforts, "max") || !known && m.own {
		level := clamp(string(t), []string{"low", "medium", "high"})
		if known {
			level = clamp(string(t), m.info.Efforts)
		}
		effort := anthropic.Effort(level)
		return nil, &effort
	}
	budget := min(budgets[t], maxOutput-minAnswer)
	if budget < minBudget {
		return nil, nil
	}
	return &anthropic.ThinkingProviderOption{BudgetTokens: budget}, nil
}

// openAIEffort is the level for an OpenAI API, nil to leave it to the model.
func (m *languageModel) openAIEffort(t model.Thinking) *openai.ReasoningEffort {
	if t == "" || !isReasoner(m.info, m.ref.ID) {
		return nil
	}
	want := string(t)
	if t == model.ThinkingOff {
		want = "none"
	}
	has := m.info.Efforts
	if len(has) == 0 {
		has = []string{"low", "medium", "high"}
	}
	level := clamp(want, has)
	if level == "" {
		return nil
	}
	effort := openai.ReasoningEffort(level)
	return &effort
}

// isReasoner reports whether a model of an OpenAI API can be told to think. A model that nothing is known of is asked only if its
// name is one of OpenAI's: other servers may not know the parameter.
func isReasoner(i model.Info, id string) bool {
	if i.Thinks != nil {
		return *i.Thinks
	}
	for _, family := range []string{"o1", "o3", "o4", "gpt-5", "codex-"} {
		if strings.HasPrefix(id, family) {
			return true
		}
	}
	return false
}

// options are what a call says beyond its prompt.
func (m *languageModel) options(req model.Request, c *fantasy.Call) error {
	if req.MaxOutput > 0 {
		c.MaxOutputTokens = new(int64(req.MaxOutput))
	}
	switch m.api {
	case model.APIAnthropic:
		return m.anthropicOptions(req, c)
	case model.APIResponses:
		m.responsesOptions(req, c)
	default:
		m.chatOptions(req, c)
	}
	return nil
}

func (m *languageModel) anthropicOptions(req model.Request, c *fantasy.Call) error {
	if c.MaxOutputTokens == nil {
		c.MaxOutputTokens = new(int64(defaultMaxOutput))
		if m.info.MaxOutput > 0 {
			*c.MaxOutputTokens = m.info.MaxOutput
		}
	}
	o := &anthropic.ProviderOptions{}
	o.Thinking, o.Effort = m.anthropicThinking(req.Thinking, *c.MaxOutputTokens)
	if len(req.Tools) > 0 {
		tools, err := anthropicTools(req.Tools)
		if err != nil {
			return err
		}
		o.ExtraBody = map[string]any{"tools": tools}
	}
	c.ProviderOptions = anthropic.NewProviderOptions(o)
	return nil
}

func (m *languageModel) responsesOptions(req model.Request, c *fantasy.Call) {
	o := &openai.ResponsesProviderOptions{ReasoningEffort: m.openAIEffort(req.Thinking), ParallelToolCalls: parallel(req)}
	if isReasoner(m.info, m.ref.ID) {
		o.Include = []openai.IncludeType{openai.IncludeReasoningEncryptedContent}
		if o.ReasoningEffort != nil && *o.ReasoningEffort != openai.ReasoningEffortNone {
			o.ReasoningSummary = new("auto")
		}
	}
	if req.CacheKey != "" {
		o.PromptCacheKey = new(name(req.CacheKey))
	}
	c.ProviderOptions = openai.NewResponsesProviderOptions(o)
}

func (m *languageModel) chatOptions(req model.Request, c *fantasy.Call) {
	o := &openaicompat.ProviderOptions{ReasoningEffort: m.openAIEffort(req.Thinking)}
	if req.CacheKey != "" && m.own { // other servers may not know the parameter
		o.ExtraBody = map[string]any{"prompt_cache_key": name(req.CacheKey)}
	}
	c.ProviderOptions = openaicompat.NewProviderOptions(o)
}

// parallel asks for parallel tool calls where there are tools.
func parallel(req model.Request) *bool {
	if len(req.Tools) == 0 {
		return nil
	}
	return new(true)
}
