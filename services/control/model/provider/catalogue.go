package provider

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"sync"

	"charm.land/catwalk/pkg/catwalk"
	"charm.land/catwalk/pkg/embedded"

	"github.com/pawl-dev/pawl/services/control/model"
)

// catalogue is the embedded one, by provider. It is parsed on first use: a control that runs offline never pays for it.
var catalogue = sync.OnceValue(func() map[string]entry {
	entries := map[string]entry{}
	for _, p := range embedded.GetAll() {
		e := entry{provider: provider(p), models: map[string]model.Info{}}
		for _, m := range p.Models {
			i := info(m)
			i.Price.Search = searchPrice(m.ID)
			e.models[m.ID] = i
			if short := undated(m.ID); short != m.ID {
				if _, taken := e.models[short]; !taken {
					e.models[short] = i
				}
			}
		}
		entries[string(p.ID)] = e
	}
	return entries
})

type entry struct {
	provider model.Provider
	models   map[string]model.Info
}

// Known is the catalogue's configuration of a provider, for model.Deps.
func Known(name string) (model.Provider, bool) {
	switch name { // without parsing the catalogue
	case "anthropic":
		return known(model.APIAnthropic, "", "ANTHROPIC_API_KEY"), true
	case "openai":
		return known(model.APIResponses, "", "OPENAI_API_KEY"), true
	case "gemini":
		return known(model.APIGemini, "", "GEMINI_API_KEY"), true
	case "vertexai":
		return model.Provider{Cloud: model.Cloud{Kind: model.Vertex}}, true
	case "azure":
		return model.Provider{Cloud: model.Cloud{Kind: model.Azure}, KeyEnv: "AZURE_OPENAI_API_KEY"}, true
	case "bedrock":
		return model.Provider{Cloud: model.Cloud{Kind: model.Bedrock}}, true
	}
	e, ok := catalogue()[name]
	return e.provider, ok && e.provider.API != ""
}

func known(api model.API, baseURL, keyEnv string) model.Provider {
	return model.Provider{BaseURL: baseURL, KeyEnv: keyEnv, Settings: model.Settings{API: api}}
}

// provider translates the catalogue's entry. Its API is "" if it speaks none of ours, or has no fixed address.
func provider(p catwalk.Provider) model.Provider {
	api := map[catwalk.Type]model.API{
		catwalk.TypeAnthropic:    model.APIAnthropic,
		catwalk.TypeOpenAI:       model.APIChat,
		catwalk.TypeOpenAICompat: model.APIChat,
		catwalk.TypeOpenRouter:   model.APIChat,
	}[p.Type]
	key, ok := strings.CutPrefix(p.APIKey, "$")
	if !ok || !strings.HasPrefix(p.APIEndpoint, "https://") {
		return model.Provider{}
	}
	return known(api, p.APIEndpoint, key)
}

func info(m catwalk.Model) model.Info {
	return model.Info{
		Window: m.ContextWindow, MaxOutput: m.DefaultMaxTokens,
		Images: &m.SupportsImages, Thinks: &m.CanReason, Efforts: m.ReasoningLevels, Price: price(m),
	}
}

// price translates the prices of a model. The catalogue's "in cached" is the price of writing the cache, and its "out
// cached" of reading it. Some of its providers have them the other way round, or prices of another kind: no provider
// asks more for what it reads from its cache than for input, nor the price of output for what it writes to it.
func price(m catwalk.Model) *model.Price {
	p := &model.Price{
		Input: m.CostPer1MIn, Output: m.CostPer1MOut, CacheWrite: m.CostPer1MInCached, CacheRead: m.CostPer1MOutCached,
	}
	if p.CacheRead > p.Input {
		p.CacheRead, p.CacheWrite = p.CacheWrite, p.CacheRead
		if p.CacheWrite == p.Output {
			p.CacheWrite = 0
		}
	}
	if read, ok := mended[m.ID]; ok && p.Input > 0 { // some providers sell no tokens
		p.CacheRead = read
	}
	return p
}

// searchPrice is what a thousand searches of the provider's own cost, which the catalogue does not have.
func searchPrice(id string) float64 {
	switch {
	case strings.HasPrefix(id, "claude-"), strings.HasPrefix(id, "gpt-"):
		return 10
	case strings.HasPrefix(id, "gemini-3"):
		return 14
	}
	return 0
}

// mended are prices of reading a cache that the catalogue has wrongly. Of gemini-3.5-flash it has 1, which is what
// Google asks for keeping a million tokens for an hour; of every other Gemini it has a tenth of the input's price.
var mended = map[string]float64{"gemini-3.5-flash": 0.15}

// IDs are the ids of a provider's models in the catalogue, sorted, those without a date too.
func IDs(name string) (ids []string) {
	for id := range catalogue()[name].models {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Info is what is known about a model: what is configured comes first, then the provider's catalogue, then that of
// the API's own provider, because a proxy usually keeps the names.
func Info(e model.Endpoint, id string) model.Info {
	names := []string{e.Name}
	switch e.Cloud.Kind {
	case model.Vertex:
		names = append(names, "vertexai")
	case model.Azure:
		names = append(names, "azure")
	case model.Bedrock:
		names = append(names, "bedrock", "bedrock-europe")
	}
	switch e.API {
	case model.APIAnthropic, model.APIConverse:
		names = append(names, "anthropic")
	case model.APIGemini:
		names = append(names, "gemini")
	default:
		names = append(names, "openai")
	}
	for _, name := range names {
		models := catalogue()[name].models
		for _, alias := range aliases(e, id) {
			if found, ok := models[alias]; ok {
				return merge(e.Info, found)
			}
		}
	}
	return e.Info
}

// aliases are the names by which catalogues may know a model.
func aliases(e model.Endpoint, id string) []string {
	all := []string{id, undated(id)}
	if e.Cloud.Kind != model.Bedrock {
		return all
	}
	// A profile of several regions is named by them, and a model by its maker and a version.
	short := profiled().ReplaceAllString(id, "")
	bare := versionedModel().ReplaceAllString(strings.TrimPrefix(short, "anthropic."), "")
	return append(all, "us."+short, "eu."+short, bare, undated(bare))
}

var (
	profiled = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(us|eu|apac|jp|au|ca|glob` +
			`al)\.`)
	})
	versionedModel = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`-v\d+(:\d+)*$`) })
)

// merge fills what a leaves out from b.
func merge(a, b model.Info) model.Info {
	a.Window, a.MaxOutput = cmp.Or(a.Window, b.Window), cmp.Or(a.MaxOutput, b.MaxOutput)
	a.Images, a.Thinks, a.Price = cmp.Or(a.Images, b.Images), cmp.Or(a.Thinks, b.Thinks), cmp.Or(a.Price, b.Price)
	if a.Efforts == nil {
		a.Efforts = b.Efforts
	}
	return a
}

var dated = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[-@](\d{8}|\d{4}-\d{2}-\d{2}|latest)$`) })

// undated is the id without the date of its release.
func undated(id string) string { return dated().ReplaceAllString(id, "") }
