// Package gateway is the HTTP surface: prompts as JSON or as a stream of server-sent events.
//
//	request ─▶ host, origin, token ─▶ route ─▶ submission.Service ─▶ JSON, or events as they are committed
//
// It holds no rules of its own. Invariants: a client that leaves never stops the work; an error that a caller sees carries a reason and
// no internals.
package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// maxBody is the longest request body in bytes.
const maxBody = 32 << 20

// Agents is the catalogue.
type Agents interface {
	Get(name string) (agent.Definition, error)
}

// Deps are what the handler works with.
type Deps struct {
	Agents  Agents
	Service *submission.Service
	Auth    auth.Authenticator
	Hosts   []string // names beside loopback ones that requests may be addressed to
	Origins []string // browser origins that may call
	Log     *slog.Logger
}

type handler struct{ Deps }

// New makes the handler.
func New(d Deps) http.Handler { return &handler{d} }

// ServeHTTP routes on the escaped path: an instance id may hold an encoded slash.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.checkSource(r); err != nil {
		h.fail(w, r, err)
		return
	}
	if r.URL.Path == "/healthz" {
		fmt.Fprintln(w, "ok")
		return
	}
	p, err := h.Auth.Authenticate(r.Context(), rpc.Bearer(r.Header.Get("Authorization")))
	if err != nil {
		h.fail(w, r, err)
		return
	}
	r = r.WithContext(auth.NewContext(r.Context(), p))
	parts := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	if len(parts) != 3 || parts[0] != "agents" {
		h.fail(w, r, routeNotFound(r))
		return
	}
	h.prompt(w, r, unescape(parts[1]), unescape(parts[2]))
}

// unescape decodes a path segment; a malformed one stays as it is.
func unescape(s string) string {
	if out, err := url.PathUnescape(s); err == nil {
		return out
	}
	return s
}

// checkSource refuses requests that were not meant for this server (DNS rebinding) and pages of foreign origins.
func (h *handler) checkSource(r *http.Request) error {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) && !slices.Contains(h.Hosts, host) {
		return &problem{http.StatusForbidden, "forbidden_host", "This host name is not allowed.", fmt.Sprintf("Start the server with --host %s to allow it.", host), nil}
	}
	if o := r.Header.Get("Origin"); o != "" && !slices.Contains(h.Origins, o) {
		return &problem{http.StatusForbidden, "forbidden_origin", "This origin is not allowed.", fmt.Sprintf("Start the server with --origin %s to allow it.", o), nil}
	}
	return nil
}

// payload is a prompt as it is sent.
type payload struct {
	Message *string          `json:"message"`
	Session *json.RawMessage `json:"session"`
}

func (h *handler) prompt(w http.ResponseWriter, r *http.Request, name, instance string) {
	in, err := h.input(w, r, name, instance)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	f, err := h.Service.Prompt(r.Context(), in)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	defer f.Close()
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		h.stream(w, r, f, instance)
		return
	}
	for _, err := range f.Events(r.Context()) {
		if err != nil {
			h.fail(w, r, err)
			return
		}
	}
	if r.Context().Err() != nil {
		return // nobody is there to answer
	}
	h.answer(w, r, f)
}

// answer is the result of a settled submission. A repeated request reads what the first one came to.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, f *submission.Following) {
	sub := f.Submission
	if f.Replayed {
		var err error
		if sub, err = h.Service.Get(r.Context(), sub.Key.Tenant, sub.ID); err != nil {
			h.fail(w, r, err)
			return
		}
	}
	if sub.Outcome != submission.Completed {
		h.Log.Warn("a prompt did not complete", "submission_id", sub.ID, "outcome", sub.Outcome, "reason", sub.Reason, "message", sub.Message)
		h.fail(w, r, notCompleted(sub))
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"result": resultOf(sub)})
}

// input checks a request in the order that clients rely on: method, names, agent, body.
func (h *handler) input(w http.ResponseWriter, r *http.Request, name, instance string) (submission.Input, error) {
	var in submission.Input
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		return in, &problem{
			http.StatusMethodNotAllowed, "method_not_allowed",
			fmt.Sprintf("HTTP method %s is not allowed on this endpoint.", r.Method), `This endpoint accepts "POST" only.`, nil,
		}
	}
	if strings.TrimSpace(name) == "" || strings.TrimSpace(instance) == "" {
		return in, malformed("Agent URLs must have the shape /agents/<name>/<id> with non-empty segments.")
	}
	p := auth.FromContext(r.Context())
	def, err := h.Agents.Get(name)
	if err == nil && !def.Exposes(agent.HTTP) {
		err = agent.ErrNotFound
	}
	if err == nil {
		err = auth.Authorize(p, auth.Prompt, auth.Resource{Agent: name, Missing: agent.ErrNotFound})
	}
	if errors.Is(err, agent.ErrNotFound) {
		return in, &problem{http.StatusNotFound, "agent_not_found", fmt.Sprintf("Agent %q is not registered.", name), "Verify the agent name is correct.", nil}
	}
	if err != nil {
		return in, err
	}
	in = submission.Input{Key: session.Key{Tenant: p.Tenant, Agent: name, Instance: instance}, IdempotencyKey: r.Header.Get("Idempotency-Key")}
	return in, readPrompt(w, r, &in)
}

func readPrompt(w http.ResponseWriter, r *http.Request, in *submission.Input) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	var fields map[string]json.RawMessage
	var p payload
	if !json.Valid(body) {
		var discard any
		return &problem{http.StatusBadRequest, "invalid_json", "Request body is not valid JSON.", fmt.Sprintf(
			"The JSON parser reported: %v\nVerify the body is well-formed JSON, or omit the body entirely if the request doesn't have a payload.",
			json.Unmarshal(body, &discard)), nil}
	}
	if json.Unmarshal(body, &fields) != nil || fields == nil || json.Unmarshal(body, &p) != nil || p.Message == nil {
		return malformed(`Direct agent requests must use JSON object body { "message": string, "session"?: string }.`)
	}
	in.Message = *p.Message
	raw, given := fields["session"]
	if !given {
		return nil
	}
	if json.Unmarshal(raw, &in.Key.Name) != nil || strings.TrimSpace(in.Key.Name) == "" {
		return malformed(`Direct agent request "session" must be a non-empty string when provided.`)
	}
	if strings.HasPrefix(in.Key.Name, "task:") {
		return malformed(`Direct agent request "session" names beginning with "task:" are reserved for delegated tasks.`)
	}
	return nil
}

// readBody returns the body, {} for none.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	kind := r.Header.Get("Content-Type")
	if r.ContentLength == 0 || r.ContentLength < 0 && kind == "" {
		return []byte("{}"), nil
	}
	if !strings.Contains(strings.ToLower(kind), "application/json") {
		got := "No Content-Type header was sent."
		if kind != "" {
			got = fmt.Sprintf("Received Content-Type: %q.", kind)
		}
		return nil, &problem{http.StatusUnsupportedMediaType, "unsupported_media_type", "Request body must be sent as application/json.", got + "\n" +
			`Send the request body as JSON with the header "Content-Type: application/json", or omit the body entirely (and the Content-Type header) if the request doesn't have a payload.`, nil}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, &problem{http.StatusRequestEntityTooLarge, "payload_too_large", "Request body is too large.", fmt.Sprintf("The limit is %d bytes.", maxBody), nil}
	}
	if err != nil {
		return nil, &problem{http.StatusBadRequest, "invalid_json", "Request body is not valid JSON.", "The body could not be read to its end.", nil}
	}
	if strings.TrimSpace(string(body)) == "" {
		return []byte("{}"), nil
	}
	return body, nil
}
