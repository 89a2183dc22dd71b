package gateway

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
)

// readyPath is asked by whoever sends this server requests. It answers 503 from the moment the server begins to stop,
// long before /healthz does not answer.
const readyPath = "/readyz"

// DatabaseSilent is the reason of a server that should get no requests because its database does not answer.
const DatabaseSilent = "the database does not answer"

// readyLimit is how long the look-up of a token may take to tell why the server is not ready: less than those wait who
// ask.
const readyLimit = time.Second

// ready answers GET /readyz. Why the server is not ready is for operators only. Whoever shows a token that cannot be
// looked up is told that: it is why.
func (h *Handler) ready(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		h.fail(w, r, flue.MethodNotAllowed(r.Method, http.MethodGet, http.MethodHead))
		return
	}
	operator, err := h.isOperator(r)
	reasons, status, text := h.Unready(), http.StatusOK, "ok\n"
	if err != nil {
		reasons = []string{DatabaseSilent}
	}
	if len(reasons) > 0 {
		status, text = http.StatusServiceUnavailable, "not ready\n"
	}
	if operator || err != nil {
		writeJSON(w, status, map[string]any{"ready": len(reasons) == 0, "reasons": append([]string{}, reasons...)})
		return
	}
	w.Header().Set("Content-Type", plain)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// isOperator reports whether the sender may know why the server is not ready. Fails when the token cannot be looked up.
func (h *Handler) isOperator(r *http.Request) (bool, error) {
	secret := rpc.Bearer(r.Header.Get("Authorization"))
	if secret == "" {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(auth.WithSource(r.Context(), rpc.SourceOf(r.RemoteAddr)), readyLimit)
	defer cancel()
	p, err := h.Auth.Authenticate(ctx, secret)
	if e, public := errs.Public(err); public && !errs.Temporary(e) {
		return false, nil // the token was refused
	}
	return err == nil && auth.Authorize(p, auth.Inspect, auth.Resource{}) == nil, err
}
