package gateway

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
	"github.com/pawl-dev/pawl/services/control/gateway/socket"
)

// ticketParameter is where the URL of a socket carries a ticket.
const ticketParameter = "ticket"

// call is what a request's path and sender are.
type call struct {
	vars   []string // of the path, decoded
	secret string
}

// route is a path that is neither an RPC's nor open. Which methods it serves, and for whom, says auth's table.
type route struct {
	pattern string // a variable, in braces, matches one segment
	serve   func(h *Handler, w http.ResponseWriter, r *http.Request, c call)
	// readOnly is a path of which requests that do not read match no route, as the original has it.
	readOnly bool
}

// flueDocumentPath is where the routes of Flue are described. The patterns are of what is prompted, started and read.
const (
	flueDocumentPath = "/openapi.json"
	agentPattern     = "/agents/{agent}/{instance}"
	workflowPattern  = "/workflows/{workflow}"
	runPattern       = "/runs/{run}"
	adminRunPattern  = "/admin/runs/{run}"
)

// methodOver is the method in auth's table of requests over a surface.
func methodOver(s agent.Surface) string {
	if s == agent.WebSocket {
		return socketMethod
	}
	return http.MethodPost
}

// reads reports whether a method asks for what is there.
func reads(method string) bool { return method == http.MethodGet || method == http.MethodHead }

var routes = []route{
	{pattern: agentPattern, serve: func(h *Handler, w http.ResponseWriter, r *http.Request, c call) {
		h.agent(w, r, target{agent: c.vars[0], instance: c.vars[1], secret: c.secret})
	}},
	{pattern: workflowPattern, serve: func(h *Handler, w http.ResponseWriter, r *http.Request, c call) {
		h.serveWorkflow(w, r, c.vars[0], c.secret)
	}},
	{pattern: runPattern, serve: serveRun(theRun)},
	{pattern: runPattern + "/events", serve: serveRun(theEvents)},
	{pattern: runPattern + "/stream", serve: serveRun(theStream)},
	{pattern: "/admin/openapi.json", serve: adminDocument, readOnly: true},
	{pattern: "/admin/agents", serve: adminAgents, readOnly: true},
	{pattern: "/admin/runs", serve: adminRuns, readOnly: true},
	{pattern: adminRunPattern, serve: adminRun, readOnly: true},
	{pattern: watchPath, serve: func(h *Handler, w http.ResponseWriter, r *http.Request, c call) {
		h.serveCalls(w, r, c.secret)
	}},
}

// Patterns are the paths of this package: those of routes and those that are open.
func Patterns() []string {
	all := []string{readyPath}
	for path := range openPaths {
		all = append(all, path)
	}
	for _, r := range routes {
		all = append(all, r.pattern)
	}
	slices.Sort(all)
	return all
}

// find is the route of an escaped path, nil for none. The path is split before it is decoded, so that a name may hold a
// slash, and nothing is cleaned or redirected. A segment that is malformed stays as it is.
func find(escaped string) (*route, []string) {
	parts := strings.Split(escaped, "/")
	for i := range routes {
		if vars, ok := routes[i].match(parts); ok {
			return &routes[i], vars
		}
	}
	return nil, nil
}

func (r *route) match(parts []string) (vars []string, ok bool) {
	want := strings.Split(r.pattern, "/")
	if len(parts) != len(want) {
		return nil, false
	}
	for i, part := range parts {
		switch {
		case strings.HasPrefix(want[i], "{") && part != "":
			vars = append(vars, unescape(part))
		case part != want[i]:
			return nil, false
		}
	}
	return vars, true
}

func unescape(s string) string {
	if out, err := url.PathUnescape(s); err == nil {
		return out
	}
	return s
}

// methodOf is the method of a request for a route as auth's table has it.
func (to *route) methodOf(r *http.Request) string {
	switch {
	case socket.IsUpgrade(r) && slices.Contains(auth.MethodsOf(to.pattern), "WS"):
		return "WS"
	case to.readOnly && reads(r.Method):
		return http.MethodGet
	}
	return r.Method
}

// takesTicket reports whether a request asks for a socket.
func takesTicket(r *http.Request) bool {
	to, _ := find(r.URL.EscapedPath())
	if to == nil || !socket.IsUpgrade(r) {
		return false
	}
	_, ok := auth.RuleOf("WS " + to.pattern)
	return ok
}

// enter asks auth's table about a request for a route, and counts it. A method that the table does not have is refused
// with those that it has.
func (h *Handler) enter(w http.ResponseWriter, r *http.Request, to *route) error {
	method := to.methodOf(r) + " " + to.pattern
	if _, ok := auth.RuleOf(method); !ok {
		if to.readOnly {
			return flue.RouteNotFound(r.Method, r.URL.EscapedPath())
		}
		allow := slices.DeleteFunc(auth.MethodsOf(to.pattern), func(m string) bool { return m == "WS" })
		if len(allow) == 0 { // it is a socket only
			if r.Method == http.MethodGet {
				if r.ProtoMajor == 1 { // HTTP/2 has neither header
					w.Header().Set("Upgrade", "websocket")
					w.Header().Set("Connection", "Upgrade")
				}
				return errUpgrade
			}
			allow = []string{http.MethodGet}
		}
		w.Header().Set("Allow", strings.Join(allow, ", "))
		return flue.MethodNotAllowed(r.Method, allow...)
	}
	p := auth.FromContext(r.Context())
	if err := p.Spend(); err != nil {
		return err
	}
	if err := auth.Enter(p, method); err != nil {
		return audit.Refused(r.Context(), h.Audit, eventOf(p, method, ""), err)
	}
	return nil
}

// errUpgrade refuses a request that asks for a socket's path and for no socket.
var errUpgrade = errs.New(errs.InvalidArgument, "UPGRADE_REQUIRED", "this path is a WebSocket: ask for one, with "+
	"`connection: upgrade` and `upgrade: websocket`")

// errToken refuses a URL with a token in it.
var errToken = errs.New(errs.InvalidArgument, "TOKEN_IN_URL", "a token does not belong in a URL, which proxies and "+
	"browsers keep: send it as `authorization: Bearer TOKEN`, and revoke this one")

// secretIn finds what looks like a token or a ticket.
var secretIn = regexp.MustCompile(`pawl_[a-z]+_[0-9A-Za-z]{20}`)

// checkURL refuses a URL with a token in it, on every path: whoever sends one shall hear of it at once. A ticket may be
// where it is looked for.
func checkURL(r *http.Request) error {
	if secretIn.MatchString(r.URL.Path) || secretIn.MatchString(unescape(r.URL.EscapedPath())) {
		return errToken
	}
	for key, values := range r.URL.Query() { // what is malformed is no parameter to anybody
		if key == ticketParameter && takesTicket(r) {
			ticket := func(v string) bool { return strings.HasPrefix(v, "pawl_t_") }
			values = slices.DeleteFunc(slices.Clone(values), ticket)
		}
		if secretIn.MatchString(key) || slices.ContainsFunc(values, secretIn.MatchString) {
			return errToken
		}
	}
	return nil
}
