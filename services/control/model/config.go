package model

import (
	"cmp"
	"encoding/json"
	"log/slog"
	"maps"
)

// API is a wire protocol that providers speak.
type API string

// APIs that are built in.
const (
	APIOffline   API = "offline"          // no network, no key
	APIAnthropic API = "anthropic"        // Anthropic Messages
	APIChat      API = "openai-chat"      // OpenAI Chat Completions
	APIResponses API = "openai-responses" // OpenAI Responses
	APIGemini    API = "gemini"           // Google's generateContent
	APIConverse  API = "bedrock-converse" // AWS Bedrock's ConverseStream
)

// Searches reports whether models of the API can be offered WebSearch.
func (a API) Searches() bool { return a == APIAnthropic || a == APIResponses || a == APIGemini }

// maker is whose API it is: a key of one maker is none of another's.
func (a API) maker() API {
	if a == APIResponses {
		return APIChat
	}
	return a
}

// Provider is the configuration of one provider. Whatever is left out comes from the catalogue, if the catalogue knows
// the provider's name.
type Provider struct {
	// BaseURL is where the API is, such as http://localhost:11434/v1.
	BaseURL string
	// KeyEnv is the environment variable that holds the key. A provider with a BaseURL and no KeyEnv is called without
	// a key.
	KeyEnv string
	// Cloud is where the models run, if that is one of the clouds.
	Cloud Cloud
	// Settings are those of all its models.
	Settings
	// Models holds what differs from model to model, by the model's id.
	Models map[string]ModelConfig
}

// ModelConfig is what the providers file says about one model: what the catalogue does not know, or knows wrongly, and
// the settings in which the model differs from its provider.
type ModelConfig struct {
	Info
	Settings
}

// Settings say how a model is called. A zero field says nothing: the provider's setting holds for a model, and a
// default for a provider.
type Settings struct {
	API API
	// Headers are sent with every request, by canonical name.
	Headers map[string]Secret
	// Query is added to the URL of every request.
	Query map[string]Secret
	// ExtraBody is laid over the top level of every request's body: each member replaces the codec's own of that name.
	ExtraBody map[string]json.RawMessage
	// Drop names parameters of the API that requests are sent without, such as stream_options. A model's list replaces
	// its provider's.
	Drop []string
	// Timeouts bound a call.
	Timeouts TimeoutPolicy
	// MaxImages is how many images one request may hold; 0 is what the API itself allows.
	MaxImages int
}

// over lays s over t: maps member by member, all else as a whole.
func (s Settings) over(t Settings) Settings {
	s.API = cmp.Or(s.API, t.API)
	s.Headers = over(s.Headers, t.Headers)
	s.Query = over(s.Query, t.Query)
	s.ExtraBody = over(s.ExtraBody, t.ExtraBody)
	if s.Drop == nil {
		s.Drop = t.Drop
	}
	s.Timeouts.First = cmp.Or(s.Timeouts.First, t.Timeouts.First)
	s.Timeouts.Between = cmp.Or(s.Timeouts.Between, t.Timeouts.Between)
	s.Timeouts.Call = cmp.Or(s.Timeouts.Call, t.Timeouts.Call)
	s.MaxImages = cmp.Or(s.MaxImages, t.MaxImages)
	return s
}

// over is a new map with the members of both; those of m win.
func over[V any](m, under map[string]V) map[string]V {
	if len(m) == 0 {
		return under
	}
	all := maps.Clone(under)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, m)
	return all
}

// Info is what is known about a model. The zero value knows nothing.
type Info struct {
	Window    int64    // context window in tokens
	MaxOutput int64    // tokens of one answer
	Images    *bool    // it takes images; nil: unknown, so they are sent
	Thinks    *bool    // it can be told to think; nil: unknown
	Efforts   []string // the levels of thinking that its API names
	Price     *Price   // nil: unknown
}

// Efforts are the levels of thinking that APIs name, from little to much.
var Efforts = []string{"none", "minimal", "low", "medium", "high", "xhigh", "max"}

// Price is in US dollars per million tokens.
type Price struct {
	Input      float64
	Output     float64
	CacheRead  float64
	CacheWrite float64
	Search     float64 // of a thousand searches
}

// Cost is the estimate for u at this price; nothing when the price is unknown.
func (p *Price) Cost(u Usage) Cost {
	if p == nil {
		return Cost{}
	}
	const thousand, million = 1e3, 1e6
	return Cost{
		Input:      float64(u.Input) * p.Input / million,
		Output:     float64(u.Output) * p.Output / million,
		CacheRead:  float64(u.CacheRead) * p.CacheRead / million,
		CacheWrite: float64(u.CacheWrite) * p.CacheWrite / million,
		Search:     float64(u.Searches) * p.Search / thousand,
	}
}

// Secret is a text that does not print itself.
type Secret string

const redacted = "[redacted]"

// String implements fmt.Stringer.
func (Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return redacted }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Reveal is the text itself.
func (s Secret) Reveal() string { return string(s) }

// or fills what p leaves out from q.
func (p Provider) or(q Provider) Provider {
	if p.Cloud.Kind == "" && (p.BaseURL == "" || p.API == "") {
		p.Cloud = q.Cloud
	}
	if p.Cloud.Kind != "" {
		if p.KeyEnv == "" && q.Cloud.Kind == p.Cloud.Kind && !p.Cloud.Entra {
			p.KeyEnv = q.KeyEnv
		}
		return p
	}
	if p.API == "" {
		p.API = q.API
	}
	if p.BaseURL == "" {
		// A key goes to its own endpoint only: whoever names another endpoint names the key as well. An API that comes
		// from elsewhere is another endpoint too, if it is called at its own address.
		p.BaseURL = q.BaseURL
		if p.KeyEnv == "" && (p.BaseURL != "" || p.API.maker() == q.API.maker()) {
			p.KeyEnv = q.KeyEnv
		}
	}
	return p
}
