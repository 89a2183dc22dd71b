package rpc

import (
	"strings"
	"testing"
)

// What Bearer finds is the end of the header, without blanks around it, after the scheme.
func FuzzBearer(f *testing.F) {
	for _, s := range []string{
		"Bearer x", "bearer  x ", "Basic x", "Bearer", "Bearer ", "Bearer\tx", "", "Bearer a b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		token := Bearer(header)
		if token == "" {
			return
		}
		if token != strings.TrimSpace(token) || !strings.HasSuffix(strings.TrimSpace(header), token) ||
			!strings.EqualFold(header[:7], "bearer ") {
			t.Errorf("%q gave %q", header, token)
		}
	})
}

// Who may reach an address is decided alike with a port and without.
func FuzzLoopback(f *testing.F) {
	for _, s := range []string{
		"localhost", "127.0.0.1", "::1", "[::1]", "0.0.0.0", "", "::ffff:127.0.0.1", "127.1", "localhost.",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if strings.ContainsAny(host, ":[]") {
			_ = Loopback(host)
			return
		}
		if Loopback(host) != Loopback(host+":80") {
			t.Errorf("%q and with a port differ", host)
		}
	})
}
