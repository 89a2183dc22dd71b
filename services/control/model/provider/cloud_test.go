package provider_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/model/provider"
)

// issuer issues tokens at /token, and at Microsoft's path, and passes all else on.
type issuer struct {
	asked []url.Values
	issue func(n int) (status int, body string)
	then  http.Handler
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, "/token") {
		i.then.ServeHTTP(w, r)
		return
	}
	raw, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(raw))
	i.asked = append(i.asked, form)
	status, body := http.StatusOK, fmt.Sprintf(
		`{"access_token":"issued-token-%d","token_type":"Bearer","expires_in":3600}`, len(i.asked))
	if i.issue != nil {
		status, body = i.issue(len(i.asked))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// serviceAccount makes the application default credentials those of a service account, whose tokens come from the
// test's server.
func serviceAccount(t *testing.T) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "pawl@p.iam.gserviceaccount.com", "private_key_id": "k",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"token_uri":   "http://model.test/token",
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "adc.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
}

// clouded opens a model of a cloud whose server is s.
func clouded(t *testing.T, s *modeltest.Server, api model.API, id string, c model.Cloud) model.Model {
	t.Helper()
	m, err := provider.APIs(s.Client())[api](model.Endpoint{
		Name: "cloud", BaseURL: s.URL(), Cloud: c, Settings: model.Settings{API: api},
	}, id)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestVertex(t *testing.T) {
	serviceAccount(t)
	place := model.Cloud{Kind: model.Vertex, Project: "p", Location: "europe-west1"}
	const base = "/v1/projects/p/locations/europe-west1/publishers/"
	for _, tt := range []struct {
		w        modeltest.Wire
		id, path string
	}{
		{modeltest.Gemini, "gemini-2.5-pro", base + "google/models/gemini-2.5-pro:streamGenerateContent"},
		{
			modeltest.Anthropic, "claude-sonnet-4-5@20250929",
			base + "anthropic/models/claude-sonnet-4-5@20250929:streamRawPredict",
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			tokens := &issuer{then: tt.w.Stream(modeltest.Turn{Text: []string{"x"}})}
			s := modeltest.NewServer(t)
			s.Always(tokens)
			m := clouded(t, s, tt.w.API, tt.id, place)
			if m.Window() == 0 {
				t.Errorf("nothing is known of %s", tt.id)
			}
			for range 2 {
				if tr, err := ask(t, m, model.Request{}); err != nil || tr.Text != "x" {
					t.Fatalf("%+v, %v", tr, err)
				}
			}
			time.Sleep(time.Hour) // on the bubble's clock: the token ends
			if _, err := ask(t, m, model.Request{}); err != nil {
				t.Fatal(err)
			}
			asked := s.Requests()
			if len(asked) != 5 || len(tokens.asked) != 2 || tokens.asked[0].Get("assertion") == "" {
				t.Fatalf("%d requests, of which %d for tokens", len(asked), len(tokens.asked))
			}
			first, last := asked[1], asked[4]
			if first.Path != tt.path || first.Header.Get("Authorization") != "Bearer issued-token-1" ||
				last.Header.Get("Authorization") != "Bearer issued-token-2" {
				t.Errorf("%s, %s, then %s", first.Path, first.Header.Get("Authorization"),
					last.Header.Get("Authorization"))
			}
			var body map[string]json.RawMessage
			if err := json.Unmarshal(first.Body, &body); err != nil {
				t.Fatal(err)
			}
			if version := string(body["anthropic_version"]); body["model"] != nil ||
				(version == `"vertex-2023-10-16"`) != (tt.w.API == model.APIAnthropic) {
				t.Errorf("%s", first.Body)
			}
		})
	}
}

// A token that was revoked is replaced by another one, once.
func TestATokenThatIsRefusedIsReplaced(t *testing.T) {
	serviceAccount(t)
	place := model.Cloud{Kind: model.Vertex, Project: "p", Location: "global"}
	for _, good := range []string{"Bearer issued-token-2", "Bearer none"} {
		synctest.Test(t, func(t *testing.T) {
			answer := modeltest.Gemini.Stream(modeltest.Turn{Text: []string{"x"}})
			tokens := &issuer{then: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Authorization"); got != good {
					said := modeltest.Gemini.Error("authentication_error", "who is "+got+"?")
					modeltest.Answer(http.StatusUnauthorized, said).ServeHTTP(w, r)
					return
				}
				answer.ServeHTTP(w, r)
			})}
			s := modeltest.NewServer(t)
			s.Always(tokens)
			tr, err := ask(t, clouded(t, s, model.APIGemini, "gemini-2.5-pro", place), model.Request{})
			if good == "Bearer issued-token-2" {
				if err != nil || tr.Text != "x" || len(tokens.asked) != 2 {
					t.Errorf("%+v, %v", tr, err)
				}
				return
			}
			e, ok := model.AsError(err)
			if !ok || e.Kind != model.KindAuth || len(tokens.asked) != 2 || strings.Contains(e.Text, "issued-token") {
				t.Errorf("%v after %d tokens", err, len(tokens.asked))
			}
		})
	}
}

