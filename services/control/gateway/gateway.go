// Package gateway is the HTTP surface: prompts as JSON or as a stream of server-sent events, in the protocol that
// package flue speaks.
//
//	request ─▶ host, origin, token ─▶ route ─▶ submission.Service ─▶ JSON, or events as they are committed
//
// It holds no rules of its own. Invariants: a client that leaves never stops the work; an error that a caller sees
// carries a reason and no internals; without a token only /healthz, /readyz, /, the description of the API and the
// preflight requests of allowed origins are answered; no body is read before its sender is authenticated.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/bodies"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/gate"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
	"github.com/pawl-dev/pawl/services/control/gateway/openapi"
	"github.com/pawl-dev/pawl/services/control/gateway/transcode"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/submission"
	documents "github.com/pawl-dev/pawl/third_party/flue"
)

// Agents is the catalogue, as each tenant has it.
type Agents interface {
	Get(tenant, name string) (agent.Definition, error)
	Names(tenant string) []string
}

// Prompter admits and follows submissions.
type Prompter interface {
	Prompt(ctx context.Context, in submission.Input) (*submission.Following, error)
	Get(ctx context.Context, tenant, id string) (submission.Submission, error)
}

// API serves what is below /v1/ to callers that are known.
type API interface {
	http.Handler
	// Refuse answers with an error in the form of the API.
	Refuse(w http.ResponseWriter, r *http.Request, err error)
	// Call calls an operation by its name, see transcode.Handler.
	Call(ctx context.Context, secret, operation string, request []byte, send func([]byte, int64) error) error
	// Problem is an error as callers may see it, see transcode.Handler.
	Problem(ctx context.Context, err error, requestID string, failed ...any) transcode.Problem
}

// Inputs finds what models are asked with.
type Inputs interface {
	// Input is the request of a submission's first turn, with the messages of the entries before one.
	Input(ctx context.Context, s submission.Submission, before int64) (model.Request, error)
}

// Tickets are what browsers' sockets show instead of tokens.
type Tickets interface {
	// Redeem uses up a ticket and returns a secret that stands for its token in this process.
	Redeem(ctx context.Context, ticket string) (secret string, err error)
}

// Deps are what the handler works with.
type Deps struct {
	Agents    Agents
	Service   Prompter
	Workflows Workflows // nil is none
	// API serves /v1; nil serves none of it.
	API API
	// Models tells over which protocol a model is asked.
	Models Models
	// Inputs tells what models are asked with, for readers that want to see it; nil tells nobody.
	Inputs  Inputs
	Auth    auth.Authenticator
	Tickets Tickets // nil takes none
	// Audit is where prompts and what is refused are put on record; nil is nowhere. What goes through API it records.
	Audit   *audit.Log
	Hosts   []string // names beside loopback ones that requests may be addressed to
	Origins []string // browser origins beside the server's own that may call
	// Draining ends when the server begins to stop: new requests are refused then. Stopping ends when what it had to
	// finish is finished: open requests are answered then, and sockets end. nil is never.
	Draining, Stopping context.Context
	// Unready is why this server should get no requests now; nothing, or nil, if it should.
	Unready func() []string
	Log     *slog.Logger // nil is the default
}

// Models resolves models.
type Models interface {
	Model(ref model.Ref) (model.Model, error)
}

// Handler serves HTTP.
type Handler struct {
	Deps
	sockets sync.WaitGroup // open ones
	bodies  *bodies.Ledger
}

// New makes the handler.
func New(d Deps) *Handler {
	if d.Log == nil {
		d.Log = slog.Default()
	}
	if d.Stopping == nil {
		d.Stopping = context.Background()
	}
	if d.Draining == nil {
		d.Draining = context.Background()
	}
	if d.Workflows == nil {
		d.Workflows = noWorkflows{}
	}
	if d.Unready == nil {
		d.Unready = func() []string { return nil }
	}
	return &Handler{Deps: d, bodies: bodies.NewLedger()}
}

// Bodies counts what requests hold; what clients send on other ways is counted with it.
func (h *Handler) Bodies() *bodies.Ledger { return h.bodies }

