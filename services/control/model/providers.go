package model

import (
	"math"
	"net/url"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/document"
)

// ErrInvalidProviders is a providers file that breaks a rule; the text names file, line, column and key.
var ErrInvalidProviders = errs.New(errs.InvalidArgument, "MODEL_PROVIDERS_INVALID", "the file of the model providers "+
	"cannot be used")

// Bounds of texts in a providers file, in characters.
const (
	maxURL      = 2048
	maxVariable = 128
	maxHeader   = 32 * 1024
)

// ParseProviders reads the providers file, a mapping of names to what is known of each:
//
//	local:
//	  api: openai-chat                     # or openai-responses, anthropic, gemini
//	  base_url: http://localhost:11434/v1
//	  key_env: LOCAL_KEY                   # the variable that holds the key
//	  headers: {X-Team: "${TEAM}"}         # ${NAME} is a variable of control's environment
//	  query: {api-version: "2025-04-01"}   # added to the URL; ${NAME} as in headers
//	  extra_body: {service_tier: flex}     # laid over the top level of the request's body
//	  drop: [stream_options]               # parameters that the server refuses
//	  timeouts: {first: 5m, between: 60s, call: 30m}
//	  max_images: 20                       # in one request
//	  models:
//	    some-model:                        # knowledge about the model, and any of the settings from api to max_images
//	      window: 128000
//	      max_output: 8192
//	      images: true
//	      thinks: false
//	      efforts: [low, high]
//	      price: {input: 0, output: 0}
//	google: {vertex: {project: my-project, location: europe-west1}}
//	azure: {base_url: "https://mine.openai.azure.com", azure: {auth: entra, api_version: 2025-04-01-preview}}
//	aws: {bedrock: {region: eu-central-1, profile: work}}
//
// file is for errors only. known is the catalogue of providers that need no configuration. lookup is the environment:
// every variable that headers and query refer to must be set. All problems are reported together, one line each; each
// is an ErrInvalidProviders that names file, line, column and key, and no value.
func ParseProviders(
	file string, src []byte, known func(name string) (Provider, bool), lookup func(name string) (string, bool),
) (map[string]Provider, error) {
	p := &providers{document.New(file), known, lookup}
	all := p.parse(src)
	if err := p.Err(ErrInvalidProviders); err != nil {
		return nil, err
	}
	return all, nil
}

// providers reads one file.
type providers struct {
	*document.Document
	known  func(name string) (Provider, bool)
	lookup func(name string) (string, bool)
}

func (p *providers) parse(src []byte) map[string]Provider {
	all := map[string]Provider{}
	if !p.Check(src) {
		return all
	}
	// As in agents' definitions, a mark of the byte order is no content.
	root, ok := p.Root("the file", strings.TrimPrefix(string(src), "\ufeff"))
	if !ok || root == nil {
		return all
	}
	p.Pairs(root, "", func(name, key string, k, v *yaml.Node) {
		switch {
		case name == string(APIOffline):
			p.Report(document.At(k), key, "is built in and cannot be configured")
		case !validProvider(name):
			p.Report(document.At(k), key, "cannot be a provider's name: use lower-case letters, digits, dots, "+
				"dashes and "+
				"underscores")
		default:
			all[name] = p.provider(name, k, v)
		}
	})
	return all
}

