// Package authority makes the certificates of an installation: an authority of its own, and a certificate for control
// that it has signed.
//
//	DIR/authority/  ca.pem, ca-key.pem   for who makes certificates, and nobody else
//	DIR/server/     cert.pem, key.pem    for control: --tls-cert, --tls-key
//	DIR/trust/      ca.pem               for whoever dials control: --tls-ca of executor and control, --ca of commands
//
// Each directory is for one kind of reader, so that each can be a volume of its own. Keys can be read by their owner
// only.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/internal/disk"
)

const (
	// authorityLife is how long the authority's certificate is valid, serverLife how long control's is.
	authorityLife = 10 * 365 * 24 * time.Hour
	serverLife    = 365 * 24 * time.Hour
	// skew is how far the clock of a reader may be behind.
	skew = time.Hour
)

// loopback are the names of a host for itself, which every certificate of control has.
var loopback = []string{"localhost", "127.0.0.1", "::1"}

// ErrHost refuses what is neither the name of a host nor an address.
var ErrHost = errors.New("a host is a name or an address")

// Init makes what is missing below dir, and a new certificate of control where the present one is for other hosts, of
// another authority, or has passed two thirds of its life at now. hosts are the names and addresses by which control is
// dialled, beside loopback ones. made is false when all was there already. An authority is never replaced: everybody
// who trusts it would have to be told. What is no host is refused with ErrHost, and nothing is made.
func Init(dir string, hosts []string, now time.Time) (made bool, err error) {
	for _, host := range hosts {
		if net.ParseIP(host) == nil && !isName(host) {
			return false, fmt.Errorf("%w: %q; give it without a scheme and a port", ErrHost, host)
		}
	}
	hosts = append(slices.Clone(hosts), loopback...)
	ca := pair{filepath.Join(dir, "authority", "ca.pem"), filepath.Join(dir, "authority", "ca-key.pem")}
	server := pair{filepath.Join(dir, "server", "cert.pem"), filepath.Join(dir, "server", "key.pem")}
	for _, sub := range []string{"authority", "server", "trust"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return false, fmt.Errorf("making the directory of certificates: %w", err)
		}
	}
	signer, err := ca.read()
	if errors.Is(err, fs.ErrNotExist) {
		made = true
		signer, err = ca.make(&x509.Certificate{
			Subject: pkix.Name{CommonName: "Pawl"}, NotBefore: now.Add(-skew), NotAfter: now.Add(authorityLife),
			IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}, nil)
	}
	if err != nil {
		return made, fmt.Errorf("the authority: %w", err)
	}
	trust := filepath.Join(dir, "trust", "ca.pem")
	if err := replace(trust, encode("CERTIFICATE", signer.Leaf.Raw)); err != nil {
		return made, fmt.Errorf("the authority: %w", err)
	}
	present, err := server.read()
	if err == nil && good(present.Leaf, signer.Leaf, hosts, now) {
		return made, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return made, fmt.Errorf("the server's certificate: %w", err)
	}
	if _, err := server.make(serverTemplate(hosts, now), &signer); err != nil {
		return made, fmt.Errorf("the server's certificate: %w", err)
	}
	return true, nil
}

// isName reports whether a certificate can be for a name: labels of letters, digits, - and _ between dots. The first
// one may be *, which stands for any.
func isName(host string) bool {
	labels := strings.Split(strings.TrimPrefix(host, "*."), ".")
	return len(host) <= 253 && !slices.ContainsFunc(labels, func(label string) bool {
		return label == "" || len(label) > 63 || strings.Trim(label, "-") != label ||
			strings.ContainsFunc(label, func(r rune) bool {
				return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_')
			})
	})
}

func serverTemplate(hosts []string, now time.Time) *x509.Certificate {
	t := &x509.Certificate{
		Subject: pkix.Name{CommonName: hosts[0]}, NotBefore: now.Add(-skew), NotAfter: now.Add(serverLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, host)
		}
	}
	return t
}

// good reports whether a certificate of control can stay.
func good(cert, ca *x509.Certificate, hosts []string, now time.Time) bool {
	life := cert.NotAfter.Sub(cert.NotBefore)
	return cert.CheckSignatureFrom(ca) == nil && now.Before(cert.NotAfter.Add(-life/3)) &&
		len(cert.DNSNames)+len(cert.IPAddresses) == len(hosts) &&
		!slices.ContainsFunc(hosts, func(host string) bool { return cert.VerifyHostname(host) != nil })
}

// pair is the files of a certificate and its key, PEM.
type pair struct{ cert, key string }

// read is the pair, fs.ErrNotExist when both files are missing. The loss of one is an error: what is left may be in
// use.
func (p pair) read() (tls.Certificate, error) {
	got, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err == nil {
		return got, nil
	}
	_, noCert := os.Stat(p.cert)
	_, noKey := os.Stat(p.key)
	if errors.Is(noCert, fs.ErrNotExist) && errors.Is(noKey, fs.ErrNotExist) {
		return got, fs.ErrNotExist
	}
	return got, fmt.Errorf("reading %s and %s (remove both to have new ones made): %w", p.cert, p.key,
		plain(err))
}

// plain is an error that does not say that both files are missing.
func plain(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("one of them is missing")
	}
	return err
}

// make writes a new pair, signed by signer, or by itself.
func (p pair) make(template *x509.Certificate, signer *tls.Certificate) (got tls.Certificate, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return got, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return got, err
	}
	parent, signing := template, any(key)
	if signer != nil {
		parent, signing = signer.Leaf, signer.PrivateKey
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signing)
	if err != nil {
		return got, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return got, err
	}
	if err := p.drop(); err != nil {
		return got, err
	}
	if err := disk.Replace(p.key, encode("PRIVATE KEY", private)); err != nil {
		return got, err
	}
	if err := replace(p.cert, encode("CERTIFICATE", cert)); err != nil {
		return got, err
	}
	return p.read()
}

// drop removes the old pair, so that an end half-way leaves no certificate with another's key: the next Init says so,
// or begins again.
func (p pair) drop() error {
	for _, file := range []string{p.cert, p.key} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// replace writes what everybody may read.
func replace(file string, content []byte) error {
	if err := disk.Replace(file, content); err != nil {
		return err
	}
	return os.Chmod(file, 0o644)
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
