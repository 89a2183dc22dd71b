package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc/status"
)

// diagnoseLimit bounds each step of Diagnose.
const diagnoseLimit = 3 * time.Second

// preface is what a client of HTTP/2 begins with: the magic and empty settings.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// Diagnose looks at what is at a gRPC server's address, host:port or unix:PATH, after a call to it has failed with err,
// and says in one sentence what to do about it. cfg is the transport of the call, nil for plain text. It connects,
// sends no token, and returns "" when it finds nothing wrong: the failure is then one of the moment.
func Diagnose(ctx context.Context, addr string, cfg *tls.Config, err error) string {
	p := prober{addr: addr, cfg: cfg}
	var found string
	if cfg == nil {
		found = p.plain(ctx)
	} else {
		found = p.secure(ctx)
	}
	if found == "" && answeredByHTTP(err) {
		return p.httpPort()
	}
	return found
}

// answeredByHTTP reports whether a call was answered by something that speaks HTTP/2 and no gRPC.
func answeredByHTTP(err error) bool {
	st, ok := status.FromError(err)
	return ok && strings.Contains(st.Message(), "unexpected content-type")
}

type prober struct {
	addr string
	cfg  *tls.Config
}

func (p prober) httpPort() string {
	return fmt.Sprintf("%s is a port for HTTP: use the address of control's gRPC listener (its --grpc, port 3001 by "+
		"default)", p.addr)
}

func (p prober) speaksTLS() string {
	return fmt.Sprintf("%s speaks TLS, and this program does not: add --tls, and --tls-ca FILE for an authority of "+
		"your own", p.addr)
}

func (p prober) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: diagnoseLimit}
	network, addr := "tcp", p.addr
	if path, ok := strings.CutPrefix(p.addr, "unix:"); ok {
		network, addr = "unix", path
	}
	nc, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return nc, nc.SetDeadline(time.Now().Add(diagnoseLimit))
}

// unreached says why there is no connection.
func (p prober) unreached(err error) string {
	var unknown *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &unknown):
		return fmt.Sprintf("the host of %s cannot be found (%v): check the name", p.addr, unknown.Err)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return fmt.Sprintf("nothing listens at %s: check that control runs there, and that this is its gRPC "+
			"listener (its --grpc)", p.addr)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fmt.Sprintf("there is no way to %s from this host (%v): check the network and the address", p.addr, err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("%s does not answer: check the address, and firewalls on the way", p.addr)
	}
	return ""
}

// plain looks at an address without TLS.
func (p prober) plain(ctx context.Context) string {
	nc, err := p.dial(ctx)
	if err != nil {
		return p.unreached(err)
	}
	defer nc.Close() //nolint:errcheck // of a connection that only asked
	first := make([]byte, 9)
	_, err = io.WriteString(nc, preface)
	if err == nil {
		_, err = io.ReadFull(nc, first)
	}
	switch {
	case strings.HasPrefix(string(first), "HTTP/"):
		return p.httpPort()
	case err == nil && first[3] == 4: // settings: it speaks HTTP/2
		return ""
	case p.handshakes(ctx):
		return p.speaksTLS()
	}
	return fmt.Sprintf("what answers at %s speaks no gRPC: use the address of control's gRPC listener (its --grpc)",
		p.addr)
}

// handshakes reports whether a TLS server is there, whosoever it is.
func (p prober) handshakes(ctx context.Context) bool {
	nc, err := p.dial(ctx)
	if err != nil {
		return false
	}
	defer nc.Close() //nolint:errcheck // of a connection that only asked
	var alert tls.AlertError
	//nolint:gosec // nothing is sent over it
	err = tls.Client(nc, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}).HandshakeContext(ctx)
	return err == nil || errors.As(err, &alert)
}

// secure looks at an address over TLS.
func (p prober) secure(ctx context.Context) string {
	nc, err := p.dial(ctx)
	if err != nil {
		return p.unreached(err)
	}
	defer nc.Close() //nolint:errcheck // of a connection that only asked
	cfg := p.cfg.Clone()
	cfg.NextProtos = []string{"h2"}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(p.addr)
	}
	conn := tls.Client(nc, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		return p.untrusted(err, cfg.ServerName)
	}
	return ""
}

// untrusted says why a handshake failed.
func (p prober) untrusted(err error, name string) string {
	var record tls.RecordHeaderError
	var wrong x509.HostnameError
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &record) && strings.HasPrefix(string(record.RecordHeader[:]), "HTTP/"):
		return fmt.Sprintf("%s is a port for plain HTTP: use the address of control's gRPC listener (its --grpc, "+
			"port 3001 by default), and leave out --tls and --tls-ca if control runs without TLS", p.addr)
	case errors.As(err, &record):
		return fmt.Sprintf("%s does not speak TLS: leave out --tls and --tls-ca, or start control with --tls-cert "+
			"and --tls-key", p.addr)
	case errors.As(err, &wrong):
		return fmt.Sprintf("the certificate at %s is for %s and not for %s: use one of those names as the address, "+
			"or give control a certificate for this one", p.addr, namesOf(wrong.Certificate), name)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && time.Now().Before(invalid.Cert.NotBefore):
		return fmt.Sprintf("the certificate at %s is not valid before %s: check the clock of this host and of the "+
			"one that made it",
			p.addr, invalid.Cert.NotBefore.UTC().Format(time.DateTime))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("the certificate at %s expired on %s: give control a new one (its --tls-cert), or check "+
			"the clock of this host",
			p.addr, invalid.Cert.NotAfter.UTC().Format(time.DateTime))
	case errors.As(err, &unknown):
		return fmt.Sprintf("the certificate at %s is signed by an authority that this host does not trust: give that "+
			"authority's certificate with --tls-ca FILE", p.addr)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Sprintf("%s ended the TLS handshake: check that it is control's gRPC listener, and that control "+
			"has --tls-cert and --tls-key", p.addr)
	}
	return fmt.Sprintf("TLS with %s failed (%v)", p.addr, err)
}

func namesOf(c *x509.Certificate) string {
	names := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no name at all"
	}
	return strings.Join(names, ", ")
}