// Wait returns when every socket has ended, as they do after Stopping, or when ctx ends. http.Server does not know
// them.
func (h *Handler) Wait(ctx context.Context) {
	done := make(chan struct{})
	go func() { defer close(done); h.sockets.Wait() }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// unauthenticatedLimit is how long the body of a request that is refused, or needs no token, may take to arrive. The
// server reads a small rest of such a body before it answers; it keeps none of it.
const unauthenticatedLimit = 5 * time.Second

// ServeHTTP routes on the escaped path: an instance id may hold an encoded slash, and nothing is redirected.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctl := http.NewResponseController(w)  // some connections have no deadlines
	_ = ctl.SetWriteDeadline(time.Time{}) // the connection's last answer had one
	if r.ContentLength != 0 {
		_ = ctl.SetReadDeadline(time.Now().Add(unauthenticatedLimit))
	}
	err := h.checkSource(r)
	if err == nil {
		err = checkURL(r)
	}
	if err != nil {
		w.Header().Set("Connection", "close")
		h.refuse(w, r, err)
		return
	}
	if h.share(w, r); isPreflight(r) && w.Header().Get(allowOrigin) != "" {
		answerPreflight(w)
		return
	}
	if r.URL.Path == readyPath {
		h.ready(w, r)
		return
	}
	if answer := openPaths[r.URL.Path]; answer != nil && (r.URL.Path != flueDocumentPath || reads(r.Method)) {
		h.openPath(w, r, answer)
		return
	}
	p, secret, err := h.authenticate(r)
	if err != nil {
		w.Header().Set("Connection", "close") // only callers with a token keep connections
		h.refuse(w, r, err)
		return
	}
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		gate.Prove(addr)
	}
	if h.Draining.Err() != nil {
		w.Header().Set("Connection", "close")
		h.refuse(w, r, transcode.ErrStopping)
		return
	}
	if r.ContentLength != 0 {
		_ = ctl.SetReadDeadline(time.Now().Add(bodyLimit))
	}
	held := h.bodies.Open(p.TokenID)
	defer held.Release()
	ctx := bodies.NewContext(auth.NewContext(r.Context(), p), held)
	h.contained(&response{ResponseWriter: w, held: held}, r.WithContext(ctx), secret)
}

// authenticate finds who sent a request, and a secret that stands for them: in the header Authorization, or, for a
// socket, in the ticket that its URL carries.
func (h *Handler) authenticate(r *http.Request) (p auth.Principal, secret string, err error) {
	ctx := auth.WithSource(r.Context(), rpc.SourceOf(r.RemoteAddr))
	secret = rpc.Bearer(r.Header.Get("Authorization"))
	if ticket := r.URL.Query().Get(ticketParameter); ticket != "" && h.Tickets != nil && takesTicket(r) {
		if secret, err = h.Tickets.Redeem(ctx, ticket); err != nil {
			return auth.Principal{}, "", err
		}
	}
	if p, err = h.Auth.Authenticate(ctx, secret); err != nil {
		return auth.Principal{}, "", err
	}
	p.Source = rpc.SourceOf(r.RemoteAddr)
	name := strings.Join(r.Header.Values(auth.TenantHeader), ",")
	to, err := h.Auth.As(ctx, p, name)
	if errors.Is(err, auth.ErrForbidden) {
		e := eventOf(p, r.Method+" "+r.URL.Path, "tenant="+name)
		e.Verb = string(auth.NameTenant)
		err = audit.Refused(ctx, h.Audit, e, err)
	}
	return to, secret, err
}

