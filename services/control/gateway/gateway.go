// Package gateway is the HTTP surface: prompts as JSON or as a stream of server-sent events, in the protocol that package flue speaks.
//
//	request ─▶ host, origin, token ─▶ route ─▶ submission.Service ─▶ JSON, or events as they are committed
//
// It holds no rules of its own. Invariants: a client that leaves never stops the work; an error that a caller sees carries a reason and
// no internals; nothing but /healthz answers without a token.
package gateway

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// errStopping ends what is under way when the server stops. The work goes on: here after a restart, or at another replica.
var errStopping = errs.New(errs.Unavailable, "SERVER_STOPPING", "the server is stopping; the work goes on, repeat the request with the same Idempotency-Key to follow it")

// Agents is the catalogue.
type Agents interface {
	Get(name string) (agent.Definition, error)
	Names() []string
}

// Prompter admits and follows submissions.
type Prompter interface {
	Prompt(ctx context.Context, in submission.Input) (*submission.Following, error)
	Get(ctx context.Context, tenant, id string) (submission.Submission, error)
}

// Deps are what the handler works with.
type Deps struct {
	Agents  Agents
	Service Prompter
	// Sessions is what /v1/sessions answers from; nil serves none of it.
	Sessions pawlv1.SessionServiceServer
	Auth     auth.Authenticator
	Hosts    []string // names beside loopback ones that requests may be addressed to
	Origins  []string // browser origins beside the server's own that may call
	// Stopping ends when the server stops; open requests are then answered. nil is never.
	Stopping context.Context
	Log      *slog.Logger // nil is the default
}

type handler struct{ Deps }

// New makes the handler.
func New(d Deps) http.Handler {
	if d.Log == nil {
		d.Log = slog.Default()
	}
	if d.Stopping == nil {
		d.Stopping = context.Background()
	}
	return &handler{d}
}

// ServeHTTP routes on the escaped path: an instance id may hold an encoded slash, and nothing is redirected.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctl := http.NewResponseController(w)  // some connections have no deadlines
	_ = ctl.SetWriteDeadline(time.Time{}) // the connection's last answer had one
	if r.ContentLength != 0 {
		_ = ctl.SetReadDeadline(time.Now().Add(bodyLimit)) // also for what is refused and has to be read all the same
	}
	if err := h.checkSource(r); err != nil {
		h.fail(w, r, err)
		return
	}
	if r.URL.Path == "/healthz" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "ok\n")
		return
	}
	secret := rpc.Bearer(r.Header.Get("Authorization"))
	p, err := h.Auth.Authenticate(r.Context(), secret)
	if err != nil {
		refuse := h.fail
		if strings.HasPrefix(r.URL.Path, "/v1/") {
			refuse = h.refuse
		}
		refuse(w, r, err)
		return
	}
	r = r.WithContext(auth.NewContext(r.Context(), p))
	if name, instance, ok := agentPath(r.URL.EscapedPath()); ok {
		h.agent(w, r, target{name, instance, secret})
		return
	}
	if id, ok := eventsPath(r.URL.Path); ok && h.Sessions != nil {
		h.watch(w, r, id, secret)
		return
	}
	h.fail(w, r, flue.RouteNotFound(r.Method, r.URL.Path))
}

// agentPath reads /agents/{agent}/{instance}. A segment that is malformed stays as it is.
func agentPath(escaped string) (name, instance string, ok bool) {
	rest, ok := strings.CutPrefix(escaped, "/agents/")
	if !ok {
		return "", "", false
	}
	name, instance, ok = strings.Cut(rest, "/")
	if !ok || name == "" || instance == "" || strings.Contains(instance, "/") {
		return "", "", false
	}
	return unescape(name), unescape(instance), true
}

func unescape(s string) string {
	if out, err := url.PathUnescape(s); err == nil {
		return out
	}
	return s
}
