package hub

import (
	"cmp"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"sync"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/mcpclient"
	"github.com/pawl-dev/pawl/services/control/egress"
	"github.com/pawl-dev/pawl/services/control/mcp"
)

// Bounds of responses.
const (
	maxBody      = mcpclient.MaxMessage + 1<<20
	maxErrorBody = 64 << 10
	maxEvent     = maxBody
	maxRetries   = 2 // of a stream that broke, to read on where it was
)

// errToken is that no access token can be had. What the token's server says is not repeated: it may hold secrets.
var errToken = errs.New(errs.Unavailable, "MCP_TOKEN", "no access token can be had")

// connect makes a session with a server whose variables are in place.
func (h *Hub) connect(
	ctx context.Context, d mcp.Definition, t *tokens,
) (conn *mcpclient.Conn, closeIdle func(), err error) {
	client := h.deps.Client
	client.Networks, client.Redirect, client.MaxBody = d.HTTP.Networks, nil, 0
	over := client.HTTP()
	closeIdle = over.CloseIdleConnections
	over.Transport = newCarrier(over.Transport, *d.HTTP, t)
	transport := &sdk.StreamableClientTransport{
		Endpoint: d.HTTP.URL, HTTPClient: over, MaxRetries: maxRetries, MaxEventSize: maxEvent,
	}
	conn, err = mcpclient.Connect(ctx, transport, mcpclient.Options{
		Version: h.deps.Version, Tracked: true, Held: h.held,
	})
	if err != nil {
		closeIdle()
		return nil, nil, err
	}
	return conn, closeIdle, nil
}

// carrier adds what a server wants to have with each request, and bounds what it answers.
type carrier struct {
	next   http.RoundTripper
	http   mcp.HTTP
	tokens *tokens
	beside chan struct{} // a place for each message under way that is no request of ours
}

// maxBeside bounds the messages to a server that are under way beside requests: answers to what it asks. Those beyond
// are not sent.
const maxBeside = 32

var errBeside = errors.New("the server does not take what it is told")

func newCarrier(next http.RoundTripper, h mcp.HTTP, t *tokens) *carrier {
	return &carrier{next: next, http: h, tokens: t, beside: make(chan struct{}, maxBeside)}
}