// contained routes a request. After a panic the client gets an error, or, when the answer has begun, loses the
// connection: it must not take for whole what is not.
func (h *Handler) contained(out *response, r *http.Request, secret string) {
	err := contain.Do(func() error { h.route(out, r, secret); return nil })
	switch {
	case err == nil && !out.begun && r.Context().Err() != nil:
		cut() // else the answer would be 200, without a body
	case err == nil:
		return
	}
	var p *contain.Panic
	if errors.As(err, &p) && p.Value == http.ErrAbortHandler {
		panic(http.ErrAbortHandler) // who cannot finish an answer has said why
	}
	if out.begun {
		h.Log.ErrorContext(r.Context(), "a request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		panic(http.ErrAbortHandler)
	}
	h.refuse(out, r, err) // logs it
}

// response knows whether the answer has begun. The request's body is not needed then.
type response struct {
	http.ResponseWriter
	held  *bodies.Account
	begun bool
}

func (r *response) begin() {
	if !r.begun {
		r.begun = true
		r.held.Release()
	}
}

// WriteHeader implements http.ResponseWriter.
func (r *response) WriteHeader(status int) {
	r.begin()
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *response) Write(b []byte) (int, error) {
	r.begin()
	return r.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (r *response) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// route answers a request of a caller that is known.
func (h *Handler) route(w http.ResponseWriter, r *http.Request, secret string) {
	if to, vars := find(r.URL.EscapedPath()); to != nil && (to.pattern != watchPath || h.isAPI(r)) {
		if err := h.enter(w, r, to); err != nil {
			h.refuse(w, r, err)
			return
		}
		to.serve(h, w, r, call{vars, secret})
		return
	}
	if h.isAPI(r) {
		h.API.ServeHTTP(w, r)
		return
	}
	h.fail(w, r, flue.RouteNotFound(r.Method, r.URL.EscapedPath()))
}

// isAPI reports whether a request is for the API, whose errors have a form of their own.
func (h *Handler) isAPI(r *http.Request) bool {
	return h.API != nil && strings.HasPrefix(r.URL.Path, "/v1/")
}

// refuse answers with an error in the form of the request's path.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if !h.isAPI(r) {
		h.fail(w, r, err)
		return
	}
	var p *flue.Error
	switch {
	case !errors.As(err, &p):
	case p.Status == http.StatusMethodNotAllowed:
		err = errs.New(errs.Unimplemented, strings.ToUpper(p.Type), p.Message+" "+p.Details)
	case p.Status == http.StatusBadRequest:
		err = errs.New(errs.InvalidArgument, strings.ToUpper(p.Type), p.Message+" "+p.Details)
	default:
		err = errs.New(errs.PermissionDenied, strings.ToUpper(p.Type), p.Message+" "+p.Details)
	}
	h.API.Refuse(w, r, err)
}

// openPaths are served without a token. They say nothing of this installation.
var openPaths = map[string]func() (kind string, body []byte, err error){
	"/healthz":         func() (string, []byte, error) { return plain, []byte("ok\n"), nil },
	"/":                func() (string, []byte, error) { return plain, []byte(welcome), nil },
	flueDocumentPath:   func() (string, []byte, error) { return document, documents.Public, nil },
	"/v1/docs":         func() (string, []byte, error) { b, err := openapi.Page(); return htmlPage, b, err },
	"/v1/openapi.json": func() (string, []byte, error) { b, err := openapi.Document(); return document, b, err },
}

const (
	plain    = "text/plain; charset=utf-8"
	htmlPage = "text/html; charset=utf-8"
	document = "application/json"

	welcome = `This is Pawl, a control plane for AI agents.

Prompt an agent, with a token:
  curl THIS_URL/agents/NAME/INSTANCE -H "Authorization: Bearer $TOKEN" \
      -H "Content-Type: application/json" -d '{"message": "hello"}'

With "Accept: text/event-stream" the answer is a stream of events. The response header Link names the path where the
session's events can be read again, and Pawl-Session and Pawl-Submission hold the ids.

GET /v1/docs describes the API below /v1, and GET /v1/openapi.json does it for programs. GET /openapi.json describes
the other routes, which are those of Flue 0.10.2.
GET /healthz answers "ok" while the server runs, and GET /readyz while it should get requests.
`
)

func (h *Handler) openPath(w http.ResponseWriter, r *http.Request, content func() (string, []byte, error)) {
	w.Header().Set("Connection", "close")
	if !reads(r.Method) {
		w.Header().Set("Allow", "GET, HEAD")
		h.fail(w, r, flue.MethodNotAllowed(r.Method, http.MethodGet, http.MethodHead))
		return
	}
	kind, body, err := content()
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	_, _ = w.Write(body)
}
