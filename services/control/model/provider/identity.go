package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/google"

	"github.com/pawl-dev/pawl/services/control/model"
)

// identity proves to a cloud who asks. Safe for concurrent use.
type identity interface {
	// prove adds to a request's header what proves who asks. The header is the request's own. Its error is a
	// *identityError or the context's.
	prove(ctx context.Context, r *http.Request, body [][]byte) error
	// forget drops what was kept, after the server has refused it. It reports whether something else may be had now.
	forget(r *http.Request) bool
	// secrets are those that requests carry now.
	secrets() []model.Secret
}

// identityError says why nobody can be proven to ask.
type identityError struct {
	text      string
	retryable bool
}

// Error implements error.
func (e *identityError) Error() string { return e.text }

// identities are those of all clouds, so that models share their tokens.
type identities struct {
	base http.RoundTripper

	mu  sync.Mutex // guards what follows
	all map[model.Cloud]identity
}

// of is the identity with which an endpoint is called, nil when it is called with a key, or with none.
func (s *identities) of(e model.Endpoint) (identity, error) {
	if e.Cloud.Kind == "" || e.Key != "" {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if found, ok := s.all[e.Cloud]; ok {
		return found, nil
	}
	var made identity
	switch {
	case e.Cloud.Kind == model.Vertex:
		made = newBearer(s.base, googleToken)
	case e.Cloud.Kind == model.Azure && e.Cloud.Entra:
		made = newBearer(s.base, entraToken)
	case e.Cloud.Kind == model.Bedrock:
		made = &signature{region: e.Cloud.Region, profile: e.Cloud.Profile, turn: make(chan struct{}, 1)}
	default:
		return nil, nil
	}
	if s.all == nil {
		s.all = map[model.Cloud]identity{}
	}
	s.all[e.Cloud] = made // as many as the configuration has clouds
	return made, nil
}

// bearer is a token that is valid for a while.
type bearer struct {
	base  http.RoundTripper
	fetch func(ctx context.Context) (*oauth2.Token, error)
	turn  chan struct{} // has room for the one who fetches

	mu    sync.Mutex // guards what follows
	token *oauth2.Token
	last  [2]model.Secret // that were issued last: a call may still carry the one before
}

func newBearer(base http.RoundTripper, fetch func(ctx context.Context) (*oauth2.Token, error)) *bearer {
	return &bearer{base: base, fetch: fetch, turn: make(chan struct{}, 1)}
}

func (b *bearer) prove(ctx context.Context, r *http.Request, _ [][]byte) error {
	token, err := b.valid(ctx)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token.AccessToken)
	return nil
}

// valid is a token that is valid. One call fetches it, and those that come meanwhile wait.
func (b *bearer) valid(ctx context.Context) (*oauth2.Token, error) {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if token := b.kept(); token.Valid() {
		return token, nil
	}
	client := &http.Client{Transport: b.base, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	token, err := b.fetch(context.WithValue(ctx, oauth2.HTTPClient, client))
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, explained(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.token, b.last = token, [2]model.Secret{model.Secret(token.AccessToken), b.last[0]}
	return token, nil
}

func (b *bearer) kept() *oauth2.Token {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.token
}

func (b *bearer) forget(r *http.Request) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.token != nil && r.Header.Get("Authorization") == "Bearer "+b.token.AccessToken {
		b.token = nil
	}
	return true // another call may have another one already
}

func (b *bearer) secrets() []model.Secret {
	b.mu.Lock()
	defer b.mu.Unlock()
	return []model.Secret{b.last[0], b.last[1]}
}

// explained says why there is no token. What a server sends with its refusal may repeat what it was sent, so of that
// only the words are told that the standard has for people.
func explained(err error) *identityError {
	var ours *identityError
	if errors.As(err, &ours) {
		return ours
	}
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) {
		status := 0
		if refused.Response != nil {
			status = refused.Response.StatusCode
		}
		text := fmt.Sprintf("no token is issued (%d)", status)
		for _, words := range []string{refused.ErrorCode, refused.ErrorDescription} {
			if words != "" {
				text += ": " + words
			}
		}
		return &identityError{text: text, retryable: status >= http.StatusInternalServerError ||
			status == http.StatusTooManyRequests}
	}
	if isNetwork(err) {
		return &identityError{text: "the server that issues tokens is not reached", retryable: true}
	}
	return &identityError{text: "no token is issued: " + err.Error()}
}

// googleToken is one of Google's application default credentials: the file that GOOGLE_APPLICATION_CREDENTIALS names,
// what gcloud has stored, or the server on which control runs.
func googleToken(ctx context.Context) (*oauth2.Token, error) {
	found, err := google.FindDefaultCredentials(ctx, "https://www.googleapis.com/auth/cloud-platform")
	if err != nil {
		return nil, &identityError{text: "there are no application default credentials of Google Cloud: set " +
			"GOOGLE_APPLICATION_CREDENTIALS in the environment of control, or run gcloud auth application-default " +
			"login"}
	}
	return found.TokenSource.Token()
}

// entraToken is one of Microsoft Entra, for an application with a secret, or with the token that a workload is given
// as a file. The variables are those of Azure's own libraries.
func entraToken(ctx context.Context) (*oauth2.Token, error) {
	var missing []string
	need := func(name string) string {
		v := strings.TrimSpace(os.Getenv(name))
		if v == "" {
			missing = append(missing, name)
		}
		return v
	}
	tenant, client := need("AZURE_TENANT_ID"), need("AZURE_CLIENT_ID")
	c := clientcredentials.Config{
		ClientID: client, Scopes: []string{"https://cognitiveservices.azure.com/.default"},
		AuthStyle: oauth2.AuthStyleInParams,
	}
	if c.ClientSecret = os.Getenv("AZURE_CLIENT_SECRET"); c.ClientSecret == "" {
		file := os.Getenv("AZURE_FEDERATED_TOKEN_FILE")
		if file == "" {
			missing = append(missing, "AZURE_CLIENT_SECRET or AZURE_FEDERATED_TOKEN_FILE")
		} else {
			assertion, err := os.ReadFile(file) // which is replaced from time to time
			if err != nil {
				return nil, &identityError{text: "the file that AZURE_FEDERATED_TOKEN_FILE names cannot be read"}
			}
			c.EndpointParams = map[string][]string{
				"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
				"client_assertion":      {strings.TrimSpace(string(assertion))},
			}
		}
	}
	if len(missing) > 0 {
		return nil, &identityError{text: "a token of Microsoft Entra needs " + strings.Join(missing, ", ") +
			" in the environment of control"}
	}
	authority := strings.TrimRight(os.Getenv("AZURE_AUTHORITY_HOST"), "/")
	if authority == "" {
		authority = "https://login.microsoftonline.com"
	}
	c.TokenURL = authority + "/" + tenant + "/oauth2/v2.0/token"
	return c.Token(ctx)
}
