package authority

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// leaf is the certificate of control, as who trusts the authority verifies it.
func leaf(t *testing.T, dir string, now time.Time, host string) *x509.Certificate {
	t.Helper()
	got, err := pair{filepath.Join(dir, "server", "cert.pem"), filepath.Join(dir, "server", "key.pem")}.read()
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "trust", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	if _, err := got.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: now}); err != nil {
		t.Errorf("%s at %v: %v", host, now, err)
	}
	return got.Leaf
}

func initialize(t *testing.T, dir string, now time.Time, want bool, hosts ...string) {
	t.Helper()
	if made, err := Init(dir, hosts, now); made != want || err != nil {
		t.Fatalf("made %v, %v, want %v", made, err, want)
	}
}

func TestInit(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	initialize(t, dir, now, true, "control-a", "10.1.2.3")
	var first *x509.Certificate
	for _, host := range []string{"control-a", "10.1.2.3", "localhost", "127.0.0.1", "::1"} {
		first = leaf(t, dir, now, host)
	}
	for _, key := range []string{"authority/ca-key.pem", "server/key.pem"} {
		if info, err := os.Stat(filepath.Join(dir, key)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", key, info.Mode(), err)
		}
	}
	for name, c := range map[string]struct {
		at    time.Time
		hosts []string
		stays bool
	}{
		"the same":         {now.Add(time.Hour), []string{"control-a", "10.1.2.3"}, true},
		"others":           {now, []string{"control-b"}, false},
		"fewer":            {now, []string{"control-a"}, false},
		"old":              {now.Add(serverLife * 3 / 4), []string{"control-a", "10.1.2.3"}, false},
		"after its end":    {now.Add(serverLife + time.Hour), []string{"control-a", "10.1.2.3"}, false},
		"before it is old": {now.Add(serverLife / 2), []string{"control-a", "10.1.2.3"}, true},
	} {
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		initialize(t, copied, c.at, !c.stays, c.hosts...)
		got := leaf(t, copied, c.at, c.hosts[0])
		if stayed := got.SerialNumber.Cmp(first.SerialNumber) == 0; stayed != c.stays {
			t.Errorf("%s: it stayed is %v", name, stayed)
		}
	}
}

// What is damaged is not replaced: others trust it.
func TestInitOverDamage(t *testing.T) {
	for _, file := range []string{"authority/ca-key.pem", "authority/ca.pem", "server/key.pem"} {
		for name, damage := range map[string]func(string) error{
			"removed": os.Remove, "empty": func(f string) error { return os.Truncate(f, 0) },
		} {
			dir := t.TempDir()
			initialize(t, dir, time.Now(), true)
			if err := damage(filepath.Join(dir, file)); err != nil {
				t.Fatal(err)
			}
			if _, err := Init(dir, nil, time.Now()); err == nil || !strings.Contains(err.Error(), "remove both") {
				t.Errorf("%s %s: %v", file, name, err)
			}
		}
	}
}
