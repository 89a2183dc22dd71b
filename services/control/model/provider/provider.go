// Package provider calls the language models of providers over HTTP: addresses, headers, keys, errors and the catalogue
// of windows and prices, which is the only use of charm.land/catwalk. What is sent and read is package wire's.
//
//	model.Request ─ wire.Encoder ─▶ POST ─▶ provider
//	model.Part    ◀ wire.Decoder ─◀ stream ◀──┘
//
// Invariants:
//   - A key goes to its endpoint only: no redirect is followed, and a request has the headers that are listed here and
//     those that are configured.
//   - What a provider says about a block (signatures, encrypted reasoning) is kept in Block.Opaque as JSON and given
//     back unchanged to the same model only.
//   - An error is classified by status, by the type or code that the provider gave it, or by Go type. Prose is read for
//     three purposes: to tell a context overflow from other invalid requests, and to find the parameter, or the part of the
//     conversation, that a refused request is asked again without.
//   - Nothing is asked again that could have cost money; see model.Retrying.
package provider

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/wire"
)

// APIs are the protocols that this package speaks. client is nil, except in tests.
func APIs(client *http.Client) map[model.API]model.Open {
	var base http.RoundTripper = newTransport()
	if client != nil {
		base = client.Transport
	}
	memory := &refusals{}
	apis := map[model.API]model.Open{}
	for _, api := range []model.API{model.APIAnthropic, model.APIChat, model.APIResponses, model.APIGemini} {
		apis[api] = func(e model.Endpoint, id string) (model.Model, error) { return open(base, memory, e, id) }
	}
	return apis
}

// newTransport is shared by all providers.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
		DisableCompression:  true, // a compressed stream arrives in lumps
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
	}
}

// languageModel is one model of one endpoint. Safe for concurrent use.
type languageModel struct {
	target   wire.Target
	base     http.RoundTripper
	url      *url.URL
	header   http.Header
	drop     []string // parameters that the configuration leaves out
	refused  *refused // parameters that the server refused
	redactor model.Redactor

	mu    sync.Mutex // guards what follows
	tools []toolset  // that were encoded, the latest first
}

// toolset is a set of tools in the form in which it is sent.
type toolset struct {
	tools   []model.Tool
	marked  bool
	encoded []byte
}

func open(base http.RoundTripper, memory *refusals, e model.Endpoint, id string) (model.Model, error) {
	address, err := address(e, id)
	if err != nil {
		return nil, fmt.Errorf("model %s/%s: %w", e.Name, id, err)
	}
	m := &languageModel{
		target: wire.Target{
			API: e.API, Ref: model.Ref{Provider: e.Name, ID: id}, Own: e.BaseURL == "", Info: lookup(e, id),
			Extra: map[string][]byte{}, MaxImages: e.MaxImages,
		},
		base: base, url: address, header: headers(e), drop: e.Drop,
		refused: memory.of(address.String() + "\x00" + id), redactor: model.NewRedactor(e),
	}
	for name, v := range e.ExtraBody {
		m.target.Extra[name] = v
	}
	return m, nil
}

// home is where an API itself is.
type home struct {
	base    string
	version string // that base ends with, and that a configured base_url may leave out; "" when it may not
	path    string // of the call behind the base, with {model} for the model's id
}

var homes = map[model.API]home{
	model.APIAnthropic: {"https://api.anthropic.com/v1", "/v1", "/messages"},
	model.APIChat:      {"https://api.openai.com/v1", "", "/chat/completions"},
	model.APIResponses: {"https://api.openai.com/v1", "", "/responses"},
	model.APIGemini: {
		"https://generativelanguage.googleapis.com/v1beta", "/v1beta", "/models/{model}:streamGenerateContent",
	},
}

// address is the URL of the call. The base URL may be given with or without the API's version, and with the path
// itself.
func address(e model.Endpoint, id string) (*url.URL, error) {
	home, ok := homes[e.API]
	if !ok {
		return nil, fmt.Errorf("unknown api %q", e.API)
	}
	base, path := strings.TrimRight(e.BaseURL, "/"), strings.ReplaceAll(home.path, "{model}", escaped(id))
	switch {
	case base == "":
		base = home.base
	case home.version != "" && !versioned().MatchString(base) && !strings.HasSuffix(base, path):
		base += home.version
	}
	if !strings.HasSuffix(base, path) {
		base += path
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("the base_url is no URL: %w", err)
	}
	query := u.Query()
	if e.API == model.APIGemini {
		query.Set("alt", "sse")
	}
	for name, v := range e.Query {
		query.Set(name, v.Reveal())
	}
	u.RawQuery = query.Encode()
	return u, nil
}

// versioned are base URLs that end with an API's version.
var versioned = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`/v1(beta\d*|alpha\d*)?$`) })

// escaped is a model's id as a part of a path. Some have parts of their own, such as tunedModels/mine.
func escaped(id string) string {
	parts := strings.Split(strings.TrimPrefix(id, "models/"), "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return strings.Join(parts, "/")
}

const userAgent = "pawl"

// headers are those of every request: what the API wants, the key, and what is configured.
func headers(e model.Endpoint) http.Header {
	h := http.Header{
		"Accept": {"text/event-stream, application/json"}, "Content-Type": {"application/json"}, "User-Agent": {userAgent},
	}
	if e.API == model.APIAnthropic {
		h.Set("Anthropic-Version", "2023-06-01")
	}
	switch key := e.Key.Reveal(); {
	case key == "":
	case e.API == model.APIAnthropic:
		h.Set("X-Api-Key", key)
	case e.API == model.APIGemini:
		h.Set("X-Goog-Api-Key", key)
	default:
		h.Set("Authorization", "Bearer "+key)
	}
	for name, v := range e.Headers {
		h.Set(name, v.Reveal())
	}
	return h
}

// Ref implements model.Model.
func (m *languageModel) Ref() model.Ref { return m.target.Ref }

// API implements model.Model.
func (m *languageModel) API() model.API { return m.target.API }

// Window implements model.Model.
func (m *languageModel) Window() int64 { return m.target.Info.Window }

// maxToolsets bounds the sets of tools that are kept. Agents have few.
const maxToolsets = 32

// encodeTools encodes each set of tools once.
func (m *languageModel) encodeTools(offered []model.Tool, marked bool) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, set := range m.tools {
		if set.marked == marked && model.SameTools(set.tools, offered) {
			copy(m.tools[1:i+1], m.tools[:i])
			m.tools[0] = set
			return set.encoded, nil
		}
	}
	encoded, err := wire.EncodeTools(m.target.API, offered, marked)
	if err != nil {
		return nil, &model.Error{Kind: model.KindInvalidRequest, Text: fmt.Sprintf("%s: %v", m.Ref(), err)}
	}
	set := toolset{tools: append([]model.Tool(nil), offered...), marked: marked, encoded: encoded}
	m.tools = append([]toolset{set}, m.tools[:min(len(m.tools), maxToolsets-1)]...)
	return encoded, nil
}
