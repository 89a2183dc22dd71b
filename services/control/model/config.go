package model

import "log/slog"

// API is a wire protocol that providers speak.
type API string

// APIs that are built in.
const (
	APIOffline   API = "offline"          // no network, no key
	APIAnthropic API = "anthropic"        // Anthropic Messages
	APIOpenAI    API = "openai"           // Responses on OpenAI's own endpoint, Chat Completions on any other base_url
	APIChat      API = "openai-chat"      // OpenAI Chat Completions, always
	APIResponses API = "openai-responses" // OpenAI Responses, always
)

// Provider is the configuration of one provider. Whatever is left out comes from the catalogue, if it knows the provider's name.
type Provider struct {
	API API
	// BaseURL is where the API is, such as http://localhost:11434/v1.
	BaseURL string
	// KeyEnv is the environment variable that holds the key. A provider with a BaseURL and no KeyEnv is called without a key.
	KeyEnv string
	// Headers are sent with every request.
	Headers map[string]Secret
	// Models tells about models that the catalogue does not know, or knows wrongly.
	Models map[string]Info
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
}

// Cost is the estimate for u at this price; nothing when the price is unknown.
func (p *Price) Cost(u Usage) Cost {
	if p == nil {
		return Cost{}
	}
	const million = 1e6
	return Cost{
		Input:      float64(u.Input) * p.Input / million,
		Output:     float64(u.Output) * p.Output / million,
		CacheRead:  float64(u.CacheRead) * p.CacheRead / million,
		CacheWrite: float64(u.CacheWrite) * p.CacheWrite / million,
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
	if p.API == "" {
		p.API = q.API
	}
	if p.BaseURL == "" {
		// Its key goes to its own endpoint only: whoever names another one names the key as well. An API that comes from elsewhere
		// is another one too, if it is called at its own address.
		p.BaseURL = q.BaseURL
		if p.KeyEnv == "" && (p.BaseURL != "" || (p.API == APIAnthropic) == (q.API == APIAnthropic)) {
			p.KeyEnv = q.KeyEnv
		}
	}
	return p
}
