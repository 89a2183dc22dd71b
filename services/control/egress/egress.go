// Package egress is the way out: HTTP requests that control makes to hosts which agents, or the servers that they use,
// have a say in.
//
//	request ──▶ Hosts: may this host be asked? ──▶ resolve ──▶ Networks: may this address be reached? ──▶ dial
//	              ▲                                                                                         │
//	              └── every redirect ◀──────────────────────── response, of bounded size and time ◀─────────┘
//
// Control runs beside databases, metadata services and other people's machines. A name that an agent gives, or that a
// server redirects to, must not lead there. So the address is checked that is dialled, after the name was resolved: a
// name that resolves to another address the second time (DNS rebinding) changes nothing. Only public addresses are
// dialled, and those of networks that the operator has named for this client.
//
// Proxies of the environment (HTTP_PROXY and the like) are ignored: a proxy would resolve names by itself, beyond the
// check of addresses.
package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
)

// Refusals. Their texts name what was refused and are meant for models and operators.
var (
	ErrHost     = errs.New(errs.PermissionDenied, "EGRESS_HOST", "the host is not allowed")
	ErrAddress  = errs.New(errs.PermissionDenied, "EGRESS_ADDRESS", "the address is not public")
	ErrRedirect = errs.New(errs.PermissionDenied, "EGRESS_REDIRECT", "the redirect is not allowed")
	ErrTooLarge = errs.New(errs.ResourceExhausted, "EGRESS_TOO_LARGE", "the response is too large")
)

// Bounds of one connection and of what comes before a body.
const (
	dialTimeout  = 10 * time.Second // of a resolution, and of the attempt at one address
	maxHeader    = 64 << 10
	maxRedirects = 5
	maxAddresses = 16 // of a name that are tried
)

// Client makes HTTP clients. Its zero value reaches public addresses only.
type Client struct {
	// Networks may be reached although they are not public.
	Networks []netip.Prefix
	// Redirect refuses to go from one URL to another with an error. nil refuses every change of scheme, host or port.
	Redirect func(from, to *url.URL) error
	// MaxBody bounds the bytes of a response's body after decompression; 0 is no bound, for streams.
	MaxBody int64
	// Fresh gives every request a connection of its own. Over one that was used before, the library sends a request a
	// second time when the connection ends before the answer.
	Fresh bool

	// Resolve finds the addresses of a name; nil asks the system.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Dial connects to an address, ip:port, that was checked; nil is the system's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// HTTP is a client with connections of its own. It has no timeout: the contexts of requests end them. CloseIdle
// connections when it is not needed any more.
func (c Client) HTTP() *http.Client {
	if c.Resolve == nil {
		c.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	redirect := c.Redirect
	if redirect == nil {
		redirect = SameOrigin
	}
	return &http.Client{
		Transport: &bounded{most: c.MaxBody, next: &http.Transport{
			DialContext: c.dial, ForceAttemptHTTP2: true, TLSHandshakeTimeout: dialTimeout,
			IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxHeader, MaxIdleConnsPerHost: 8,
			DisableKeepAlives: c.Fresh,
		}},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return ErrRedirect.With("%s was reached over %d redirects, %d are followed", req.URL.Redacted(),
					len(via), maxRedirects)
			}
			return redirect(via[len(via)-1].URL, req.URL)
		},
	}
}

// SameOrigin refuses to leave the scheme, host and port of a URL.
func SameOrigin(from, to *url.URL) error {
	if from.Scheme != to.Scheme || from.Host != to.Host {
		return ErrRedirect.With("%s redirects to %s, and redirects to another host are not followed; configure the "+
			"URL that it should be", from.Redacted(), to.Redacted())
	}
	return nil
}

// dial resolves a name and connects to the first of its addresses that may be reached and answers.
func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addrs, err := c.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	var all []error
	for _, addr := range addrs[:min(len(addrs), maxAddresses)] {
		if !c.allows(addr) {
			all = append(all, ErrAddress.With("%s is at %s, which is not a public address", host, addr))
			continue
		}
		attempt, cancel := context.WithTimeout(ctx, dialTimeout)
		conn, err := c.Dial(attempt, network, net.JoinHostPort(addr.String(), port))
		cancel()
		if err == nil {
			return conn, nil
		}
		all = append(all, err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	return nil, errors.Join(all...)
}

func (c *Client) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr.Unmap()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	addrs, err := c.Resolve(ctx, host)
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, err
}

func (c *Client) allows(addr netip.Addr) bool {
	if Public(addr) {
		return true
	}
	for _, n := range c.Networks {
		if addr.Zone() == "" && n.Contains(addr) {
			return true
		}
	}
	return false
}

// reserved are the networks among global unicast addresses that are not the Internet's: private, shared, of
// documentation and benchmarks, of protocols, and those that carry an IPv4 address within.
var reserved = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16",
	"192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
	"2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
)

// unicast is the part of IPv6 that is given out for the Internet.
var unicast = netip.MustParsePrefix("2000::/3")

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		out[i] = netip.MustParsePrefix(t)
	}
	return out
}

// Public reports whether an address is one of the Internet's: no loopback, private, link-local, multicast or reserved
// one, and none of a cloud's services for its machines.
func Public(addr netip.Addr) bool {
	if addr = addr.Unmap(); !addr.IsValid() || addr.Zone() != "" || addr.Is6() && !unicast.Contains(addr) {
		return false
	}
	for _, n := range reserved {
		if n.Contains(addr) {
			return false
		}
	}
	return true
}
