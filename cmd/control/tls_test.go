package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/cli"
)

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t, dir)
	s := start(t, filepath.Join(dir, "data"), "--http", "0.0.0.0:0", "--tls-cert", cert, "--tls-key", key, "--host",
		"pawl.example", "--executor", "none")
	if !strings.HasPrefix(s.here.HTTP, "https://") || !strings.Contains(s.said, "--cacert") {
		t.Errorf("%s", s.said)
	}
	checkTokens(t, s.data)
	checkRemoteTLS(t, s, cert)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.here.HTTP, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	pemBytes, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots.AppendCertsFromPEM(pemBytes)
	web := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", "127.0.0.1:"+port)
		},
	}}
	res, err := web.Get(fmt.Sprintf("https://pawl.example:%s/healthz", port)) //nolint:noctx // of a test
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || string(body) != "ok\n" || res.ProtoMajor != 2 {
		t.Errorf("%v, %s, %s", err, res.Proto, body)
	}
	_ = res.Body.Close()
	web.CloseIdleConnections()
}

// checkRemoteTLS asks a control plane as one elsewhere, over TLS and in ways that do not fit.
func checkRemoteTLS(t *testing.T, s *server, cert string) {
	t.Helper()
	token := filepath.Join(s.data, "token")
	if _, stderr, err := invoke(t, "agents", "list", "--server", s.here.GRPC, "--ca", cert, "--token-file",
		token); err != nil {
		t.Errorf("%v, %q", err, stderr)
	}
	web := "127.0.0.1:" + s.here.HTTP[strings.LastIndex(s.here.HTTP, ":")+1:]
	for want, args := range map[string][]string{
		"add --tls, and --ca FILE": {"--server", s.here.GRPC},
		"authority":                {"--server", s.here.GRPC, "--tls"},
		"is a port for HTTP":       {"--server", web, "--ca", cert},
	} {
		_, stderr, err := invoke(t, append([]string{"agents", "list", "--token-file", token}, args...)...)
		if cli.Code(err) != cli.Unreachable || !strings.Contains(stderr, want) {
			t.Errorf("%v: code %d, %q, want %q", args, cli.Code(err), stderr, want)
		}
	}
}

// certificate makes one for pawl.example, signed by itself.
func certificate(t *testing.T, dir string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pawl.example"},
		DNSNames: []string{"pawl.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: cert},
		keyFile:  {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// What no host is called gets no certificate.
func TestCertificatesAreForHosts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	for _, host := range []string{"bad host", "https://pawl.example", "pawl.example:3001", "-a", "a..b", ""} {
		_, said, err := invoke(t, "tls", "init", dir, "--host", `"`+host+`"`)
		if cli.Code(err) != cli.Usage || !strings.HasPrefix(said, "control: --host: a host is a name or an address: ") {
			t.Errorf("%q: code %d, %q", host, cli.Code(err), said)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
	_, said, err := invoke(t, "tls", "init", dir, "--host", "control-a,10.1.2.3,*.pawl.example,::1,my_host")
	if err != nil {
		t.Error(said, err)
	}
}