func TestAzure(t *testing.T) {
	federated := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(federated, []byte("federated-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AZURE_TENANT_ID", "tenant")
	t.Setenv("AZURE_CLIENT_ID", "client")
	t.Setenv("AZURE_AUTHORITY_HOST", "http://model.test/")
	for _, tt := range []struct {
		name    string
		w       modeltest.Wire
		base    string
		cloud   model.Cloud
		key     model.Secret
		secret  string
		path    string
		headers map[string]string
		form    map[string]string // of the request for a token
	}{
		{
			name: "a key, the API without versions", w: modeltest.Responses, key: key, path: "/openai/v1/responses",
			headers: map[string]string{"Api-Key": key, "Authorization": ""},
		},
		{
			name: "a deployment", w: modeltest.Chat, base: "/openai/", key: key,
			cloud:   model.Cloud{APIVersion: "2024-10-21"},
			path:    "/openai/deployments/gpt-5/chat/completions?api-version=2024-10-21",
			headers: map[string]string{"Api-Key": key},
		},
		{
			name: "a version of Responses", w: modeltest.Responses, key: key, base: "/openai/v1",
			cloud: model.Cloud{APIVersion: "2025-04-01-preview"},
			path:  "/openai/responses?api-version=2025-04-01-preview",
		},
		{
			name: "an application with a secret", w: modeltest.Chat, cloud: model.Cloud{Entra: true},
			secret: "client-secret",
			path:   "/openai/v1/chat/completions", headers: map[string]string{"Authorization": "Bearer issued-token-1"},
			form: map[string]string{
				"client_id": "client", "client_secret": "client-secret", "grant_type": "client_credentials",
				"scope": "https://cognitiveservices.azure.com/.default",
			},
		},
		{
			name: "a workload", w: modeltest.Chat, cloud: model.Cloud{Entra: true, APIVersion: "2024-10-21"},
			path:    "/openai/deployments/gpt-5/chat/completions?api-version=2024-10-21",
			headers: map[string]string{"Authorization": "Bearer issued-token-1"},
			form: map[string]string{
				"client_id": "client", "client_secret": "", "client_assertion": "federated-token",
				"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("AZURE_CLIENT_SECRET", tt.secret)
			t.Setenv("AZURE_FEDERATED_TOKEN_FILE", federated)
			synctest.Test(t, func(t *testing.T) {
				// Azure opens a stream with what its filters say of the prompt.
				opens := modeltest.Event{Data: `{"id":"","object":"","created":0,"model":"","choices":[],` +
					`"prompt_filter_results":[{"prompt_index":0,"content_filter_results":{}}]}`}
				p := tt.w.Stream(modeltest.Turn{Text: []string{"x"}})
				if tt.w.API == model.APIChat {
					p = append(modeltest.Play{opens}, p...)
				}
				tokens := &issuer{then: p}
				s := modeltest.NewServer(t)
				s.Always(tokens)
				tt.cloud.Kind = model.Azure
				m, err := provider.APIs(s.Client())[tt.w.API](model.Endpoint{
					Name: "azure", BaseURL: s.URL() + tt.base, Key: tt.key, Cloud: tt.cloud,
					Settings: model.Settings{API: tt.w.API},
				}, "gpt-5")
				if err != nil {
					t.Fatal(err)
				}
				if tr, err := ask(t, m, model.Request{}); err != nil || tr.Text != "x" {
					t.Fatalf("%+v, %v", tr, err)
				}
				asked := s.Requests()
				last := asked[len(asked)-1]
				if got := strings.TrimSuffix(last.Path+"?"+last.Query, "?"); got != tt.path {
					t.Errorf("%s, want %s", got, tt.path)
				}
				for name, want := range tt.headers {
					if got := last.Header.Get(name); got != want {
						t.Errorf("%s is %q, want %q", name, got, want)
					}
				}
				if len(tokens.asked) != min(len(tt.form), 1) {
					t.Fatalf("%d tokens", len(tokens.asked))
				}
				for name, want := range tt.form {
					if got := tokens.asked[0].Get(name); got != want {
						t.Errorf("%s is %q, want %q", name, got, want)
					}
				}
				if tt.form != nil && asked[0].Path != "/tenant/oauth2/v2.0/token" {
					t.Errorf("the token is asked for at %s", asked[0].Path)
				}
			})
		})
	}
}

// What Azure's filter stops is refused, and is not asked again.
func TestAzuresFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := modeltest.NewServer(t, modeltest.Answer(400, `{"error":{"message":"The response was filtered","type"`+
			`:null,`+
			`"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViola`+
			`tion"}}}`))
		_, err := ask(t, open(t, modeltest.Chat, s), model.Request{})
		if e, ok := model.AsError(err); !ok || e.Kind != model.KindRefused || e.Retryable {
			t.Errorf("%#v", err)
		}
	})
}

