package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/google"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/control/model"
)

// fetch gets a token. sent are the secrets that were sent for it, which a refusal may repeat.
type fetch func(ctx context.Context) (token *oauth2.Token, sent []model.Secret, err error)

// bearer is a token that is valid for a while.
type bearer struct {
	base  http.RoundTripper
	fetch fetch

	mu       sync.Mutex // guards what follows
	token    *oauth2.Token
	fetching *fetching
	last     [2]model.Secret // that were issued last: a call may still carry the one before
}

// fetching is a token that is being fetched.
type fetching struct {
	done chan struct{} // closed when token or err is set
	late chan struct{} // closed when it has taken too long

	token *oauth2.Token
	err   error
}

func newBearer(base http.RoundTripper, f fetch) *bearer { return &bearer{base: base, fetch: f} }

func (b *bearer) prove(ctx context.Context, r *http.Request, _ [][]byte) error {
	token, f := b.valid(ctx)
	if f != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.late:
			return &identityError{text: "the server that issues tokens does not answer", retryable: true}
		case <-f.done:
		}
		if token = f.token; f.err != nil {
			return f.err
		}
	}
	r.Header.Set("Authorization", "Bearer "+token.AccessToken)
	return nil
}

// valid is a token that is valid, or that one is being fetched. Whoever needs it waits for it, and nobody who leaves
// ends the fetching.
func (b *bearer) valid(ctx context.Context) (*oauth2.Token, *fetching) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.token.Valid():
		return b.token, nil
	case b.fetching != nil:
		return nil, b.fetching
	}
	f := &fetching{done: make(chan struct{}), late: make(chan struct{})}
	b.fetching = f
	bounded, cancel := context.WithCancel(context.WithoutCancel(ctx))
	late := time.AfterFunc(issueWait, func() {
		close(f.late)
		cancel()
	})
	go func() {
		defer cancel()
		defer late.Stop()
		b.renew(bounded, f)
	}()
	return nil, f
}

// renew fetches a token. Not every source of tokens heeds ctx, so nobody waits for it who has waited for long.
func (b *bearer) renew(ctx context.Context, f *fetching) {
	client := &http.Client{Transport: b.base, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	var token *oauth2.Token
	var sent []model.Secret
	err := contain.Do(func() (err error) {
		token, sent, err = b.fetch(context.WithValue(ctx, oauth2.HTTPClient, client))
		return err
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		f.err = explained(err, sent)
	} else {
		f.token = token
		b.token, b.last = token, [2]model.Secret{model.Secret(token.AccessToken), b.last[0]}
	}
	b.fetching = nil
	close(f.done)
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
// only the words are told that the standard has for people, without what was sent.
func explained(err error, sent []model.Secret) *identityError {
	var ours *identityError
	if errors.As(err, &ours) {
		return ours
	}
	text, status := "no token is issued", 0
	var refused *oauth2.RetrieveError
	said := issuers().FindStringSubmatch(err.Error())
	switch {
	case contain.Is(err):
		return &identityError{text: text + ": the code that asks for it failed"}
	case errors.As(err, &refused):
		if refused.Response != nil {
			status = refused.Response.StatusCode
		}
		text += fmt.Sprintf(" (%d)", status) + words(refused)
	case isNetwork(err):
		return &identityError{text: "the server that issues tokens is not reached", retryable: true}
	case said != nil: // of a server whose answer the library has put into its text
		status, _ = strconv.Atoi(said[1])
		text += fmt.Sprintf(" (%d)", status)
	default:
		text += ": " + err.Error()
	}
	return &identityError{
		text: model.Redactor{}.With(sent...).Clean(text),
		retryable: status >= http.StatusInternalServerError || status == http.StatusTooManyRequests ||
			status == http.StatusRequestTimeout,
	}
}

// issuers are the texts in which libraries quote the answer of a server that issues tokens.
var issuers = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?:status code|Received) (\d{3})\b`) })

// words are those of a refusal that are for people.
func words(refused *oauth2.RetrieveError) (text string) {
	said := struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}{refused.ErrorCode, refused.ErrorDescription}
	if said.Code == "" { // not every source of tokens reads them
		_ = json.Unmarshal(refused.Body, &said) // what is none has no words
	}
	for _, part := range []string{said.Code, said.Description} {
		if part != "" {
			text += ": " + part
		}
	}
	return text
}

// googleToken is one of Google's application default credentials: the file that GOOGLE_APPLICATION_CREDENTIALS names,
// what gcloud has stored, or the server on which control runs.
func googleToken(ctx context.Context) (*oauth2.Token, []model.Secret, error) {
	found, err := google.FindDefaultCredentials(ctx, "https://www.googleapis.com/auth/cloud-platform")
	if err != nil {
		return nil, nil, &identityError{text: "there are no application default credentials of Google Cloud: set " +
			"GOOGLE_APPLICATION_CREDENTIALS in the environment of control, or run gcloud auth application-default " +
			"login"}
	}
	var file struct {
		ClientSecret model.Secret `json:"client_secret"`
		RefreshToken model.Secret `json:"refresh_token"`
	}
	_ = json.Unmarshal(found.JSON, &file) // a machine has no file
	token, err := found.TokenSource.Token()
	return token, []model.Secret{file.ClientSecret, file.RefreshToken}, err
}

// entraToken is one of Microsoft Entra, for an application with a secret, or with the token that a workload is given
// as a file. The variables are those of Azure's own libraries.
func entraToken(ctx context.Context) (*oauth2.Token, []model.Secret, error) {
	var missing []string
	need := func(name string) string {
		v := strings.TrimSpace(os.Getenv(name))
		if v == "" {
			missing = append(missing, name)
		}
		return v
	}
	var assertion []byte
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
			var err error
			if assertion, err = os.ReadFile(file); err != nil { // which is replaced from time to time
				return nil, nil, &identityError{text: "the file that AZURE_FEDERATED_TOKEN_FILE names cannot be read"}
			}
			c.EndpointParams = map[string][]string{
				"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
				"client_assertion":      {strings.TrimSpace(string(assertion))},
			}
		}
	}
	if len(missing) > 0 {
		return nil, nil, &identityError{text: "a token of Microsoft Entra needs " + strings.Join(missing, ", ") +
			" in the environment of control"}
	}
	authority := strings.TrimRight(os.Getenv("AZURE_AUTHORITY_HOST"), "/")
	if authority == "" {
		authority = "https://login.microsoftonline.com"
	}
	c.TokenURL = authority + "/" + tenant + "/oauth2/v2.0/token"
	token, err := c.Token(ctx)
	return token, []model.Secret{model.Secret(c.ClientSecret), model.Secret(strings.TrimSpace(string(assertion)))}, err
}
