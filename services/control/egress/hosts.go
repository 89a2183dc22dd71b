package egress

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// Hosts is an allowlist of hosts. Its zero value allows none.
type Hosts struct{ entries []entry }

// entry is a host, or all hosts below a domain, or all; port "" is the scheme's own.
type entry struct {
	host string // "" is every host
	sub  bool   // the hosts below host
	port string
}

// ParseHosts reads an allowlist: `example.com` is that host, `*.example.com` every host below it, `*` every host on the
// Internet. `:PORT` allows another port than the scheme's own. An address that is not public is refused.
func ParseHosts(list []string) (Hosts, error) {
	var h Hosts
	for _, text := range list {
		e, err := parseEntry(strings.TrimSpace(text))
		if err != nil {
			return Hosts{}, fmt.Errorf("%q: %w", text, err)
		}
		if !slices.Contains(h.entries, e) {
			h.entries = append(h.entries, e)
		}
	}
	return h, nil
}

func parseEntry(text string) (e entry, err error) {
	if strings.ContainsAny(text, "/@?# ") {
		return e, fmt.Errorf("must be a host, such as example.com, *.example.com or example.com:8443")
	}
	host := text
	if h, port, err := net.SplitHostPort(text); err == nil {
		host, e.port = h, port
		if p, err := url.Parse("http://x:" + port); err != nil || p.Port() == "" {
			return e, fmt.Errorf("%q is not a port", port)
		}
	}
	if host == "*" {
		return e, nil
	}
	host, e.sub = strings.CutPrefix(host, "*.")
	if e.host, err = canonical(host); err != nil {
		return e, err
	}
	if addr, err := netip.ParseAddr(e.host); err == nil && !Public(addr) {
		return e, fmt.Errorf("%s is not a public address", addr)
	}
	return e, nil
}

// canonical is the one form of a host's name.
func canonical(host string) (string, error) {
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().String(), nil
	}
	ascii, err := idna.Lookup.ToASCII(strings.ToLower(host))
	if err != nil || ascii == "" {
		return "", fmt.Errorf("%q is not the name of a host", host)
	}
	return ascii, nil
}

// Check refuses a URL that is not http or https, that carries a password, or whose host is not on the list: ErrHost,
// whose text names the list.
func (h Hosts) Check(u *url.URL) error {
	host, err := canonical(u.Hostname())
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return ErrHost.With("%s: only http and https URLs can be fetched", u.Redacted())
	case u.User != nil:
		return ErrHost.With("%s: a URL with a user or a password is not fetched", u.Redacted())
	case err != nil:
		return ErrHost.With("%s: %v", u.Redacted(), err)
	}
	port, own := u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme]
	if port == own {
		port = ""
	}
	for _, e := range h.entries {
		named := e.host == "" || e.host == host && !e.sub || e.sub && strings.HasSuffix(host, "."+e.host)
		if named && (e.port == port || port == "" && e.port == own) {
			return nil
		}
	}
	return ErrHost.With("%s is not on the allowlist of hosts. %s", u.Host, h)
}

// String says what is allowed.
func (h Hosts) String() string {
	if len(h.entries) == 0 {
		return "The allowlist is empty: no host can be asked."
	}
	names := make([]string, len(h.entries))
	for i, e := range h.entries {
		switch names[i] = e.host; {
		case e.host == "":
			names[i] = "*"
		case e.sub:
			names[i] = "*." + e.host
		}
		if e.port != "" {
			names[i] = net.JoinHostPort(names[i], e.port)
		}
	}
	return "The allowlist has " + strings.Join(names, ", ") + "."
}

// Empty reports whether nothing is allowed.
func (h Hosts) Empty() bool { return len(h.entries) == 0 }
