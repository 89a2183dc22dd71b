package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/client"
	"github.com/pawl-dev/pawl/internal/pgtest"
)

// A health check asks the control plane of a data directory, wherever it listens, with TLS or without.
func TestReady(t *testing.T) {
	dir := t.TempDir()
	if _, stderr, err := invoke(t, "tls", "init", dir, "--host", "pawl.example"); err != nil ||
		!strings.Contains(stderr, "--tls-cert "+filepath.Join(dir, "server", "cert.pem")) {
		t.Fatalf("%v, %q", err, stderr)
	}
	if _, stderr, err := invoke(t, "tls", "init", dir, "--host", "pawl.example"); err != nil ||
		!strings.Contains(stderr, "already") {
		t.Errorf("once more: %v, %q", err, stderr)
	}
	plain := start(t, filepath.Join(dir, "plain"), "--executor", "none")
	secure := start(t, filepath.Join(dir, "secure"), "--executor", "none", "--http", "0.0.0.0:0", "--tls-cert",
		filepath.Join(dir, "server", "cert.pem"), "--tls-key", filepath.Join(dir, "server", "key.pem"))
	if _, stderr, err := invoke(t, "agents", "list", "--server", secure.here.GRPC, "--ca",
		filepath.Join(dir, "trust", "ca.pem"), "--token-file", filepath.Join(secure.data, "token")); err != nil {
		t.Errorf("who trusts the authority: %v, %q", err, stderr)
	}
	for _, s := range []*server{plain, secure} {
		if _, stderr, err := invoke(t, "ready", "--data", s.data); err != nil {
			t.Errorf("%s: %v, %q", s.here.HTTP, err, stderr)
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		if _, stderr, err := invoke(t, "ready", "--data", s.data); cli.Code(err) != cli.Unreachable {
			t.Errorf("%s, stopped: %v, %q", s.here.HTTP, err, stderr)
		}
	}
}

func TestNotReady(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || r.Header.Get("Authorization") != "Bearer me" {
			t.Errorf("%s with %v", r.URL, r.Header)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"ready":false,"reasons":["draining"]}`))
	}))
	defer web.Close()
	data := t.TempDir()
	if err := (client.Addresses{HTTP: web.URL}).Write(data); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(client.TokenFile(data), []byte("me\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, err := invoke(t, "ready", "--data", data); cli.Code(err) != 1 ||
		!strings.Contains(stderr, `is not ready: {"ready":false,"reasons":["draining"]}`) {
		t.Errorf("%v, %q", err, stderr)
	}
}

// While the database is away each health check gets an answer before it gives up, and soon one that says so.
func TestReadyWithoutADatabase(t *testing.T) {
	cluster, err := pgtest.Start(t.Context(), pgtest.Options{NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, t.TempDir(), "--executor", "none", "--database", cluster.URL)
	if err := cluster.Stop(); err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(10 * time.Second); ; { // when it notices it announces nothing
		_, stderr, err := invoke(t, "ready", "--data", s.data)
		if code := cli.Code(err); code != 0 && code != 1 {
			t.Fatalf("%d: %q", code, stderr)
		}
		if strings.Contains(stderr, `"reasons":["the database does not answer"]`) {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("after ten seconds: %v, %q", err, stderr)
		}
	}
}

// A set-up that is repeated keeps the token that is in use.
func TestATokenIntoAFile(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	file := filepath.Join(t.TempDir(), "worker.token")
	args := []string{"token", "create", "--data", data, "--executor", "worker", "--out", file}
	stdout, stderr, err := invoke(t, args...)
	first, readErr := os.ReadFile(file)
	if err != nil || readErr != nil || stdout != "" || !strings.HasPrefix(string(first), "pawl_e") {
		t.Fatalf("%v, %v, %q, %q", err, readErr, stdout, stderr)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	_, stderr, err = invoke(t, args...)
	second, readErr := os.ReadFile(file)
	if err != nil || readErr != nil || string(second) != string(first) || !strings.Contains(stderr, "kept") {
		t.Errorf("once more: %v, %v, %q", err, readErr, stderr)
	}
	list, _, err := invoke(t, "token", "list", "--data", data)
	if err != nil || strings.Count(list, "executor worker") != 1 {
		t.Errorf("%v, %s", err, list)
	}
	out, _, err := invoke(t, "token", "create", "--data", data, "--role", "user", "-o", "json", "--out", file+"2")
	secret, readErr := os.ReadFile(file + "2")
	if err != nil || readErr != nil || strings.Contains(out, strings.TrimSpace(string(secret))) {
		t.Errorf("as JSON: %v, %v, %s", err, readErr, out)
	}
	stdout, stderr, err = invoke(t, "token", "create", "--data", data, "--role", "user", "--out",
		filepath.Join(data, "a", "b"))
	if err == nil || stdout != "" || !strings.Contains(stderr, "writing the token") {
		t.Errorf("%v, %q, %q", err, stdout, stderr)
	}
}
