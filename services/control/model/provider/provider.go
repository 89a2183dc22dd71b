// Package provider calls the language models of providers over HTTP. It is the only package that knows charm.land/fantasy, whose
// clients speak the wire protocols, and charm.land/catwalk, whose catalogue knows windows and prices.
//
//	model.Request ─ prompt, tools, thinking ─▶ fantasy ─▶ transport ─▶ provider
//	model.Part    ◀─ translator ────────────── fantasy ◀─ transport ◀──┘
//
// Invariants:
//   - The libraries never hold a key: the transport adds it to a request that is on its way out, and lets no header pass that is
//     not on its list, so that no variable of the environment reaches an endpoint that it was not meant for.
//   - What a provider says about a block (signatures, encrypted reasoning) is kept in Block.Opaque as JSON and given back
//     unchanged to the same model only.
//   - An error is classified by status, by the type or code that the provider gave it, or by Go type. Prose is read for one
//     purpose: to tell a context overflow from other invalid requests.
//   - The libraries retry nothing; see model.Retrying.
package provider

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"charm.land/fantasy"
	"charm.land/fantasy/providers/anthropic"
	"charm.land/fantasy/providers/openai"
	"charm.land/fantasy/providers/openaicompat"

	"github.com/pawl-dev/pawl/services/control/model"
)

// APIs are the protocols that this package speaks. client is nil, except in tests.
func APIs(client *http.Client) map[model.API]model.Open {
	var base http.RoundTripper = newTransport()
	if client != nil {
		base = client.Transport
	}
	apis := map[model.API]model.Open{}
	for _, api := range []model.API{model.APIAnthropic, model.APIChat, model.APIResponses} {
		apis[api] = func(e model.Endpoint, id string) (model.Model, error) { return open(base, e, id) }
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

// languageModel is one model of one endpoint.
type languageModel struct {
	ref      model.Ref
	api      model.API
	own      bool // the endpoint is the API's own, not a compatible server
	info     model.Info
	redactor model.Redactor
	// client makes a client for one call; the calls of one model share a transport.
	client func(ctx context.Context, options ...openai.LanguageModelOption) (fantasy.LanguageModel, error)
}

func open(base http.RoundTripper, e model.Endpoint, id string) (model.Model, error) {
	m := &languageModel{
		ref: model.Ref{Provider: e.Name, ID: id}, api: e.API, own: e.BaseURL == "",
		info: lookup(e, id), redactor: model.NewRedactor(e),
	}
	h := &http.Client{
		Transport: &transport{base: base, endpoint: e, anthropic: m.api == model.APIAnthropic},
		// A redirect would carry the key and the conversation to whomever it names.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var err error
	switch m.api {
	case model.APIAnthropic:
		err = m.useAnthropic(h, e)
	case model.APIResponses:
		err = m.useResponses(h, e)
	case model.APIChat:
		m.useChat(h, e)
	default:
		err = fmt.Errorf("model %s: unknown api %q", m.ref, m.api)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// placeholder is what the libraries hold instead of a key; without any they would look for one on their own.
const placeholder = "held-by-the-transport"

const userAgent = "pawl"

func (m *languageModel) useAnthropic(h *http.Client, e model.Endpoint) error {
	options := []anthropic.Option{anthropic.WithAPIKey(placeholder), anthropic.WithHTTPClient(h), anthropic.WithUserAgent(userAgent)}
	if e.BaseURL != "" {
		options = append(options, anthropic.WithBaseURL(e.BaseURL))
	}
	return m.share(anthropic.New(options...))
}

func (m *languageModel) useResponses(h *http.Client, e model.Endpoint) error {
	return m.share(openai.New(openai.WithAPIKey(placeholder), openai.WithHTTPClient(h), openai.WithUserAgent(userAgent),
		openai.WithBaseURL(e.BaseURL), openai.WithUseResponsesAPI(), openai.WithResponsesAPIFunc(func(string) bool { return true })))
}

// share makes the one client of an API whose client keeps nothing of a call.
func (m *languageModel) share(p fantasy.Provider, err error) error {
	if err != nil {
		return fmt.Errorf("opening model %s: %w", m.ref, err)
	}
	client, err := p.LanguageModel(context.Background(), m.ref.ID)
	if err != nil {
		return fmt.Errorf("opening model %s: %w", m.ref, err)
	}
	m.client = func(context.Context, ...openai.LanguageModelOption) (fantasy.LanguageModel, error) {
		return client, nil
	}
	return nil
}

// useChat makes a client for each call, because the only way to see how a chat ended is an option of the client.
func (m *languageModel) useChat(h *http.Client, e model.Endpoint) {
	m.client = func(ctx context.Context, options ...openai.LanguageModelOption) (fantasy.LanguageModel, error) {
		p, err := openaicompat.New(openaicompat.WithAPIKey(placeholder), openaicompat.WithHTTPClient(h),
			openaicompat.WithUserAgent(userAgent), openaicompat.WithBaseURL(e.BaseURL), openaicompat.WithLanguageModelOptions(options...))
		if err != nil {
			return nil, fmt.Errorf("calling model %s: %w", m.ref, err)
		}
		return p.LanguageModel(ctx, m.ref.ID)
	}
}

// Ref implements model.Model.
func (m *languageModel) Ref() model.Ref { return m.ref }

// Window implements model.Model.
func (m *languageModel) Window() int64 { return m.info.Window }
