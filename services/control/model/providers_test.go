package model_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
)

// parseProviders knows the provider anthropic and the variables TEAM, TOKEN and LINES.
func parseProviders(src string) (map[string]model.Provider, error) {
	known := func(name string) (model.Provider, bool) {
		switch name {
		case "anthropic":
			return model.Provider{Settings: model.Settings{API: model.APIAnthropic}}, true
		case "openai":
			return model.Provider{Settings: model.Settings{API: model.APIResponses}}, true
		}
		return model.Provider{}, false
	}
	env := map[string]string{"TEAM": "blue", "TOKEN": "s3cr3t\n", "LINES": "s3cr3t\r\nX-Evil: 1"}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	return model.ParseProviders("p.yaml", []byte(src), known, lookup)
}

const fullProviders = `# what we use
local:
  api: openai-chat
  base_url: http://localhost:11434/v1
  key_env: LOCAL_KEY
  headers:
    x-team: team ${TEAM}
    Authorization: "Bearer ${TOKEN}"
    X-Literal: $${TEAM}
  query: {api-version: "2025-04-01", key: "${TOKEN}"}
  extra_body: {service_tier: flex, provider: {order: [a, "1"], n: 1, f: .5, on: true, off: null}}
  drop: [stream_options, store]
  timeouts: {first: 10m, between: 90s, call: 1h}
  max_images: 20
  models:
    meta/llama:free:
      {window: 128000, max_output: 8192, images: true, thinks: false, efforts: [high, low], api: anthropic,
        max_images: 1}
    "4":
      price: {input: 0, output: 2.5, cache_read: 1, cache_write: .5}
      headers: {x-a: b}
      query: {a: b}
      extra_body: {}
      drop: []
      timeouts: {first: 1m}
anthropic:
  headers: {X-A: b}
work: {api: openai-responses}
`

func TestParseProvidersReadsClouds(t *testing.T) {
	got, err := parseProviders(`
google: {vertex: {project: my-project, location: europe-west1}, models: {claude-x: {api: anthropic}}}
azure: {base_url: "https://mine.openai.azure.com", azure: {auth: entra, api_version: 2025-04-01-preview}}
keyed: {base_url: "https://mine.openai.azure.com", key_env: AZURE_KEY, azure: {auth: key}, api: openai-chat}
aws: {bedrock: {region: eu-central-1, profile: work}}`)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]model.Cloud{
		"google": {Kind: model.Vertex, Project: "my-project", Location: "europe-west1"},
		"azure":  {Kind: model.Azure, Entra: true, APIVersion: "2025-04-01-preview"},
		"keyed":  {Kind: model.Azure},
		"aws":    {Kind: model.Bedrock, Region: "eu-central-1", Profile: "work"},
	} {
		if got[name].Cloud != want {
			t.Errorf("%s is %+v, want %+v", name, got[name].Cloud, want)
		}
	}
}

