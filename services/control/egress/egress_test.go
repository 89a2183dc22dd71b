package egress

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// internet is a server that is reached whatever address is dialled: the test's dialer is below the check of addresses.
type internet struct {
	*httptest.Server
	names  map[string][]string // what a name resolves to, the first time and then the next
	asked  atomic.Int32
	dialed []string
}

func newInternet(t *testing.T, h http.HandlerFunc, names map[string][]string) *internet {
	t.Helper()
	i := &internet{Server: httptest.NewServer(h), names: names}
	t.Cleanup(i.Close)
	return i
}

func (i *internet) client() Client {
	return Client{
		Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
			answers := i.names[host]
			if len(answers) == 0 {
				return nil, &net.DNSError{Name: host, IsNotFound: true}
			}
			n := int(i.asked.Add(1)) - 1
			var out []netip.Addr
			for _, a := range strings.Split(answers[min(n, len(answers)-1)], ",") {
				out = append(out, netip.MustParseAddr(a))
			}
			return out, nil
		},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			i.dialed = append(i.dialed, address)
			return (&net.Dialer{}).DialContext(ctx, network, i.Listener.Addr().String())
		},
	}
}

func get(t *testing.T, c *http.Client, target string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

func ok(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }

func TestOnlyPublicAddressesAreDialled(t *testing.T) {
	for _, text := range []string{
		"127.0.0.1", "127.8.8.8", "::1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
		"100.100.100.200", "168.63.129.16", "0.0.0.0", "0.1.2.3", "::", "fe80::1", "fc00::1", "fd00:ec2::254",
		"::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "2001::1", "224.0.0.1",
		"255.255.255.255", "198.18.0.1", "203.0.113.9", "2001:db8::1", "ff02::1", "::127.0.0.1",
	} {
		i := newInternet(t, ok, map[string][]string{"evil.test": {text}})
		for _, target := range []string{"http://evil.test/", "http://" + net.JoinHostPort(text, "80")} {
			if body, err := get(t, i.client().HTTP(), target); !errors.Is(err, ErrAddress) {
				t.Errorf("%s: got %q, %v", target, body, err)
			}
		}
		if len(i.dialed) > 0 {
			t.Errorf("%s: dialled %v", text, i.dialed)
		}
	}
	for _, text := range []string{"1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "::ffff:8.8.8.8"} {
		i := newInternet(t, ok, map[string][]string{"good.test": {text}})
		if body, err := get(t, i.client().HTTP(), "http://good.test/"); err != nil || body != "ok" {
			t.Errorf("%s: got %q, %v", text, body, err)
		}
	}
}

// Forms of an address that some resolvers understand are names here, and resolve to what the resolver says.
func TestOddFormsOfAddressesAreNames(t *testing.T) {
	for _, host := range []string{"2130706433", "0x7f000001", "127.1", "0177.0.0.1"} {
		i := newInternet(t, ok, map[string][]string{host: {"127.0.0.1"}})
		if body, err := get(t, i.client().HTTP(), "http://"+host+"/"); !errors.Is(err, ErrAddress) {
			t.Errorf("%s: got %q, %v", host, body, err)
		}
	}
}

// A name that has resolved to a public address does not lead elsewhere afterwards.
func TestANameThatIsRebound(t *testing.T) {
	i := newInternet(t, ok, map[string][]string{"rebind.test": {"8.8.8.8", "127.0.0.1"}})
	c := i.client().HTTP()
	if _, err := get(t, c, "http://rebind.test/"); err != nil {
		t.Fatal(err)
	}
	c.CloseIdleConnections()
	if body, err := get(t, c, "http://rebind.test/"); !errors.Is(err, ErrAddress) {
		t.Errorf("got %q, %v", body, err)
	}
	if len(i.dialed) != 1 || i.dialed[0] != "8.8.8.8:80" {
		t.Errorf("dialled %v", i.dialed)
	}
}

func TestOfSeveralAddressesThePublicOnesAreDialled(t *testing.T) {
	i := newInternet(t, ok, map[string][]string{"mixed.test": {"10.0.0.1,8.8.8.8"}})
	if _, err := get(t, i.client().HTTP(), "http://mixed.test/"); err != nil {
		t.Fatal(err)
	}
	if len(i.dialed) != 1 || i.dialed[0] != "8.8.8.8:80" {
		t.Errorf("dialled %v", i.dialed)
	}
}

func TestANetworkThatTheOperatorNames(t *testing.T) {
	i := newInternet(t, ok, map[string][]string{"tools.corp": {"10.0.0.7"}, "other.corp": {"169.254.169.254"}})
	c := i.client()
	c.Networks = prefixes("10.0.0.0/24")
	if body, err := get(t, c.HTTP(), "http://tools.corp/"); err != nil || body != "ok" {
		t.Errorf("got %q, %v", body, err)
	}
	if _, err := get(t, c.HTTP(), "http://other.corp/"); !errors.Is(err, ErrAddress) {
		t.Error(err)
	}
}

// A proxy would resolve names beyond the check.
func TestProxiesOfTheEnvironmentAreIgnored(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:9")
	t.Setenv("ALL_PROXY", "http://127.0.0.1:9")
	i := newInternet(t, ok, map[string][]string{"good.test": {"8.8.8.8"}})
	if body, err := get(t, i.client().HTTP(), "http://good.test/"); err != nil || body != "ok" {
		t.Errorf("got %q, %v", body, err)
	}
}

func TestRedirects(t *testing.T) {
	to := ""
	i := newInternet(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/from" {
			http.Redirect(w, r, to, http.StatusTemporaryRedirect)
			return
		}
		_, _ = io.WriteString(w, "there")
	}, map[string][]string{"a.test": {"8.8.8.8"}, "b.test": {"8.8.4.4"}, "evil.test": {"127.0.0.1"}})
	free := i.client()
	free.Redirect = func(_, _ *url.URL) error { return nil }
	for _, c := range []struct {
		to   string
		free bool
		want error
	}{
		{"/to", false, nil},
		{"http://b.test/to", false, ErrRedirect},
		{"https://a.test/to", false, ErrRedirect},
		{"http://a.test:81/to", false, ErrRedirect},
		{"http://b.test/to", true, nil},
		{"http://evil.test/to", true, ErrAddress},
		{"http://127.0.0.1/to", true, ErrAddress},
		{"/from", true, ErrRedirect}, // for ever
	} {
		client := i.client()
		if c.free {
			client = free
		}
		to = c.to
		body, err := get(t, client.HTTP(), "http://a.test/from")
		if !errors.Is(err, c.want) || c.want == nil && body != "there" {
			t.Errorf("to %s: got %q, %v", c.to, body, err)
		}
	}
}

