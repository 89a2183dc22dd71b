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
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/wire"
)

// APIs are the protocols that this package speaks. client is nil, except in tests.
func APIs(client *http.Client) map[model.API]model.Open {
	var base http.RoundTripper = newTransport()
	var issuer aws.HTTPClient = awshttp.NewBuildableClient().WithTimeout(issueWait)
	if client != nil {
		base, issuer = client.Transport, &http.Client{Transport: client.Transport, Timeout: issueWait}
	}
	opener := &opener{base: base, memory: &refusals{}, identities: &identities{base: base, aws: issuer}}
	apis := map[model.API]model.Open{}
	for _, api := range []model.API{
		model.APIAnthropic, model.APIChat, model.APIResponses, model.APIGemini, model.APIConverse,
	} {
		apis[api] = opener.open
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
	access   access
	drop     []string // parameters that the configuration, or the address, leaves out
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

// opener makes models.
type opener struct {
	base       http.RoundTripper
	memory     *refusals
	identities *identities
}

func (o *opener) open(e model.Endpoint, id string) (model.Model, error) {
	access, err := accessOf(e, id)
	if err != nil {
		return nil, fmt.Errorf("model %s/%s: %w", e.Name, id, err)
	}
	if access.identity, err = o.identities.of(e); err != nil {
		return nil, fmt.Errorf("model %s/%s: %w", e.Name, id, err)
	}
	m := &languageModel{
		target: wire.Target{
			API: e.API, Ref: model.Ref{Provider: e.Name, ID: id}, Info: Info(e, id),
			Own:   e.BaseURL == "" || e.Cloud.Kind != "",
			Extra: map[string][]byte{}, MaxImages: e.MaxImages,
		},
		base: o.base, access: access, drop: append(access.drop, e.Drop...),
		refused: o.memory.of(access.url.String() + "\x00" + id), redactor: model.NewRedactor(e),
	}
	maps.Copy(m.target.Extra, access.extra)
	for name, v := range e.ExtraBody {
		m.target.Extra[name] = v
	}
	return m, nil
}

// Ref implements model.Model.
func (m *languageModel) Ref() model.Ref { return m.target.Ref }

// API implements model.Model.
func (m *languageModel) API() model.API { return m.target.API }

// Window implements model.Model.
func (m *languageModel) Window() int64 { return m.target.Info.Window }

// MaxOutput implements model.Model.
func (m *languageModel) MaxOutput() int64 { return m.target.Info.MaxOutput }

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
	encoded, err := wire.EncodeTools(m.target, offered, marked)
	if err != nil {
		return nil, &model.Error{Kind: model.KindInvalidRequest, Text: fmt.Sprintf("%s: %v", m.Ref(), err)}
	}
	set := toolset{tools: append([]model.Tool(nil), offered...), marked: marked, encoded: encoded}
	m.tools = append([]toolset{set}, m.tools[:min(len(m.tools), maxToolsets-1)]...)
	return encoded, nil
}
