package provider

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/wire"
)

// refusals are the parameters that servers refused, by address and model, for the life of the process.
type refusals struct {
	mu      sync.Mutex // guards what follows
	servers map[string]*refused
}

// maxServers bounds the memory against names that clients invent.
const maxServers = 4096

func (r *refusals) of(server string) *refused {
	r.mu.Lock()
	defer r.mu.Unlock()
	found, ok := r.servers[server]
	if !ok {
		found = &refused{}
		if r.servers == nil {
			r.servers = map[string]*refused{}
		}
		if len(r.servers) < maxServers {
			r.servers[server] = found
		}
	}
	return found
}

// refused are the parameters that one server refused of one model.
type refused struct {
	mu    sync.Mutex // guards what follows
	names []string
}

func (r *refused) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.names
}

func (r *refused) add(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.names, name) {
		r.names = append(slices.Clone(r.names), name) // lists that were given out stay as they are
	}
}

// amend changes what a refused request was refused for, and says in words what it is sent without now; "" when there is
// nothing to change. A request that was refused has cost nothing.
func (m *languageModel) amend(c *call, e *model.Error) string {
	words := strings.ToLower(e.Text)
	if c.answerLess(words) {
		return "a part of max_tokens"
	}
	tooLarge := e.Kind == model.KindContextOverflow &&
		(e.Status == http.StatusRequestEntityTooLarge || strings.Contains(words, "payload size"))
	// A router has no model for a request with images.
	noEyes := e.Kind == model.KindNotFound && strings.Contains(words, "image")
	if e.Kind != model.KindInvalidRequest && !tooLarge && !noEyes {
		return ""
	}
	if name := m.refusedParameter(c, words); name != "" {
		m.refused.add(name)
		return name
	}
	conv := c.conversation
	omit, what := conv.encoder.Refused(words, c.Messages, tooLarge)
	if what == "" {
		return ""
	}
	conv.encoder = wire.NewEncoder(m.target, omit)
	return what
}

// leastAnswer is how many tokens an answer may have at least, for an input that leaves less room to count as too long.
const leastAnswer = 4096

// answerLess asks for a shorter answer if that is what a refusal wants: Anthropic's older models refuse an input to
// which the longest answer would not fit.
func (c *call) answerLess(words string) bool {
	found := noRoom().FindStringSubmatch(words)
	if found == nil {
		return false
	}
	input, err := strconv.Atoi(found[1])
	window, err2 := strconv.Atoi(found[2])
	if err != nil || err2 != nil || window-input < leastAnswer || c.MaxOutput > 0 && c.MaxOutput <= window-input {
		return false
	}
	c.MaxOutput = window - input
	return true
}

var noRoom = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile("input length and .?max_tokens.? exceed context limit: (\\d+) \\+ \\d+ > (\\d+)")
})

// optional are the parameters that a request can do without, by API; parts of one before the whole.
var optional = map[model.API][]string{
	model.APIAnthropic: {wire.Marks, "output_config", "thinking"},
	model.APIChat: {
		"stream_options", "reasoning_effort", "prompt_cache_key", "max_completion_tokens", "max_tokens",
	},
	model.APIResponses: {
		"reasoning.summary", "parallel_tool_calls", "prompt_cache_key", "include", "reasoning", "store",
		"max_output_tokens",
	},
	model.APIGemini:   {thinkingConfig},
	model.APIConverse: {wire.Marks, thinkingFields},
}

// Where Gemini, and Anthropic's models on Bedrock, are told how much to think.
const (
	thinkingConfig = "generationConfig.thinkingConfig"
	thinkingFields = "additionalModelRequestFields"
)

// names reports whether the words of a refusal name a parameter. Google writes names as its own libraries do.
func names(words, parameter string) bool {
	switch parameter {
	case thinkingConfig, thinkingFields:
		return (thinking().MatchString(words) || strings.Contains(words, "output_config")) &&
			!strings.Contains(words, "signature")
	case wire.Marks:
		return wire.Names(words, parameter) || strings.Contains(words, "cachepoint")
	}
	return wire.Names(words, parameter)
}

var thinking = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`thinking[_ ]?(config|budget|level|mode|is)|budget \d+ is`)
})

var (
	// refusing are the words in which servers say that they do not take something.
	refusing = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`unsupported|not support|unknown|unrecogni[sz]ed|unexpected|not permitted|` +
			`not allowed|not recogni[sz]ed|extra (inputs|fields|params)|additional propert|not (a )?valid|invalid|` +
			`no such|must be verified|not available|cannot be used|can't be used`)
	})
	// inConversation are the paths by which servers name a part of the conversation.
	inConversation = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`\b(messages|input|contents)\b['"\]]*[.\[]+['"\[]*\d+`)
	})
)

// refusedParameter is the parameter that the words of a refusal name, if the request had it and can do without.
func (m *languageModel) refusedParameter(c *call, words string) string {
	if !refusing().MatchString(words) || inConversation().MatchString(words) {
		return ""
	}
	for _, name := range optional[m.target.API] {
		_, configured := m.target.Extra[name]
		sent := name == wire.Marks || wire.Holds(c.conversation.head, name)
		if sent && !configured && !slices.Contains(c.without, name) && names(words, name) {
			return name
		}
	}
	return ""
}
