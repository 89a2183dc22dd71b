package model_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/model/offline"
	"github.com/pawl-dev/pawl/services/control/model/provider"
)

// registry opens models that record the endpoint.
func registry(t *testing.T, c model.Config, env map[string]string) (*model.Registry, *[]model.Endpoint) {
	t.Helper()
	var opened []model.Endpoint
	open := func(e model.Endpoint, _ string) (model.Model, error) {
		opened = append(opened, e)
		return modeltest.New(modeltest.Say("x")), nil
	}
	return model.NewRegistry(c, model.Deps{
		APIs: map[model.API]model.Open{
			model.APIOffline: offline.Open, model.APIAnthropic: open, model.APIChat: open, model.APIResponses: open,
		},
		Known: func(name string) (model.Provider, bool) {
			if name != "anthropic" {
				return model.Provider{}, false
			}
			return model.Provider{KeyEnv: "ANTHROPIC_API_KEY", Settings: model.Settings{API: model.APIAnthropic}}, true
		},
		Getenv: func(k string) string { return env[k] },
	}), &opened
}

func ref(t *testing.T, s string) model.Ref {
	t.Helper()
	r, err := model.ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParseRef(t *testing.T) {
	for _, good := range []string{"a/b", "openrouter/meta/llama:free", "offline/shell", "my.host-1/x_y"} {
		if r := ref(t, good); r.String() != good {
			t.Errorf("%q became %q", good, r)
		}
	}
	for _, bad := range []string{"", "a", "/", "a/", "/b", "A/b", "a b/c", "a/b c", "a/b\n", "../a/b", "a/" +
		strings.Repeat("x", 300)} {
		if r, err := model.ParseRef(bad); !errors.Is(err, model.ErrInvalidRef) {
			t.Errorf("%q became %v, %v", bad, r, err)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	f.Add("a/b")
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := model.ParseRef(s); err == nil && r.String() != s {
			t.Errorf("%q became %q", s, r)
		}
	})
}

func TestTheOfflineModelNeedsNothing(t *testing.T) {
	r, _ := registry(t, model.Config{}, nil)
	m, err := r.Model(offline.Shell)
	if err != nil || m.Ref() != offline.Shell {
		t.Fatal(m, err)
	}
}

func TestAMissingKeySaysWhatToDo(t *testing.T) {
	r, _ := registry(t, model.Config{}, nil)
	_, err := r.Model(ref(t, "anthropic/claude-x"))
	if !errors.Is(err, model.ErrKeyMissing) || !strings.Contains(err.Error(), "set ANTHROPIC_API_KEY") ||
		model.ErrKeyMissing.Reason() != "MODEL_KEY_MISSING" {
		t.Errorf("%v", err)
	}
}

func TestAnUnknownProviderSaysWhatToDo(t *testing.T) {
	mine := model.Provider{BaseURL: "http://h/v1", Settings: model.Settings{API: model.APIChat}}
	r, _ := registry(t, model.Config{Providers: map[string]model.Provider{"mine": mine}}, nil)
	_, err := r.Model(ref(t, "nope/x"))
	if !errors.Is(err, model.ErrUnknownProvider) || !strings.Contains(err.Error(), "add it to the providers file") ||
		!strings.Contains(err.Error(), "anthropic, mine, offline") {
		t.Errorf("%v", err)
	}
}

func TestConfigurationIsLaidOverTheCatalogue(t *testing.T) {
	c := model.Config{Providers: map[string]model.Provider{
		"anthropic": {Settings: model.Settings{Headers: map[string]model.Secret{"X-A": "1"}}},
		"local":     {BaseURL: "http://localhost:1/v1", Settings: model.Settings{API: model.APIChat}},
	}}
	r, opened := registry(t, c, map[string]string{"ANTHROPIC_API_KEY": " secret\n"})
	for _, name := range []string{"anthropic/a", "local/b"} {
		if _, err := r.Model(ref(t, name)); err != nil {
			t.Fatal(err)
		}
	}
	a, l := (*opened)[0], (*opened)[1]
	if a.API != model.APIAnthropic || a.Key.Reveal() != "secret" || a.Headers["X-A"] != "1" {
		t.Errorf("anthropic: %+v", a)
	}
	if l.Key != "" || l.BaseURL != "http://localhost:1/v1" {
		t.Errorf("local: %+v", l)
	}
}

func TestAKeyGoesToItsOwnEndpointOnly(t *testing.T) {
	c := model.Config{Providers: map[string]model.Provider{"anthropic": {BaseURL: "http://proxy"}}}
	r, opened := registry(t, c, map[string]string{"ANTHROPIC_API_KEY": "secret"})
	if _, err := r.Model(ref(t, "anthropic/a")); err != nil {
		t.Fatal(err)
	}
	if e := (*opened)[0]; e.Key != "" {
		t.Error("the catalogue's key was given to another endpoint")
	}
}

// An API of somebody else's, at its own address, is another endpoint too.
func TestAKeyGoesToItsOwnAPIOnly(t *testing.T) {
	c := model.Config{Providers: map[string]model.Provider{"anthropic": {Settings: model.Settings{API: model.APIChat}}}}
	r, opened := registry(t, c, map[string]string{"ANTHROPIC_API_KEY": "secret"})
	if _, err := r.Model(ref(t, "anthropic/a")); err != nil {
		t.Fatal(err)
	}
	if e := (*opened)[0]; e.Key != "" {
		t.Error("Anthropic's key was given to OpenAI")
	}
}

// A model's own API is another endpoint as well.
func TestAKeyGoesToTheAPIOfItsOwnModelsOnly(t *testing.T) {
	c := model.Config{Providers: map[string]model.Provider{
		"anthropic": {Models: map[string]model.ModelConfig{"a": {Settings: model.Settings{API: model.APIChat}}}},
	}}
	r, opened := registry(t, c, map[string]string{"ANTHROPIC_API_KEY": "secret"})
	if _, err := r.Model(ref(t, "anthropic/a")); err != nil {
		t.Fatal(err)
	}
	if e := (*opened)[0]; e.API != model.APIChat || e.Key != "" {
		t.Errorf("the endpoint has api %s and a key: %t", e.API, e.Key != "")
	}
}

func TestAModelsSettingsAreLaidOverItsProviders(t *testing.T) {
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	provider := model.Settings{
		API: model.APIChat, MaxImages: 20, Drop: []string{"store"},
		Headers:   map[string]model.Secret{"A": "1", "B": "1"},
		Query:     map[string]model.Secret{"a": "1", "b": "1"},
		ExtraBody: map[string]json.RawMessage{"a": raw("1"), "b": raw("1")},
		Timeouts:  model.TimeoutPolicy{First: time.Minute, Between: time.Minute, Call: time.Minute},
	}
	c := model.Config{Providers: map[string]model.Provider{"p": {
		BaseURL: "http://h", Settings: provider,
		Models: map[string]model.ModelConfig{
			"own": {Info: model.Info{Window: 7}, Settings: model.Settings{
				API: model.APIResponses, MaxImages: 1, Drop: []string{},
				Headers:   map[string]model.Secret{"B": "2", "C": "2"},
				Query:     map[string]model.Secret{"b": "2", "c": "2"},
				ExtraBody: map[string]json.RawMessage{"b": raw("2"), "c": raw("2")},
				Timeouts:  model.TimeoutPolicy{Between: time.Hour},
			}},
		},
	}}}
	want := map[string]model.Endpoint{
		"other": {Name: "p", BaseURL: "http://h", Settings: provider},
		"own": {Name: "p", BaseURL: "http://h", Info: model.Info{Window: 7}, Settings: model.Settings{
			API: model.APIResponses, MaxImages: 1, Drop: []string{},
			Headers:   map[string]model.Secret{"A": "1", "B": "2", "C": "2"},
			Query:     map[string]model.Secret{"a": "1", "b": "2", "c": "2"},
			ExtraBody: map[string]json.RawMessage{"a": raw("1"), "b": raw("2"), "c": raw("2")},
			Timeouts:  model.TimeoutPolicy{First: time.Minute, Between: time.Hour, Call: time.Minute},
		}},
	}
	r, opened := registry(t, c, nil)
	for _, id := range []string{"own", "other", "own"} { // an override does not reach another model
		*opened = nil
		if _, err := r.Model(model.Ref{Provider: "p", ID: id}); err != nil {
			t.Fatal(err)
		}
		if len(*opened) > 0 && !reflect.DeepEqual((*opened)[0], want[id]) {
			t.Errorf("%s:\ngot  %#v\nwant %#v", id, (*opened)[0], want[id])
		}
	}
}

// limitedModels resolves models of providers that answer 429 to the first call of every model, and then say x.
func limitedModels(env map[string]string, providers map[string]model.Provider) *model.Registry {
	open := func(model.Endpoint, string) (model.Model, error) {
		return modeltest.New(modeltest.Fail(rateLimited(time.Minute)), modeltest.Say("x")), nil
	}
	return model.NewRegistry(model.Config{Providers: providers, Retry: model.RetryPolicy{Attempts: 1}}, model.Deps{
		APIs:   map[model.API]model.Open{model.APIChat: open},
		Getenv: func(k string) string { return env[k] },
	})
}

func TestARateLimitIsOfOneModelAndOneKey(t *testing.T) {
	at := func(keyEnv string, s model.Settings) model.Provider {
		s.API = model.APIChat
		return model.Provider{BaseURL: "http://h", KeyEnv: keyEnv, Settings: s}
	}
	key := func(s string) map[string]model.Secret { return map[string]model.Secret{"Api-Key": model.Secret(s)} }
	providers := map[string]model.Provider{
		"one": at("ONE", model.Settings{}), "same": at("ONE", model.Settings{}), "two": at("TWO", model.Settings{}),
		"header1": at("", model.Settings{Headers: key("1")}), "header2": at("", model.Settings{Headers: key("2")}),
		"query1": at("", model.Settings{Query: key("1")}), "query2": at("", model.Settings{Query: key("2")}),
	}
	for name, c := range map[string]struct {
		limited, asked string
		waits          bool
	}{
		"the same":                     {"one/a", "one/a", true},
		"another name of the provider": {"one/a", "same/a", true},
		"another model":                {"one/a", "one/b", false},
		"another key":                  {"one/a", "two/a", false},
		"another key in a header":      {"header1/a", "header2/a", false},
		"another key in the query":     {"query1/a", "query2/a", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := limitedModels(map[string]string{"ONE": "1", "TWO": "2"}, providers)
				for i, name := range []string{c.limited, c.asked} {
					m, err := r.Model(ref(t, name))
					if err != nil {
						t.Fatal(err)
					}
					start := time.Now()
					_, _ = waits(t.Context(), m) // the second asks for its first time, or goes on after the limit
					if waited := time.Since(start) >= time.Minute; waited != (i == 1 && c.waits) {
						t.Errorf("%s waited %s", name, time.Since(start))
					}
				}
			})
		})
	}
}

