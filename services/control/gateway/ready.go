package gateway

import (
	"io"
	"net/http"

	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
)

// readyPath is asked by whoever sends this server requests. It answers 503 from the moment the server begins to stop,
// long before /healthz does not answer.
const readyPath = "/readyz"

// ready answers GET /readyz. Why the server is not ready is for operators only.
func (h *Handler) ready(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		h.fail(w, r, flue.MethodNotAllowed(r.Method, http.MethodGet, http.MethodHead))
		return
	}
	reasons, status, text := h.Unready(), http.StatusOK, "ok\n"
	if len(reasons) > 0 {
		status, text = http.StatusServiceUnavailable, "not ready\n"
	}
	if h.isOperator(r) {
		writeJSON(w, status, map[string]any{"ready": len(reasons) == 0, "reasons": append([]string{}, reasons...)})
		return
	}
	w.Header().Set("Content-Type", plain)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

func (h *Handler) isOperator(r *http.Request) bool {
	secret := rpc.Bearer(r.Header.Get("Authorization"))
	if secret == "" {
		return false
	}
	p, err := h.Auth.Authenticate(auth.WithSource(r.Context(), rpc.SourceOf(r.RemoteAddr)), secret)
	return err == nil && auth.Authorize(p, auth.Inspect, auth.Resource{}) == nil
}