// Why no token is had is told, without what could be secret of it.
func TestNoToken(t *testing.T) {
	t.Setenv("AZURE_TENANT_ID", "tenant")
	t.Setenv("AZURE_AUTHORITY_HOST", "http://model.test")
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", "")
	for _, tt := range []struct {
		name, client, body string
		status             int
		want               model.Kind
		says               string
	}{
		{"nothing is set", "", "", 0, model.KindAuth, "needs AZURE_CLIENT_ID"},
		{
			"a wrong secret", "client", `{"error":"invalid_client","error_description":"AADSTS7000215: wrong secret",` +
				`"echo":"client-secret"}`, 401, model.KindAuth, "invalid_client: AADSTS7000215",
		},
		{
			"a secret that is repeated", "client", `{"error":"invalid_client","error_description":"no client-secret"}`,
			400, model.KindAuth, "invalid_client: no [redacted]",
		},
		{"a server that fails", "client", `client-secret`, 503, model.KindNetwork, "no token is issued (503)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("AZURE_CLIENT_ID", tt.client)
			t.Setenv("AZURE_CLIENT_SECRET", "client-secret")
			synctest.Test(t, func(t *testing.T) {
				tokens := &issuer{issue: func(int) (int, string) { return tt.status, tt.body }}
				s := modeltest.NewServer(t)
				s.Always(tokens)
				_, err := ask(t, clouded(t, s, model.APIChat, "gpt-5", model.Cloud{Kind: model.Azure, Entra: true}),
					model.Request{})
				e, ok := model.AsError(err)
				if !ok || e.Kind != tt.want || e.Retryable != (tt.want == model.KindNetwork) ||
					!strings.Contains(e.Text, tt.says) || strings.Contains(e.Text, "client-secret") {
					t.Errorf("%#v", err)
				}
			})
		})
	}
}

// signs makes AWS's credentials known.
func signs(t *testing.T) {
	t.Helper()
	for name, v := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret-access-key",
		"AWS_SESSION_TOKEN": "session-token-1", "AWS_CONFIG_FILE": "/nonexistent",
		"AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "",
		"AWS_CA_BUNDLE": "", // which only a client of AWS's own module can be given
	} {
		t.Setenv(name, v)
	}
}

func sum(body []byte) string {
	hash := sha256.Sum256(body)
	return hex.EncodeToString(hash[:])
}

func TestBedrockSigns(t *testing.T) {
	signs(t)
	synctest.Test(t, func(t *testing.T) {
		w := modeltest.Converse
		s := modeltest.NewServer(t, w.Stream(modeltest.Turn{Text: []string{"x"}}))
		const id = "arn:aws:bedrock:eu-central-1:1:application-inference-profile/abc"
		m := clouded(t, s, w.API, id, model.Cloud{Kind: model.Bedrock, Region: "eu-central-1"})
		if tr, err := ask(t, m, model.Request{}); err != nil || tr.Text != "x" {
			t.Fatalf("%+v, %v", tr, err)
		}
		r := s.Requests()[0]
		if r.Path != "/model/"+id+"/converse-stream" || r.Header.Get("X-Amz-Security-Token") != "session-token-1" {
			t.Errorf("%s: %v", r.Path, r.Header)
		}
		// AWS's own module signs the request that came in the same way.
		again, err := http.NewRequest(http.MethodPost, "http://model.test/model/"+
			"arn%3Aaws%3Abedrock%3Aeu-central-1%3A1%3Aapplication-inference-profile%2Fabc/converse-stream",
			bytes.NewReader(r.Body))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Accept", "Content-Type", "User-Agent", "Content-Length"} {
			again.Header.Set(name, r.Header.Get(name))
		}
		err = v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{
			AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret-access-key", SessionToken: "session-token-1",
		}, again, sum(r.Body), "bedrock", "eu-central-1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := r.Header.Get("Authorization"), again.Header.Get("Authorization"); got != want {
			t.Errorf("signed\n%s, want\n%s", got, want)
		}
	})
}

