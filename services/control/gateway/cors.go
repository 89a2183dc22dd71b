package gateway

import (
	"net/http"
	"slices"
	"strings"
)

// Headers of the Fetch standard's CORS protocol.
const (
	allowOrigin   = "Access-Control-Allow-Origin"
	requestMethod = "Access-Control-Request-Method"
)

var (
	// sharedMethods and sharedHeaders are what pages of allowed origins may use.
	sharedMethods = strings.Join([]string{http.MethodGet, http.MethodHead, http.MethodPost}, ", ")
	sharedHeaders = "Accept, Authorization, Content-Type, Idempotency-Key, Last-Event-ID"
	// exposedHeaders are those of our answers that such pages may read.
	exposedHeaders = strings.Join([]string{
		linkHeader, sessionHeader, submissionHeader, "Allow", "Retry-After",
		"WWW-Authenticate",
	}, ", ")
)

// preflightAge is how long, in seconds, browsers may remember the answer to a preflight request.
const preflightAge = "600"

// share lets the page that sent the request read the answer, if it is of an allowed origin. Credentials of browsers,
// such as cookies, are never used, so no answer allows them.
func (h *handler) share(w http.ResponseWriter, r *http.Request) {
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