func TestParseProvidersReadsEveryKey(t *testing.T) {
	yes, no := true, false
	want := map[string]model.Provider{
		"local": {
			BaseURL: "http://localhost:11434/v1", KeyEnv: "LOCAL_KEY",
			Settings: model.Settings{
				API: model.APIChat,
				Headers: map[string]model.Secret{
					"X-Team": "team blue", "Authorization": "Bearer s3cr3t",
					"X-Literal": "${TEAM}",
				},
				Query: map[string]model.Secret{"api-version": "2025-04-01", "key": "s3cr3t"},
				ExtraBody: map[string]json.RawMessage{
					"service_tier": json.RawMessage(`"flex"`),
					"provider":     json.RawMessage(`{"f":0.5,"n":1,"off":null,"on":true,"order":["a","1"]}`),
				},
				Drop:      []string{"stream_options", "store"},
				Timeouts:  model.TimeoutPolicy{First: 10 * time.Minute, Between: 90 * time.Second, Call: time.Hour},
				MaxImages: 20,
			},
			Models: map[string]model.ModelConfig{
				"meta/llama:free": {
					Info: model.Info{
						Window: 128000, MaxOutput: 8192, Images: &yes, Thinks: &no,
						Efforts: []string{"low", "high"},
					},
					Settings: model.Settings{API: model.APIAnthropic, MaxImages: 1},
				},
				"4": {
					Info: model.Info{Price: &model.Price{Output: 2.5, CacheRead: 1, CacheWrite: .5}},
					Settings: model.Settings{
						Headers:   map[string]model.Secret{"X-A": "b"},
						Query:     map[string]model.Secret{"a": "b"},
						ExtraBody: map[string]json.RawMessage{},
						Drop:      []string{},
						Timeouts:  model.TimeoutPolicy{First: time.Minute},
					},
				},
			},
		},
		"anthropic": {Settings: model.Settings{Headers: map[string]model.Secret{"X-A": "b"}}},
		"work":      {Settings: model.Settings{API: model.APIResponses}},
	}
	for name, src := range map[string]string{"unix": fullProviders, "windows, BOM": "\ufeff" +
		strings.ReplaceAll(fullProviders, "\n", "\r\n")} {
		got, err := parseProviders(src)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got  %#v, %v\nwant %#v", name, got, err, want)
		}
	}
	for _, empty := range []string{"", "# nothing\n", "{}"} {
		if got, err := parseProviders(empty); err != nil || len(got) != 0 {
			t.Errorf("%q: %v, %v", empty, got, err)
		}
	}
}