// Clients invent names of models.
func TestLimitersOfManyModelsAreForgotten(t *testing.T) {
	r := limitedModels(nil, map[string]model.Provider{
		"p": {BaseURL: "http://h", Settings: model.Settings{API: model.APIChat}},
	})
	for i := range 10 * model.MaxModels {
		if _, err := r.Model(model.Ref{Provider: "p", ID: strconv.Itoa(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.Limiters(); n > model.MaxModels {
		t.Errorf("%d limiters are kept", n)
	}
}

func TestModelsAreOpenedOnceForEachKey(t *testing.T) {
	env := map[string]string{"ANTHROPIC_API_KEY": "one"}
	r, opened := registry(t, model.Config{}, env)
	for range 3 {
		if _, err := r.Model(ref(t, "anthropic/a")); err != nil {
			t.Fatal(err)
		}
	}
	env["ANTHROPIC_API_KEY"] = "two"
	if _, err := r.Model(ref(t, "anthropic/a")); err != nil {
		t.Fatal(err)
	}
	if len(*opened) != 2 {
		t.Errorf("opened %d times, want 2", len(*opened))
	}
}

func TestASecretDoesNotPrintItself(t *testing.T) {
	e := model.Endpoint{Key: "sk-secret", Settings: model.Settings{Headers: map[string]model.Secret{"A": "sk-secret"}}}
	for _, s := range []string{fmt.Sprint(e), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e), fmt.Sprintf("%q", e.Key)} {
		if strings.Contains(s, "sk-secret") {
			t.Errorf("printed as %s", s)
		}
	}
}

// A cloud's models speak what the cloud does, and what is missing of its address comes from the variables that its own
// tools read.
func TestClouds(t *testing.T) {
	env := map[string]string{
		"GOOGLE_CLOUD_PROJECT": "p", "AWS_REGION": "eu-west-1",
		"AZURE_OPENAI_ENDPOINT": "https://mine.openai.azure.com",
		"AZURE_OPENAI_API_KEY":  "azure-key",
	}
	var opened []model.Endpoint
	open := func(e model.Endpoint, _ string) (model.Model, error) {
		opened = append(opened, e)
		return modeltest.New(modeltest.Say("x")), nil
	}
	apis := map[model.API]model.Open{}
	for _, api := range []model.API{
		model.APIAnthropic, model.APIChat, model.APIResponses, model.APIGemini, model.APIConverse,
	} {
		apis[api] = open
	}
	configured := map[string]model.Provider{
		"google": {Cloud: model.Cloud{Kind: model.Vertex, Location: "europe-west1"}},
		"entra": {
			BaseURL: "https://other.openai.azure.com", Cloud: model.Cloud{Kind: model.Azure, Entra: true},
			Settings: model.Settings{API: model.APIChat},
		},
		"azure": {BaseURL: "https://third.openai.azure.com"},
	}
	r := model.NewRegistry(model.Config{Providers: configured}, model.Deps{
		APIs: apis, Known: provider.Known, Getenv: func(k string) string { return env[k] },
	})
	for name, want := range map[string]model.Endpoint{
		"vertexai/gemini-2.5-pro": {
			Cloud:    model.Cloud{Kind: model.Vertex, Project: "p", Location: "global"},
			Settings: model.Settings{API: model.APIGemini},
		},
		"google/claude-sonnet-4-6": {
			Cloud:    model.Cloud{Kind: model.Vertex, Project: "p", Location: "europe-west1"},
			Settings: model.Settings{API: model.APIAnthropic},
		},
		"bedrock/amazon.nova-pro-v1:0": {
			Cloud:    model.Cloud{Kind: model.Bedrock, Region: "eu-west-1"},
			Settings: model.Settings{API: model.APIConverse},
		},
		"azure/gpt-5": {
			BaseURL: "https://third.openai.azure.com", Key: "azure-key", Cloud: model.Cloud{Kind: model.Azure},
			Settings: model.Settings{API: model.APIResponses},
		},
		"entra/gpt-5": {
			BaseURL: "https://other.openai.azure.com", Cloud: model.Cloud{Kind: model.Azure, Entra: true},
			Settings: model.Settings{API: model.APIChat},
		},
	} {
		opened = nil
		if _, err := r.Model(ref(t, name)); err != nil || len(opened) != 1 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := opened[0]
		if got.BaseURL != want.BaseURL || got.Key != want.Key || got.Cloud != want.Cloud || got.API != want.API {
			t.Errorf("%s is %+v, want %+v", name, got, want)
		}
	}
	env["GOOGLE_CLOUD_PROJECT"] = ""
	err := r.Check(ref(t, "vertexai/gemini-2.5-flash"))
	if !errors.Is(err, model.ErrCloudIncomplete) || !strings.Contains(err.Error(), "GOOGLE_CLOUD_PROJECT") {
		t.Error(err)
	}
}
