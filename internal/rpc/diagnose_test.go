package rpc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/pawl-dev/pawl/internal/rpc"
)

// certificate makes one, signed by itself, and who trusts it.
func certificate(t *testing.T, host string, from, to time.Time) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	like := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pawl"}, NotBefore: from, NotAfter: to,
		BasicConstraintsValid: true, IsCA: true,
	}
	if ip := net.ParseIP(host); ip != nil {
		like.IPAddresses = []net.IP{ip}
	} else {
		like.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, like, like, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// serveGRPC serves gRPC, over TLS unless cfg is nil.
func serveGRPC(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	l := listen(t)
	var opts []grpc.ServerOption
	if cfg != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(cfg)))
	}
	s := grpc.NewServer(opts...)
	go s.Serve(l) //nolint:errcheck // ends with Stop
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

// serveHTTP serves HTTP, over TLS unless cfg is nil.
func serveHTTP(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	l := listen(t)
	s := &http.Server{TLSConfig: cfg.Clone(), ReadHeaderTimeout: time.Minute, ErrorLog: nil}
	if cfg == nil {
		go s.Serve(l) //nolint:errcheck // ends with Close
	} else {
		go s.ServeTLS(l, "", "") //nolint:errcheck // ends with Close
	}
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

// What is wrong with an address is said with what to do about it.
func TestDiagnose(t *testing.T) {
	now := time.Now()
	good, trust := certificate(t, "127.0.0.1", now.Add(-time.Hour), now.Add(time.Hour))
	named, trustNamed := certificate(t, "pawl.example", now.Add(-time.Hour), now.Add(time.Hour))
	old, trustOld := certificate(t, "127.0.0.1", now.Add(-2*time.Hour), now.Add(-time.Hour))
	early, trustEarly := certificate(t, "127.0.0.1", now.Add(time.Hour), now.Add(2*time.Hour))
	trusting := func(pool *x509.CertPool) *tls.Config {
		return &tls.Config{
			RootCAs:    pool,
			MinVersion: tls.VersionTLS12,
		}
	}
	closed := listen(t)
	_ = closed.Close()
	rude := listen(t)
	go func() {
		for {
			nc, err := rude.Accept()
			if err != nil {
				return
			}
			_ = nc.Close()
		}
	}()
	const httpPort = "use the address of control's gRPC listener (its --grpc"
	for name, c := range map[string]struct {
		addr string
		cfg  *tls.Config
		says string // "" is nothing
	}{
		"as it should be":            {serveGRPC(t, nil), nil, ""},
		"as it should be, with TLS":  {serveGRPC(t, good), trusting(trust), ""},
		"HTTP for gRPC":              {serveHTTP(t, nil), nil, httpPort},
		"HTTP for gRPC, asked TLS":   {serveHTTP(t, nil), trusting(trust), httpPort},
		"HTTPS for gRPC":             {serveHTTP(t, good), trusting(trust), httpPort},
		"HTTPS for gRPC, asked none": {serveHTTP(t, good), nil, "add --tls"},
		"TLS is asked for":           {serveGRPC(t, nil), trusting(trust), "does not speak TLS: leave out --tls"},
		"TLS is not asked for":       {serveGRPC(t, good), nil, "speaks TLS, and this program does not: add --tls"},
		"another name": {serveGRPC(t, named), trusting(trustNamed), "is for pawl.example and not for " +
			"127.0.0.1: use one of those names"},
		"expired":                  {serveGRPC(t, old), trusting(trustOld), "expired on"},
		"not valid yet":            {serveGRPC(t, early), trusting(trustEarly), "is not valid before"},
		"an unknown authority":     {serveGRPC(t, good), trusting(x509.NewCertPool()), "--tls-ca FILE"},
		"nobody listens":           {closed.Addr().String(), nil, "nothing listens at"},
		"nobody listens, with TLS": {closed.Addr().String(), trusting(trust), "nothing listens at"},
		"no such socket":           {"unix:" + filepath.Join(t.TempDir(), "none"), nil, "nothing listens at"},
		"no such host":             {"no-such-host.invalid:3001", nil, "cannot be found"},
		"it hangs up":              {rude.Addr().String(), nil, "speaks no gRPC"},
		"it hangs up on TLS":       {rude.Addr().String(), trusting(trust), "ended the TLS handshake"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cc, err := grpc.NewClient(c.addr, append(rpc.DialOptions(), rpc.Security(c.cfg))...)
			if err != nil {
				t.Fatal(err)
			}
			defer cc.Close()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			err = cc.Invoke(ctx, "/pawl.Test/Call", &emptypb.Empty{}, &emptypb.Empty{})
			got := rpc.Diagnose(ctx, c.addr, c.cfg, err)
			if c.says == "" && got != "" || !strings.Contains(got, c.says) || got != "" && !strings.Contains(got,
				c.addr) {
				t.Errorf("of %v it says %q, want %q", err, got, c.says)
			}
		})
	}
}
