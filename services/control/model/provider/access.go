package provider

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"github.com/pawl-dev/pawl/services/control/model"
)

// access is how the requests of one model reach their server.
type access struct {
	url      *url.URL
	header   http.Header
	identity identity // nil when the header is enough
	drop     []string // parameters that the address says
	extra    map[string][]byte
	// searchBeta is what Google Cloud wants to be named when Anthropic's search is offered; "" for nothing.
	searchBeta string
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

func accessOf(e model.Endpoint, id string) (access, error) {
	var a access
	var base, path string
	switch e.Cloud.Kind {
	case model.Vertex:
		base, path = vertexAddress(e, id)
		if e.API == model.APIAnthropic {
			a.searchBeta = "web-search-2025-03-05"
			a.drop, a.extra = []string{"model"}, map[string][]byte{"anthropic_version": []byte(`"vertex-2023-10-16"`)}
		}
	case model.Azure:
		base, path = azureAddress(e, id)
	case model.Bedrock:
		base, path = bedrockAddress(e, id)
	default:
		home, ok := homes[e.API]
		if !ok {
			return a, fmt.Errorf("%s is spoken by the models of a cloud only", e.API)
		}
		base, path = home.address(e, id)
	}
	if !strings.HasSuffix(base, path) {
		base += path
	}
	var err error
	if a.url, err = url.Parse(base); err != nil {
		return a, fmt.Errorf("the base_url is no URL: %w", err)
	}
	query := a.url.Query()
	if e.API == model.APIGemini {
		query.Set("alt", "sse")
	}
	if e.Cloud.APIVersion != "" {
		query.Set("api-version", e.Cloud.APIVersion)
	}
	for name, v := range e.Query {
		query.Set(name, v.Reveal())
	}
	a.url.RawQuery = query.Encode()
	a.header = headers(e)
	return a, nil
}

// address is where the API's own server, or one that is compatible, is called. The base URL may be given with or
// without the API's version, and with the path itself.
func (h home) address(e model.Endpoint, id string) (base, path string) {
	base, path = strings.TrimRight(e.BaseURL, "/"), strings.ReplaceAll(h.path, "{model}", escaped(id))
	switch {
	case base == "":
		base = h.base
	case h.version != "" && !versioned().MatchString(base) && !strings.HasSuffix(base, path):
		base += h.version
	}
	return base, path
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

// vertexAddress is where Google Cloud serves a model of Google or Anthropic.
func vertexAddress(e model.Endpoint, id string) (base, path string) {
	c := e.Cloud
	if base = strings.TrimRight(e.BaseURL, "/"); base == "" {
		switch c.Location {
		case "global":
			base = "https://aiplatform.googleapis.com"
		case "us", "eu": // several regions of one jurisdiction
			base = "https://aiplatform." + c.Location + ".rep.googleapis.com"
		default:
			base = "https://" + c.Location + "-aiplatform.googleapis.com"
		}
	}
	publisher, call := "google", "streamGenerateContent"
	if e.API == model.APIAnthropic {
		publisher, call = "anthropic", "streamRawPredict"
	}
	return base, "/v1/projects/" + c.Project + "/locations/" + c.Location + "/publishers/" + publisher + "/models/" +
		url.PathEscape(id) + ":" + call
}

// azureAddress is where an Azure OpenAI resource serves a deployment, which the model's id names: behind the
// deployment's own path for Chat with an api-version, else by the body.
func azureAddress(e model.Endpoint, id string) (base, path string) {
	base = strings.TrimRight(e.BaseURL, "/")
	for _, end := range []string{"/v1", "/openai"} {
		base = strings.TrimSuffix(base, end)
	}
	path = homes[e.API].path
	switch {
	case e.Cloud.APIVersion == "":
		path = "/openai/v1" + path
	case e.API == model.APIChat:
		path = "/openai/deployments/" + url.PathEscape(id) + path
	default:
		path = "/openai" + path
	}
	return base, path
}

// bedrockAddress is where AWS serves a model, which may be named by the name of a resource.
func bedrockAddress(e model.Endpoint, id string) (base, path string) {
	if base = strings.TrimRight(e.BaseURL, "/"); base == "" {
		domain := "amazonaws.com"
		if strings.HasPrefix(e.Cloud.Region, "cn-") {
			domain += ".cn"
		}
		base = "https://bedrock-runtime." + e.Cloud.Region + "." + domain
	}
	return base, "/model/" + strings.ReplaceAll(url.PathEscape(id), ":", "%3A") + "/converse-stream"
}

const (
	userAgent  = "pawl"
	betaHeader = "Anthropic-Beta"
)

// headers are those of every request: what the API wants, the key, and what is configured.
func headers(e model.Endpoint) http.Header {
	h := http.Header{
		"Accept": {"text/event-stream, application/json"}, "Content-Type": {"application/json"},
		"User-Agent": {userAgent},
	}
	switch {
	case e.API == model.APIConverse:
		h.Set("Accept", eventStream)
	case e.API == model.APIAnthropic && e.Cloud.Kind == "":
		h.Set("Anthropic-Version", "2023-06-01")
	}
	switch key := e.Key.Reveal(); {
	case key == "":
	case e.Cloud.Kind == model.Azure:
		h.Set("Api-Key", key)
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

// eventStream is AWS's framing of events.
const eventStream = "application/vnd.amazon.eventstream"