// AWS quotes what was signed when a signature is wrong. The token of the session is part of that.
func TestBedrockTellsNoSecrets(t *testing.T) {
	signs(t)
	synctest.Test(t, func(t *testing.T) {
		s := modeltest.NewServer(t, modeltest.Answer(403, `{"message":"The request signature we calculated does n`+
			`ot match. `+
			`The Canonical String for this request should have been\nx-amz-security-token:session-token-1"}`,
			"X-Amzn-Errortype", "InvalidSignatureException:http://internal.amazon.com/"))
		m := clouded(t, s, model.APIConverse, "amazon.nova-pro-v1:0", model.Cloud{
			Kind:   model.Bedrock,
			Region: "us-east-1",
		})
		_, err := ask(t, m, model.Request{})
		if e, ok := model.AsError(err); !ok || e.Kind != model.KindAuth || e.Retryable ||
			strings.Contains(e.Text, "session-token-1") || !strings.Contains(e.Text, "does not match") {
			t.Errorf("%v", err)
		}
	})
}

// Who has no credentials is told what to set, before anything is sent.
func TestBedrockWithoutCredentials(t *testing.T) {
	signs(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	for region, says := range map[string]string{"us-east-1": "AWS_ACCESS_KEY_ID", "": "AWS_REGION"} {
		t.Setenv("AWS_REGION", "")
		t.Setenv("AWS_DEFAULT_REGION", "")
		synctest.Test(t, func(t *testing.T) {
			s := modeltest.NewServer(t)
			m := clouded(t, s, model.APIConverse, "amazon.nova-pro-v1:0", model.Cloud{
				Kind:   model.Bedrock,
				Region: region,
			})
			_, err := ask(t, m, model.Request{})
			if e, ok := model.AsError(err); !ok || e.Kind != model.KindAuth || !strings.Contains(e.Text, says) ||
				len(s.Requests()) != 0 {
				t.Errorf("%v", err)
			}
		})
	}
}

// What Bedrock says in its headers and events is as typed as what others say.
func TestBedrocksErrors(t *testing.T) {
	for kind, want := range map[string]model.Kind{
		"ThrottlingException": model.KindRateLimited, "ServiceUnavailableException": model.KindOverloaded,
		"ModelNotReadyException": model.KindOverloaded, "ModelTimeoutException": model.KindServer,
		"AccessDeniedException": model.KindAuth, "ValidationException": model.KindInvalidRequest,
		"ServiceQuotaExceededException": model.KindQuota, "ResourceNotFoundException": model.KindNotFound,
		"ModelStreamErrorException": model.KindServer, "InternalServerException": model.KindServer,
		"ModelErrorException": model.KindServer,
	} {
		status := map[model.Kind]int{
			model.KindRateLimited: 429, model.KindOverloaded: 503, model.KindServer: 500, model.KindAuth: 403,
			model.KindInvalidRequest: 400, model.KindQuota: 400, model.KindNotFound: 404,
		}[want]
		if kind == "ModelErrorException" {
			status = http.StatusFailedDependency
		}
		synctest.Test(t, func(t *testing.T) {
			w := modeltest.Converse
			p := w.Stream(modeltest.Turn{Text: []string{"one", "two"}})
			s := modeltest.NewServer(t, modeltest.Answer(status, `{"message":"no"}`, "X-Amzn-Errortype", kind),
				append(p[:2:2], w.ErrorEvent(strings.ToLower(kind[:1])+kind[1:], "no")))
			for range 2 {
				_, err := ask(t, open(t, w, s), model.Request{})
				if e, ok := model.AsError(err); !ok || e.Kind != want || want == model.KindServer && !e.Retryable {
					t.Errorf("%s: %#v, want %s", kind, err, want)
				}
			}
		})
	}
}

// Addresses of clouds that are not configured are the clouds' own.
func TestCloudsAddresses(t *testing.T) {
	for _, tt := range []struct {
		cloud    model.Cloud
		api      model.API
		id, want string
	}{
		{
			model.Cloud{Kind: model.Vertex, Project: "p", Location: "global"},
			model.APIGemini, "gemini-2.5-pro",
			"https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google/models/" +
				"gemini-2.5-pro:streamGenerateContent?alt=sse",
		},
		{
			model.Cloud{Kind: model.Vertex, Project: "p", Location: "us-east5"},
			model.APIAnthropic, "claude-x",
			"https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5/publishers/anthropic/models/" +
				"claude-x:streamRawPredict",
		},
		{
			model.Cloud{Kind: model.Bedrock, Region: "cn-north-1"},
			model.APIConverse, "a.b-v1:0",
			"https://bedrock-runtime.cn-north-1.amazonaws.com.cn/model/a.b-v1%3A0/converse-stream",
		},
	} {
		got, err := provider.Address(model.Endpoint{Cloud: tt.cloud, Settings: model.Settings{API: tt.api}}, tt.id)
		if err != nil || got != tt.want {
			t.Errorf("%s, %v, want %s", got, err, tt.want)
		}
	}
}
