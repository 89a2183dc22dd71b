package model_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pawl-dev/pawl/services/control/model"
)

func TestWordsOfAProvider(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"nothing": {" \n", ""},
		"OpenAI":  {`{"error":{"message":"no credits","type":"insufficient_quota","code":402}}`, "no credits"},
		"Anthropic": {
			`{"type":"error","error":{"type":"x","message":"Overloaded"},"request_id":"r"}`,
			"Overloaded",
		},
		"bare":            {`{"message":"x","code":"y"}`, "x"},
		"text for object": {`{"error":"x does not support tools"}`, "x does not support tools"},
		"detail":          {`{"detail":"model not loaded"}`, "model not loaded"},
		"title, detail":   {`{"title":"Bad","detail":"worse","status":400}`, "worse; Bad"},
		"Google's list":   {`[{"error":{"code":400,"message":"Unknown name x","status":"INVALID"}}]`, "Unknown name x"},
		"validator": {
			`{"detail":[{"loc":["body","stream_options",0],"msg":"Extra inputs","type":"e"},{"loc":["query"],"msg":"no"}]}`,
			"body.stream_options: Extra inputs; query: no",
		},
		"validator in a message": {
			`{"object":"error","message":{"detail":[{"loc":["body","x"],"msg":"Extra inputs are not permitted"}]}}`,
			"body.x: Extra inputs are not permitted",
		},
		"JSON in text": {
			`{"error":{"message":"Provider returned error","metadata":{"raw":"{\"error\":{\"message\":\"the cause\"}}"}}}`,
			"Provider returned error; the cause",
		},
		"text that looks like JSON": {`{"error":"[sic] really"}`, "[sic] really"},
		"said twice":                {`{"error":{"message":"x"},"message":"x"}`, "x"},
		"other JSON":                {`{"status": 400, "ok": false}`, `{"status":400,"ok":false}`},
		"a JSON text":               {`"too long"`, "too long"},
		"null":                      {"null", "null"},
		"plain text":                {"context too large for slot\n", "context too large for slot"},
		"broken JSON":               {`{"error": {"mess`, `{"error": {"mess`},
		"a page": {
			"<html><head><title>502 Bad Gateway</title><style>p{}</style></head><body><script>x<y</script>" +
				"<h1>Bad&nbsp;Gateway</h1>\n<p>nginx</body>", "502 Bad Gateway Bad Gateway nginx",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := model.Words([]byte(c.body)); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func FuzzWords(f *testing.F) {
	f.Add([]byte(`{"error":{"message":"x","metadata":{"raw":"[{\"msg\":\"y\",\"loc\":[\"a\"]}]"}}}`))
	f.Add([]byte("<p <script></"))
	f.Add([]byte(strings.Repeat(`{"error":`, 50)))
	f.Fuzz(func(t *testing.T, body []byte) {
		said := model.Words(body)
		clean := model.NewRedactor(model.Endpoint{Key: "s3cr3t-key"}).Clean(said)
		if len(clean) > model.MaxWords || !utf8.ValidString(clean) || strings.ContainsAny(clean, "\n\x1b\x00") {
			t.Errorf("%q is not one short line", clean)
		}
	})
}

func TestARedactorRemovesEverySecretOfAnEndpoint(t *testing.T) {
	r := model.NewRedactor(model.Endpoint{Key: "key-secret/1", Settings: model.Settings{
		Headers: map[string]model.Secret{"Authorization": "Bearer header-secret", "X-Mode": "a"},
		Query:   map[string]model.Secret{"key": "query secret", "long": "key-secret/1-and-more"},
	}})
	const said = "a key-secret/1 (key-secret%2F1), Bearer header-secret, header-secret;\n query secret, " +
		"query+secret, " +
		"query%20secret, key-secret/1-and-more"
	const want = "a [redacted] ([redacted]), [redacted], [redacted];  [redacted], [redacted], [redacted], [redacted]"
	if got := r.Clean(said); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := r.Clean(strings.Repeat("é", model.MaxWords)); len(got) > model.MaxWords || !strings.HasSuffix(got, "é…") {
		t.Errorf("%d bytes, ends in %q", len(got), got[len(got)-8:])
	}
	// What is cut off must not leave the half of a secret.
	if got := r.Clean(strings.Repeat("x", model.MaxWords-8) + "key-secret/1"); strings.Contains(got, "key-") {
		t.Errorf("half a secret stays: %q", got[len(got)-20:])
	}
}