// Every case begins at line 1, and nothing that is told may hold a secret.
func TestParseProvidersRefuses(t *testing.T) {
	keys := "there are base_url, key_env, models, vertex, azure, bedrock, api, headers, query, extra_body, drop, " +
		"timeouts, max_images"
	for name, c := range map[string]struct{ src, want string }{
		"list":          {"- local", "1:1: must be a mapping of keys to values, got a list"},
		"text":          {"s3cr3t", "1:1: must be a mapping of keys to values, got text"},
		"not YAML":      {"\nlocal: [s3cr3t", "2: not valid YAML: did not find expected ',' or ']'"},
		"two documents": {"local: {api: openai-chat}\n---\nb: {}", "2:1: the file must be a single YAML document"},
		"alias": {
			"a: &s3cr3t {api: openai-chat}\nb: *s3cr3t",
			"1:4: anchors and aliases are not allowed|2:4: anchors and aliases are not allowed",
		},
		"NUL":            {"a: \x00", " contains a NUL character"},
		"provider twice": {"a: {api: openai-chat}\na: {api: openai-chat}", "2:1: a: is given twice"},
		"provider name": {
			"A b: {api: openai-chat}",
			"1:1: A b: cannot be a provider's name: use lower-case letters, digits, dots, dashes and underscores",
		},
		"provider built in": {"offline: {}", "1:1: offline: is built in and cannot be configured"},
		"provider empty":    {"local:", "1:7: local: must be a mapping of keys to values, got nothing"},
		"provider text":     {"local: s3cr3t", "1:8: local: must be a mapping of keys to values, got text"},
		"unknown key":       {"local:\n  api: openai-chat\n  url: s3cr3t", "3:3: local.url: unknown key; " + keys},
		"key in the file":   {"local:\n  api: openai-chat\n  key: s3cr3t", "3:3: local.key: unknown key; " + keys},
		"api missing": {
			"\nlocal:\n  key_env: A",
			"2:1: local.api: is required: local is not the name of a provider that is known",
		},
		"api": {
			"local:\n  api: soap",
			`2:8: local.api: must be one of anthropic, openai-chat, openai-responses, gemini, bedrock-converse, got` +
				` "soap"`,
		},
		"api offline": {
			"local: {api: offline}",
			`1:14: local.api: must be one of anthropic, openai-chat, openai-responses, gemini, bedrock-converse, got` +
				` "offline"`,
		},
		"url without host": {
			"a: {api: openai-chat, base_url: 'localhost:1'}",
			"1:33: a.base_url: must be a whole URL, such as https://api.example.com/v1",
		},
		"url of a file": {
			"a: {api: openai-chat, base_url: 'file://h/s3cr3t'}",
			"1:33: a.base_url: must be a whole URL, such as https://api.example.com/v1",
		},
		"url broken": {
			"a: {api: openai-chat, base_url: 'http://s3cr3t:h:1'}",
			"1:33: a.base_url: must be a whole URL, such as https://api.example.com/v1",
		},
		"url with user": {
			"a: {api: openai-chat, base_url: 'https://u:s3cr3t@h/'}",
			"1:33: a.base_url: must not have a user, query or fragment; a key belongs into the variable that " +
				"key_env names, and a query into query",
		},
		"url with query": {
			"a: {api: openai-chat, base_url: 'https://h/?key=s3cr3t'}",
			"1:33: a.base_url: must not have a user, query or fragment; a key belongs into the variable that " +
				"key_env names, and a query into query",
		},
		"url list": {"a: {api: openai-chat, base_url: [s3cr3t]}", "1:33: a.base_url: must be text, got a list"},
		"key itself": {
			"a:\n  api: openai-chat\n  key_env: s3cr3t",
			"3:12: a.key_env: must be the name of an environment variable in capitals, such as LOCAL_KEY, and " +
				"not the key itself",
		},
		"key reference": {
			"a: {api: openai-chat, key_env: $S3CR3T}",
			"1:32: a.key_env: must be the name of an environment variable in capitals, such as LOCAL_KEY, and " +
				"not the key itself",
		},
		"headers list": {
			"a: {api: openai-chat, headers: [X]}",
			"1:32: a.headers: must be a mapping of keys to values, got a list",
		},
		"header not ours": {
			"a:\n  api: openai-chat\n  headers:\n    host: s3cr3t",
			"4:5: a.headers.host: is not a header that can be set",
		},
		"header name": {
			"a: {api: openai-chat, headers: {'X Y': s3cr3t}}",
			"1:33: a.headers.X Y: is not a header that can be set",
		},
		"header twice": {
			"a: {api: openai-chat, headers: {X-A: s3cr3t, x-a: b}}",
			"1:46: a.headers.x-a: is given twice",
		},
		"header number": {
			"a: {api: openai-chat, headers: {X-A: 12345}}",
			"1:38: a.headers.X-A: must be text, got a number; put it in quotes",
		},
		"header lines": {
			"a:\n  api: openai-chat\n  headers:\n    X-A: \"s3cr3t\\nb\"",
			"4:10: a.headers.X-A: must not contain line breaks or other control characters",
		},
		"header reference": {
			"a: {api: openai-chat, headers: {X-A: '${s3cr3t-1}'}}",
			"1:38: a.headers.X-A: ${ must be followed by the name of a variable and }; write $${ for a literal ${",
		},
		"header not set": {
			"a:\n  api: openai-chat\n  headers:\n    X-A: s3cr3t ${NOPE}",
			"4:10: a.headers.X-A: variable NOPE is not set in the environment of control",
		},
		"header injected": {
			"a: {api: openai-chat, headers: {X-A: '${LINES}'}}",
			"1:38: a.headers.X-A: must not contain line breaks or other control characters",
		},
		"model id": {
			"a: {api: openai-chat, models: {'a b': {}}}",
			"1:32: a.models.a b: cannot be a model's id: it must not be empty or contain blanks",
		},
		"model list": {
			"a: {api: openai-chat, models: [gpt]}",
			"1:31: a.models: must be a mapping of keys to values, got a list",
		},
		"model key": {
			"a:\n  api: openai-chat\n  models:\n    m:\n      windw: 1",
			"5:7: a.models.m.windw: unknown key; there are window, max_output, images, thinks, efforts, " +
				"price, api, headers, query, extra_body, drop, timeouts, max_images",
		},
		"window": {
			"a: {api: openai-chat, models: {m: {window: 0}}}",
			"1:44: a.models.m.window: must be positive and at most 2147483647",
		},
		"window text": {
			"a: {api: openai-chat, models: {m: {window: 128k}}}",
			"1:44: a.models.m.window: must be a whole number, got text",
		},
		"max_output": {
			"a: {api: openai-chat, models: {m: {max_output: -1}}}",
			"1:48: a.models.m.max_output: must be positive and at most 2147483647",
		},
		"images": {
			"a: {api: openai-chat, models: {m: {images: yes please}}}",
			"1:44: a.models.m.images: must be true or false, got text",
		},
		"thinks": {
			"a: {api: openai-chat, models: {m: {thinks: 1}}}",
			"1:44: a.models.m.thinks: must be true or false, got a number",
		},
		"efforts": {
			"a: {api: openai-chat, models: {m: {efforts: [much]}}}",
			`1:46: a.models.m.efforts: must be one of none, minimal, low, medium, high, xhigh, max, got "much"`,
		},
		"query list": {
			"a: {api: openai-chat, query: [a]}",
			"1:30: a.query: must be a mapping of keys to values, got a list",
		},
		"query name": {
			"a: {api: openai-chat, query: {'a b': c}}",
			"1:31: a.query.a b: cannot be a parameter's name: it must not be empty or contain blanks",
		},
		"query number": {
			"a: {api: openai-chat, query: {v: 1}}",
			"1:34: a.query.v: must be text, got a number; put it in quotes",
		},
		"query not set": {
			"a:\n  api: openai-chat\n  query:\n    k: s3cr3t ${NOPE}",
			"4:8: a.query.k: variable NOPE is not set in the environment of control",
		},
		"body list": {
			"a: {api: openai-chat, extra_body: [a]}",
			"1:35: a.extra_body: must be a mapping of keys to values, got a list",
		},
		"body reserved": {
			"a:\n  api: openai-chat\n  extra_body:\n    messages: [s3cr3t]",
			"4:5: a.extra_body.messages: is written by control and cannot be set",
		},
		"body date": {
			"a: {api: openai-chat, extra_body: {d: 2020-01-01}}",
			"1:39: a.extra_body.d: cannot be sent as JSON: a date must be put in quotes",
		},
		"body infinite": {
			"a: {api: openai-chat, extra_body: {d: [.inf]}}",
			"1:39: a.extra_body.d: cannot be sent as JSON: a number must be finite",
		},
		"body twice": {
			"a: {api: openai-chat, extra_body: {d: {e: 1, e: 2}}}",
			"1:39: a.extra_body.d: cannot be sent as JSON: e is given twice",
		},
		"body key": {
			"a: {api: openai-chat, extra_body: {d: {1: 2}}}",
			"1:39: a.extra_body.d: cannot be sent as JSON: keys must be text, got a number",
		},
		"drop text": {"a: {api: openai-chat, drop: store}", "1:29: a.drop: must be a list, got text"},
		"drop name": {
			"a: {api: openai-chat, drop: ['a b']}",
			"1:30: a.drop: must hold names of parameters, such as stream_options",
		},
		"drop reserved": {"a: {api: openai-chat, drop: [tools]}", "1:30: a.drop: tools cannot be left out"},
		"drop twice":    {"a: {api: openai-chat, drop: [store, store]}", "1:37: a.drop: store is given twice"},
		"timeouts text": {
			"a: {api: openai-chat, timeouts: 5m}",
			"1:33: a.timeouts: must be a mapping of keys to values, got text",
		},
		"timeouts key": {
			"a: {api: openai-chat, timeouts: {idle: 5m}}",
			"1:34: a.timeouts.idle: unknown key; there are first, between, call",
		},
		"timeouts number": {
			"a: {api: openai-chat, timeouts: {first: 5}}",
			"1:41: a.timeouts.first: must be a duration, such as 30m or 1h, got a number",
		},
		"timeouts zero": {
			"a: {api: openai-chat, timeouts: {between: 0s}}",
			"1:43: a.timeouts.between: must be positive",
		},
		"max_images": {
			"a: {api: openai-chat, models: {m: {max_images: 0}}}",
			"1:48: a.models.m.max_images: must be positive and at most 10000",
		},
		"model api": {
			"a: {api: openai-chat, models: {m: {api: openai}}}",
			`1:41: a.models.m.api: must be one of anthropic, openai-chat, openai-responses, gemini, bedrock-converse` +
				`, got "openai"`,
		},
		"openai elsewhere": {
			"openai: {base_url: 'http://h/v1'}",
			"1:1: openai.api: is required with base_url: most servers that resemble OpenAI speak openai-chat, " +
				"some openai-responses",
		},
		"price": {
			"a: {api: openai-chat, models: {m: {price: 3}}}",
			"1:43: a.models.m.price: must be a mapping of keys to values, got a number",
		},
		"price key": {
			"a: {api: openai-chat, models: {m: {price: {in: 3}}}}",
			"1:44: a.models.m.price.in: unknown key; there are input, output, cache_read, cache_write, search",
		},
		"price below zero": {
			"a: {api: openai-chat, models: {m: {price: {input: -3}}}}",
			"1:51: a.models.m.price.input: must not be negative",
		},
		"price not finite": {
			"a: {api: openai-chat, models: {m: {price: {input: .inf}}}}",
			"1:51: a.models.m.price.input: must not be negative",
		},
		"two clouds": {
			"a: {vertex: {project: p}, bedrock: {region: r}}",
			"1:36: a.bedrock: cannot be given together with vertex: a provider's models run in one place",
		},
		"a cloud's key": {
			"a: {azure: {tenant: x}}", "1:13: a.azure.tenant: unknown key; there are api_version, auth",
		},
		"a cloud's address": {
			"a: {bedrock: {region: 'eu/../x'}}",
			"1:23: a.bedrock.region: must be of letters, digits, dashes, dots, colons and underscores",
		},
		"a protocol that a cloud does not speak": {
			"a: {azure: {}, api: anthropic, models: {m: {api: gemini}}}",
			"1:1: a.api: azure does not speak anthropic|1:1: a.models.m.api: azure does not speak gemini",
		},
		"a protocol of a cloud only": {
			"a: {api: bedrock-converse, base_url: 'http://h'}",
			"1:1: a.api: a provider without bedrock, azure or vertex does not speak bedrock-converse",
		},
		"two proofs": {
			"a: {azure: {auth: entra}, key_env: KEY}",
			"1:1: a.key_env: cannot be given with azure.auth: entra, which uses no key",
		},
		"a key of Vertex": {
			"a: {vertex: {}, key_env: KEY}",
			"1:1: a.key_env: cannot be given with vertex: Google Cloud is asked with the application default " +
				"credentials",
		},
		"several, in order": {
			"a:\n  api: openai-chat\n  key_env: b\n  url: c\nb:\n  models: {m: {window: a}}",
			"3:12: a.key_env: must be the name of an environment variable in capitals, such as LOCAL_KEY, and not " +
				"the " +
				"key itself|" +
				"4:3: a.url: unknown key; " + keys + "|5:1: b.api: is required: b is not the name of a provider " +
				"that is " +
				"known|" +
				"6:24: b.models.m.window: must be a whole number, got text",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseProviders(c.src)
			lines := strings.Split(c.want, "|")
			for i := range lines {
				lines[i] = "p.yaml:" + lines[i]
			}
			if err == nil || err.Error() != strings.Join(lines, "\n") || !errors.Is(err, model.ErrInvalidProviders) ||
				got != nil {
				t.Errorf("got\n%v, %v\nwant\n%s", err, got, strings.Join(lines, "\n"))
			}
			if strings.Contains(strings.ToLower(fmt.Sprint(err)), "s3cr3t") {
				t.Errorf("a value is told: %v", err)
			}
		})
	}
}

func FuzzParseProviders(f *testing.F) {
	f.Add(fullProviders)
	f.Add("a: {api: openai-chat, headers: {X: '$${x} ${TEAM}'}}")
	f.Add("? [a]\n: b\n<<: *x\n")
	f.Fuzz(func(t *testing.T, src string) {
		got, err := parseProviders(src)
		if err == nil {
			for name, p := range got {
				known := name == "anthropic" || name == "openai" || p.Cloud.Kind != ""
				if r, err := model.ParseRef(name + "/m"); err != nil || r.Provider != name || p.API == "" && !known {
					t.Fatalf("%q: %+v cannot be used: %v", name, p, err)
				}
			}
			return
		}
		for _, line := range strings.Split(err.Error(), "\n") {
			if !strings.HasPrefix(line, "p.yaml:") {
				t.Fatalf("a problem must be one line with the file's name, got %q", err)
			}
		}
	})
}
