package model

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/pawl-dev/pawl/internal/errs"
)

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
	API API `json:"api,omitempty"`
	// BaseURL is where the API is, such as http://localhost:11434/v1.
	BaseURL string `json:"base_url,omitempty"`
	// KeyEnv is the environment variable that holds the key. A provider with a base_url and no key_env is called without a key.
	KeyEnv string `json:"key_env,omitempty"`
	// Headers are sent with every request. Their values are treated as secrets.
	Headers map[string]string `json:"headers,omitempty"`
	// Models tells about models that the catalogue does not know, or knows wrongly.
	Models map[string]Info `json:"models,omitempty"`
}

// Info is what is known about a model. The zero value knows nothing.
type Info struct {
	Window    int64    `json:"window,omitempty"`     // context window in tokens
	MaxOutput int64    `json:"max_output,omitempty"` // tokens of one answer
	Images    *bool    `json:"images,omitempty"`     // it takes images; nil: unknown, so they are sent
	Thinks    *bool    `json:"thinks,omitempty"`     // it can be told to think; nil: unknown
	Efforts   []string `json:"efforts,omitempty"`    // the levels of thinking that its API names
	Price     Price    `json:"price,omitzero"`
}

// Price is in US dollars per million tokens.
type Price struct {
	Input      float64 `json:"input,omitempty"`
	Output     float64 `json:"output,omitempty"`
	CacheRead  float64 `json:"cache_read,omitempty"`
	CacheWrite float64 `json:"cache_write,omitempty"`
}

// Cost is the estimate for u at this price.
func (p Price) Cost(u Usage) Cost {
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

// ErrInvalidConfig is a providers section that cannot be used.
var ErrInvalidConfig = errs.New(errs.InvalidArgument, "INVALID_MODEL_CONFIG", "the configuration of the model providers cannot be used")

// validate checks what can be checked without asking the provider.
func (p Provider) validate(name string) error {
	bad := func(field, format string, args ...any) error {
		return ErrInvalidConfig.With("providers.%s.%s: %s", cut(name, 64), field, fmt.Sprintf(format, args...))
	}
	if !validProvider(name) {
		return bad("name", "use lower-case letters, digits, dots, dashes and underscores")
	}
	if p.BaseURL != "" {
		u, err := url.Parse(p.BaseURL)
		switch {
		case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
			return bad("base_url", "write a whole URL, such as https://api.example.com/v1")
		case u.User != nil || u.RawQuery != "" || u.Fragment != "":
			return bad("base_url", "leave out user, query and fragment; a key belongs into the variable that key_env names")
		}
	}
	if strings.ContainsAny(p.KeyEnv, "= \t\n$") {
		return bad("key_env", "write the name of an environment variable, not the key itself")
	}
	for h, v := range p.Headers {
		if !validHeader(h) || strings.ContainsAny(v, "\r\n\x00") {
			return bad("headers", "%q is not a header that can be sent", cut(h, 64))
		}
	}
	return nil
}

// validHeader reports whether a header of this name may be configured.
func validHeader(h string) bool {
	ok := func(c rune) bool { return c > ' ' && c < 0x7f && !strings.ContainsRune(`()<>@,;:\"/[]?={}`, c) }
	for _, c := range h {
		if !ok(c) {
			return false
		}
	}
	switch http.CanonicalHeaderKey(h) {
	case "", "Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection":
		return false
	}
	return true
}

// or fills what p leaves out from q.
func (p Provider) or(q Provider) Provider {
	if p.API == "" {
		p.API = q.API
	}
	if p.BaseURL == "" {
		// Its key goes to its own endpoint only: whoever names another one names the key as well.
		p.BaseURL = q.BaseURL
		if p.KeyEnv == "" {
			p.KeyEnv = q.KeyEnv
		}
	}
	return p
}
