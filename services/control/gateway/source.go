package gateway

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
	"github.com/pawl-dev/pawl/services/control/gateway/transcode"
)

// checkSource refuses requests that were not meant for this server (DNS rebinding) and those of pages of other origins.
func (h *Handler) checkSource(r *http.Request) error {
	host := hostname(r.Host)
	if host == "" {
		return &flue.Error{
			Status: http.StatusBadRequest, Type: "host_missing", Message: "The request names no host.",
			Details: "Send the header Host, as HTTP/1.1 does.",
		}
	}
	if !rpc.Loopback(host) && !slices.ContainsFunc(h.Hosts,
		func(one string) bool { return strings.EqualFold(hostname(one), host) }) {
		return &flue.Error{
			Status: http.StatusForbidden, Type: "forbidden_host", Message: "This host name is not allowed.",
			Details: fmt.Sprintf("Start the server with --host %s to allow it.", host),
		}
	}
	origins := r.Header.Values("Origin")
	for _, o := range origins {
		if !sameOrigin(o, r.Host) && !slices.Contains(h.Origins, o) {
			return &flue.Error{
				Status: http.StatusForbidden, Type: "forbidden_origin", Message: "This origin is not allowed.",
				Details: fmt.Sprintf("Start the server with --origin %s to allow it.", o),
			}
		}
	}
	return nil
}

// hostname is the name in host or host:port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(strings.Trim(host, "[]"), ".")
}

// sameOrigin reports whether a page was served under the host that it calls. The scheme says nothing: a proxy may end
// TLS.
func sameOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && strings.EqualFold(u.Host, host)
}

// Headers of the Fetch standard's CORS protocol.
const (
	allowOrigin   = "Access-Control-Allow-Origin"
	requestMethod = "Access-Control-Request-Method"
)

var (
	// sharedMethods and sharedHeaders are what pages of allowed origins may use.
	sharedMethods = strings.Join([]string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete,
	}, ", ")
	sharedHeaders = strings.Join([]string{
		"Accept", "Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID",
		"Range", transcode.OnBehalfOfHeader, transcode.RequestIDHeader, auth.TenantHeader, whenBusyHeader,
	}, ", ")
	// exposedHeaders are those of our answers that such pages may read.
	exposedHeaders = strings.Join([]string{
		linkHeader, sessionHeader, submissionHeader, runHeader, transcode.RequestIDHeader, "Allow", "Content-Range",
		"ETag", "Retry-After", "WWW-Authenticate",
	}, ", ")
)

// preflightAge is how long, in seconds, browsers may remember the answer to a preflight request.
const preflightAge = "600"

// share lets the page that sent the request read the answer, if it is of an allowed origin. Credentials of browsers,
// such as cookies, are never used, so no answer allows them.
func (h *Handler) share(w http.ResponseWriter, r *http.Request) {
	if len(h.Origins) == 0 {
		return
	}
	head := w.Header()
	head.Add("Vary", "Origin")
	if origin := r.Header.Get("Origin"); slices.Contains(h.Origins, origin) {
		head.Set(allowOrigin, origin)
		head.Set("Access-Control-Expose-Headers", exposedHeaders)
	}
}

// isPreflight reports whether a browser asks what a page may send. Such a request never carries a token.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get(requestMethod) != ""
}

func answerPreflight(w http.ResponseWriter) {
	head := w.Header()
	head.Add("Vary", requestMethod)
	head.Add("Vary", "Access-Control-Request-Headers")
	head.Set("Access-Control-Allow-Methods", sharedMethods)
	head.Set("Access-Control-Allow-Headers", sharedHeaders)
	head.Set("Access-Control-Max-Age", preflightAge)
	w.WriteHeader(http.StatusNoContent)
}