// A small response can be a large one when it is decompressed.
func TestBodiesAreBoundedAfterDecompression(t *testing.T) {
	const most = 1000
	i := newInternet(t, func(w http.ResponseWriter, r *http.Request) {
		n := most
		if r.URL.Path != "/fits" {
			n = 10 << 20
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write(bytes.Repeat([]byte("x"), n))
		_ = z.Close()
	}, map[string][]string{"bomb.test": {"8.8.8.8"}})
	c := i.client()
	c.MaxBody = most
	if body, err := get(t, c.HTTP(), "http://bomb.test/fits"); err != nil || len(body) != most {
		t.Errorf("got %d bytes, %v", len(body), err)
	}
	body, err := get(t, c.HTTP(), "http://bomb.test/")
	if !errors.Is(err, ErrTooLarge) || len(body) != most {
		t.Errorf("got %d bytes, %v", len(body), err)
	}
}

func TestHosts(t *testing.T) {
	h, err := ParseHosts([]string{"Example.com", "*.docs.test", "api.test:8443", "bücher.test", "8.8.8.8"})
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]bool{
		"https://example.com/x":          true,
		"http://EXAMPLE.com.":            true,
		"http://example.com:80/":         true,
		"https://example.com:443/":       true,
		"http://example.com:443/":        false,
		"http://example.com:8080":        false,
		"https://www.example.com":        false,
		"https://example.com.evil.test":  false,
		"https://example.com@evil.test":  false,
		"https://u:p@example.com":        false,
		"https://docs.test":              false,
		"https://a.docs.test":            true,
		"https://a.b.docs.test":          true,
		"https://adocs.test":             false,
		"https://api.test:8443/":         true,
		"https://api.test/":              false,
		"https://xn--bcher-kva.test/":    true,
		"https://b%C3%BCcher.test/":      true,
		"ftp://example.com/":             false,
		"file:///etc/passwd":             false,
		"http://8.8.8.8/":                true,
		"http://[::ffff:8.8.8.8]/":       true,
		"http://127.0.0.1/":              false,
		"gopher://example.com:70/_x":     false,
		"http:example.com":               false,
		"https://example.com%2eevil.com": false,
	} {
		u, err := url.Parse(target)
		if err != nil {
			if want {
				t.Error(err)
			}
			continue
		}
		if err := h.Check(u); (err == nil) != want || err != nil && !errors.Is(err, ErrHost) {
			t.Errorf("%s: %v", target, err)
		}
	}
	u, _ := url.Parse("https://other.test/")
	if err := h.Check(u); err == nil || !strings.Contains(err.Error(), "example.com, *.docs.test, api.test:8443") {
		t.Errorf("the list is not named: %v", err)
	}
	if err := (Hosts{}).Check(u); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("an empty list is not said to be: %v", err)
	}
	all, err := ParseHosts([]string{"*"})
	if err != nil || all.Check(u) != nil {
		t.Error(err, all.Check(u))
	}
	for _, bad := range []string{"", "https://example.com", "a b", "127.0.0.1", "*.", "example.com:http", "[::1]:80"} {
		if _, err := ParseHosts([]string{bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