// RoundTrip implements http.RoundTripper.
func (c *carrier) RoundTrip(req *http.Request) (*http.Response, error) {
	res, used, err := c.once(req)
	if err != nil || res.StatusCode != http.StatusUnauthorized || c.tokens == nil ||
		req.Body != nil && req.GetBody == nil {
		return res, err
	}
	// The server has not acted: its answer to a token that it does not take any more is to ask for another one.
	c.tokens.refused(used)
	if err := res.Body.Close(); err != nil {
		return nil, err
	}
	again := req.Clone(req.Context())
	if req.GetBody != nil {
		if again.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	res, _, err = c.once(again)
	return res, err
}

func (c *carrier) once(req *http.Request) (res *http.Response, token string, err error) {
	ctx := req.Context()
	out := req.Clone(mcpclient.Sent(ctx))
	for name, value := range c.http.Headers {
		out.Header.Set(name, value)
	}
	switch {
	case c.http.Bearer != "":
		out.Header.Set("Authorization", "Bearer "+c.http.Bearer)
	case c.tokens != nil:
		if token, err = c.tokens.token(ctx); err != nil {
			return nil, "", err
		}
		out.Header.Set("Authorization", "Bearer "+token)
	}
	if res, err = c.begin(out); err != nil {
		return nil, "", err
	}
	if err := mcpclient.Answer(ctx, res, req.Method); err != nil {
		return nil, "", err
	}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	switch {
	case res.StatusCode/100 != 2:
		res.Body = egress.Limit(res.Body, maxErrorBody)
	case kind == "text/event-stream":
		res.Body = mcpclient.Throttle(res.Body)
	default:
		res.Body = egress.Limit(res.Body, maxBody)
	}
	return res, token, nil
}

// headTimeout bounds the wait for the head of a response that has no request of the protocol behind it. The library
// waits for that of the stream of notifications before it has a session, whatever happens to who asked.
const headTimeout = 10 * time.Second

func (c *carrier) begin(req *http.Request) (*http.Response, error) {
	switch requested := mcpclient.Requested(req.Context()); {
	case requested && req.Method == http.MethodPost:
		return c.next.RoundTrip(req)
	case !requested:
		select {
		case c.beside <- struct{}{}:
			defer func() { <-c.beside }()
		default:
			return nil, errBeside
		}
	}
	ctx, cancel := context.WithCancel(req.Context())
	late := time.AfterFunc(headTimeout, cancel)
	res, err := c.next.RoundTrip(req.WithContext(ctx))
	if err != nil || !late.Stop() {
		cancel()
		return res, cmp.Or(err, context.Cause(ctx))
	}
	res.Body = &owned{res.Body, cancel}
	return res, nil
}

// owned is a body with the context that it is read in.
type owned struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (o *owned) Close() error {
	defer o.cancel()
	return o.ReadCloser.Close()
}

// tokenTimeout bounds the wait for an access token. It is less than connectTimeout, so that what is told is the token.
const tokenTimeout = 8 * time.Second

// tokensKept is how many of the last access tokens are redacted: a call may be under way with an earlier one.
const tokensKept = 32

// tokens are access tokens that the grant of client credentials gives. One at a time is asked for, for all who wait.
type tokens struct {
	config clientcredentials.Config
	client *http.Client
	life   context.Context // of who has them

	mu    sync.Mutex // guards what follows
	last  *oauth2.Token
	next  *nextToken // nil while none is asked for
	given []string   // the last ones
}

// nextToken is a token that is asked for.
type nextToken struct {
	came  chan struct{} // closed when what follows is known
	token string
	err   error
}

func newTokens(life context.Context, client egress.Client, h *mcp.HTTP) *tokens {
	if h.OAuth == nil {
		return nil
	}
	client.Networks, client.Redirect, client.MaxBody = h.Networks, nil, maxErrorBody
	return &tokens{life: life, client: client.HTTP(), config: clientcredentials.Config{
		ClientID: h.OAuth.ID, ClientSecret: h.OAuth.Secret, TokenURL: h.OAuth.TokenURL, Scopes: h.OAuth.Scopes,
	}}
}

// token is a token that is good, as far as is known. What is asked for goes on when ctx ends: others wait for it.
func (t *tokens) token(ctx context.Context) (string, error) {
	t.mu.Lock()
	if t.last.Valid() {
		defer t.mu.Unlock()
		return t.last.AccessToken, nil
	}
	next := t.next
	if next == nil {
		next = &nextToken{came: make(chan struct{})}
		t.next = next
		go t.ask(next)
	}
	t.mu.Unlock()
	select {
	case <-next.came:
		return next.token, next.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// ask asks the token's server, for a bounded time.
func (t *tokens) ask(next *nextToken) {
	ctx, cancel := context.WithTimeout(t.life, tokenTimeout)
	defer cancel()
	fresh, err := t.config.Token(context.WithValue(ctx, oauth2.HTTPClient, t.client))
	t.mu.Lock()
	defer t.mu.Unlock()
	defer close(next.came)
	t.next = nil
	if err != nil {
		next.err = noToken(ctx, err)
		return
	}
	t.last, next.token = fresh, fresh.AccessToken
	t.given = append(t.given, fresh.AccessToken)
	t.given = t.given[max(0, len(t.given)-tokensKept):]
}

func noToken(ctx context.Context, err error) error {
	var refused *oauth2.RetrieveError
	switch refusal, told := errs.Public(err); {
	case errors.As(err, &refused) && refused.Response != nil:
		return errToken.With("no access token can be had: the token's server answered with status %d %s",
			refused.Response.StatusCode, http.StatusText(refused.Response.StatusCode))
	case told:
		return errToken.With("no access token can be had: %v", refusal)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errToken.With("no access token can be had: the token's server did not answer within %s", tokenTimeout)
	}
	return errToken.With("no access token can be had: the token's server cannot be reached")
}

// secrets are the tokens that a server may repeat.
func (t *tokens) secrets() []string {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.given)
}

// refused forgets a token that the server does not take.
func (t *tokens) refused(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last != nil && t.last.AccessToken == token {
		t.last = nil
	}
}
