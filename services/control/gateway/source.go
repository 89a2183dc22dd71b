package gateway

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
)

// checkSource refuses requests that were not meant for this server (DNS rebinding) and those of pages of other origins.
func (h *handler) checkSource(r *http.Request) error {
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
