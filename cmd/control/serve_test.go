package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/client"
	"github.com/pawl-dev/pawl/internal/pgtest"
)

// A life without trouble leaves nothing but informative lines, on either database: at the start the built-in executor
// may come before the replica is registered, and at the end it loses its connection.
func TestTheLogOfALifeWithoutTrouble(t *testing.T) {
	for name, args := range map[string][]string{"sqlite": nil, "postgres": {"--database", pgtest.URL(t)}} {
		t.Run(name, func(t *testing.T) {
			s := start(t, filepath.Join(t.TempDir(), "data"), append(args, "--log-format", "json")...)
			if _, stderr, err := invoke(t, "prompt", "--data", s.data, "shell", "echo hello"); err != nil {
				t.Errorf("%v, %q", err, stderr)
			}
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			log := s.log.String()
			for line := range strings.Lines(log) {
				if !strings.Contains(line, `"level":"INFO"`) || strings.Contains(line, "cannot be reached") ||
					strings.Contains(line, "was lost") {
					t.Errorf("%s", line)
				}
			}
			for _, want := range []string{
				"replica registered", "executor connected", "submission settled",
				"executor disconnected",
			} {
				if strings.Count(log, `"msg":"`+want+`"`) != 1 {
					t.Errorf("%q is not there once:\n%s", want, log)
				}
			}
		})
	}
}

// Replicas find each other without being told how.
func TestReplicasCanBeDialled(t *testing.T) {
	s := start(t, t.TempDir(), "--executor", "none", "--database", pgtest.URL(t))
	if want := "\n  peers   dial " + s.here.GRPC + "\n"; !strings.Contains(s.said, want) {
		t.Errorf("it says\n%swant %q", s.said, want)
	}
	for addr, want := range map[string]string{"0.0.0.0:7": "host:7", "[::]:7": "host:7", "127.0.0.1:7": "127.0.0.1:7"} {
		at, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := dialable(at, "host"); got != want {
			t.Errorf("%s is dialled at %s, want %s", addr, got, want)
		}
	}
}

// The whole program works behind a pooler that shares sessions, with the commands that reach the database by
// themselves.
func TestControlBehindAPooler(t *testing.T) {
	server, data := pgtest.URL(t), t.TempDir()
	flags := []string{"--data", data, "--database", pgtest.Pooled(t, server), "--database-direct", server}
	if _, stderr, err := invoke(t, append([]string{"token", "create", "--operator"}, flags...)...); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	start(t, data, flags[2:]...)
	stdout, stderr, err := invoke(t, "prompt", "--data", data, "shell", "echo done")
	if err != nil || !strings.Contains(stdout, "done") {
		t.Errorf("prompting: %q, %v\n%s", stdout, err, stderr)
	}
}

// What a killed control plane left behind leads nobody astray.
func TestStaleAddresses(t *testing.T) {
	data := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := (client.Addresses{GRPC: addr}).Write(data); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "token"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	checkTokens(t, data)
}

// Only a token that is made before the first start makes a database.
func TestTokensOfNoDatabase(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for _, args := range [][]string{{"list"}, {"revoke", "x"}} {
		for _, where := range [][]string{{"--data", data}, {"--data", data, "--database", "sqlite:" +
			filepath.Join(data, "other.db")}} {
			_, stderr, err := invoke(t, slices.Concat([]string{"token"}, args, where)...)
			if err == nil || !strings.Contains(stderr, "there is no database at "+data) ||
				!strings.Contains(stderr, "--data or --database") {
				t.Errorf("%s: %v, %q", args, err, stderr)
			}
		}
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("the data directory was made")
	}
	checkTokens(t, data)
}

func TestWithoutTokens(t *testing.T) {
	s := start(t, t.TempDir(), "--auth", "none", "--database", "memory")
	if !strings.Contains(s.said, "--auth none: every user") || strings.Contains(s.said, "Bearer") {
		t.Errorf("%s", s.said)
	}
	//nolint:noctx // of a test
	res, err := http.Post(s.here.HTTP+"/agents/shell/me", "application/json",
		strings.NewReader(`{"message":"echo hello"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // of a test
	if body, err := io.ReadAll(res.Body); err != nil || !strings.Contains(string(body), `"text":"hello"`) {
		t.Errorf("%v, %s", err, body)
	}
}
