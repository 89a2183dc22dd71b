package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Token sends a bearer token with every call.
type Token struct {
	// Secret returns the token; it is asked for each call, so that a file can change.
	Secret func(context.Context) (string, error)
	// Plaintext lets the token travel without TLS: for loopback, in-memory and deliberately trusted networks only.
	Plaintext bool
}

// Static is a Secret that never changes.
func Static(secret string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return secret, nil }
}

// maxToken bounds a token's file, which may be named by mistake.
const maxToken = 4 << 10

// File is a Secret that is read from a file each time.
func File(path string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		f, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("reading the token: %w", err)
		}
		defer f.Close() //nolint:errcheck // of a file that was read
		b, err := io.ReadAll(io.LimitReader(f, maxToken+1))
		if err == nil && len(b) > maxToken {
			err = fmt.Errorf("%s has more than %d bytes: it is no token", path, maxToken)
		}
		if err != nil {
			return "", fmt.Errorf("reading the token: %w", err)
		}
		secret := strings.TrimSpace(string(b))
		if strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return "", fmt.Errorf("reading the token: %s holds more than one token, or none", path)
		}
		return secret, nil
	}
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t Token) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	secret, err := t.Secret(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + secret}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (t Token) RequireTransportSecurity() bool { return !t.Plaintext }

// SourceKey is the metadata in which a process says to itself, over a connection in memory, where a call came from.
// Elsewhere it means nothing.
const SourceKey = "pawl-source"

// PartKey is the metadata in which a process says to itself so that a call is part of a request of which an earlier
// call has been counted.
const PartKey = "pawl-part"

// Bearer is the token in the value of an Authorization header, "" for none.
func Bearer(header string) string {
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// Security is the transport of a connection: cfg over TLS, or none when cfg is nil.
func Security(cfg *tls.Config) grpc.DialOption {
	if cfg == nil {
		return grpc.WithTransportCredentials(insecure.NewCredentials())
	}
	return grpc.WithTransportCredentials(credentials.NewTLS(cfg))
}

// ServerTLS reads a certificate and its key, PEM. Both empty is no TLS: nil.
func ServerTLS(certFile, keyFile string) (*tls.Config, error) {
	if certFile == "" && keyFile == "" {
		return nil, nil
	}
	if certFile == "" || keyFile == "" {
		return nil, errors.New("TLS needs both a certificate and a key")
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the TLS certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// ClientTLS trusts the authorities in a PEM file; "" trusts the system's.
func ClientTLS(caFile string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("reading the TLS authorities: %w", err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", caFile)
	}
	return cfg, nil
}

// Loopback reports whether an address, host:port or host, can be reached from this host only. An empty host listens
// everywhere. A name other than localhost is not trusted to stay where it points.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.Trim(addr, "[]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