func (p *providers) provider(name string, k, v *yaml.Node) Provider {
	var out Provider
	p.Mapping(v, name, append([]document.Field{
		document.Key("base_url", func(key string, n *yaml.Node) { out.BaseURL = p.baseURL(key, n) }),
		document.Key("key_env", func(key string, n *yaml.Node) { out.KeyEnv = p.keyEnv(key, n) }),
		document.Key("models", func(key string, n *yaml.Node) { out.Models = p.models(key, n) }),
		document.Key("vertex", func(key string, n *yaml.Node) { p.vertex(key, n, &out.Cloud) }),
		document.Key("azure", func(key string, n *yaml.Node) { p.azure(key, n, &out.Cloud) }),
		document.Key("bedrock", func(key string, n *yaml.Node) { p.bedrock(key, n, &out.Cloud) }),
	}, p.settings(&out.Settings)...)...)
	known, ok := p.known(name)
	p.clouded(name, k, out, known.Cloud)
	if api, _ := document.Find(v, "api"); api == nil && v.Kind == yaml.MappingNode {
		switch {
		case out.Cloud.Kind != "", known.Cloud.Kind != "":
		case !ok:
			p.Report(document.At(k), name+".api", "is required: %s is not the name of a provider that is known", name)
		case out.BaseURL != "" && known.API == APIResponses:
			p.Report(document.At(k), name+".api", "is required with base_url: most servers that resemble OpenAI "+
				"speak %s, "+
				"some %s",
				APIChat, APIResponses)
		}
	}
	return out
}

func (p *providers) baseURL(key string, n *yaml.Node) string {
	s, ok := p.Text(key, n, maxURL)
	if !ok {
		return ""
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		p.Report(document.At(n), key, "must be a whole URL, such as https://api.example.com/v1")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		p.Report(document.At(n), key, "must not have a user, query or fragment; "+
			"a key belongs into the variable that key_env names, and a query into query")
	}
	return s
}

// keyEnv wants capitals, because what is none is more likely the key itself, and later errors tell the variable's name.
func (p *providers) keyEnv(key string, n *yaml.Node) string {
	s, ok := p.Text(key, n, maxVariable)
	if ok && (!document.Variable(s) || strings.ContainsFunc(s, unicode.IsLower)) {
		p.Report(document.At(n), key, "must be the name of an environment variable in capitals, such as LOCAL_KEY, "+
			"and not "+
			"the key itself")
	}
	return s
}

func (p *providers) models(key string, n *yaml.Node) map[string]ModelConfig {
	models := map[string]ModelConfig{}
	p.Pairs(n, key, func(id, key string, k, v *yaml.Node) {
		if id == "" || strings.ContainsFunc(id, notPrintable) {
			p.Report(document.At(k), key, "cannot be a model's id: it must not be empty or contain blanks")
		}
		var m ModelConfig
		p.Mapping(v, key, append(p.info(&m.Info), p.settings(&m.Settings)...)...)
		models[id] = m
	})
	return models
}

// info are the keys of what is known about a model.
func (p *providers) info(i *Info) []document.Field {
	count := func(to *int64) func(string, *yaml.Node) {
		return func(key string, n *yaml.Node) { *to, _ = p.Count(key, n, math.MaxInt32) }
	}
	flag := func(to **bool) func(string, *yaml.Node) {
		return func(key string, n *yaml.Node) {
			if v, ok := p.Bool(key, n); ok {
				*to = &v
			}
		}
	}
	return []document.Field{
		document.Key("window", count(&i.Window)),
		document.Key("max_output", count(&i.MaxOutput)),
		document.Key("images", flag(&i.Images)),
		document.Key("thinks", flag(&i.Thinks)),
		document.Key("efforts", func(key string, n *yaml.Node) { i.Efforts, _ = p.Words(key, n, Efforts) }),
		document.Key("price", func(key string, n *yaml.Node) { i.Price = p.price(key, n) }),
	}
}

func (p *providers) price(key string, n *yaml.Node) *Price {
	price := &Price{}
	amount := func(to *float64) func(string, *yaml.Node) {
		return func(key string, n *yaml.Node) { *to, _ = p.Amount(key, n, true) }
	}
	p.Mapping(n, key,
		document.Key("input", amount(&price.Input)),
		document.Key("output", amount(&price.Output)),
		document.Key("cache_read", amount(&price.CacheRead)),
		document.Key("cache_write", amount(&price.CacheWrite)),
		document.Key("search", amount(&price.Search)),
	)
	return price
}
