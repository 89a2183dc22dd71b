package auth

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func token(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	return strings.TrimSpace(string(b))
}

func TestOperatorTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	store := &memory{}
	s := NewService(store)
	for range 2 { // the second time nothing is to do
		if err := s.EnsureOperator(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
	if len(store.tokens) != 1 {
		t.Errorf("%d tokens", len(store.tokens))
	}
	secret := token(t, path)
	if p, err := s.Authenticate(t.Context(), secret); err != nil || p.Kind != Operator {
		t.Errorf("%+v, %v", p, err)
	}

	// Another database learns of the same token.
	other := NewService(&memory{})
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := other.EnsureOperator(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if got := token(t, path); got != secret {
		t.Error("the token changed")
	}
	if _, err := other.Authenticate(t.Context(), secret); err != nil {
		t.Error(err)
	}
}

func TestEndedOperatorTokenIsReplaced(t *testing.T) {
	for name, end := range map[string]func(*Token){
		"revoked": func(t *Token) { t.RevokedAt = time.Now() },
		"expired": func(t *Token) { t.Name, t.ExpiresAt = "somebody's", time.Now().Add(-time.Second) },
	} {
		path := filepath.Join(t.TempDir(), "token")
		store := &memory{}
		s := NewService(store)
		if err := s.EnsureOperator(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		old := token(t, path)
		end(&store.tokens[0])
		if err := s.EnsureOperator(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		now := token(t, path)
		if _, err := s.Authenticate(t.Context(), now); err != nil || now == old {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.Authenticate(t.Context(), old); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%s: the old one: %v", name, err)
		}
	}
}

// The token of a data directory ends some time after the last control plane that ran on it, so that directories that
// come and go leave nothing behind for good. One that is used again has its token back.
func TestOperatorTokenLivesWithItsDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		s := NewService(store)
		if err := s.EnsureOperator(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		secret := token(t, path)
		ctx, cancel := context.WithCancel(t.Context())
		kept := make(chan error, 1)
		go func() { kept <- s.KeepOperator(ctx, path) }()
		time.Sleep(3 * operatorLife)
		if _, err := s.Authenticate(t.Context(), secret); err != nil {
			t.Errorf("while a control plane runs: %v", err)
		}
		cancel()
		if err := <-kept; err != nil {
			t.Error(err)
		}
		time.Sleep(operatorLife + time.Second)
		if _, err := s.Authenticate(t.Context(), secret); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("long after it ended: %v", err)
		}
		if err := s.EnsureOperator(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * fresh)
		if _, err := s.Authenticate(t.Context(), secret); err != nil || len(store.tokens) != 1 ||
			token(t, path) != secret {
			t.Errorf("after another start: %v, %d tokens", err, len(store.tokens))
		}
	})
}

// A clock that jumps ends the token for minutes at most, and does not make it live for ever.
func TestOperatorTokenOutlivesAJumpOfTheClock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		s := NewService(store)
		if err := s.EnsureOperator(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		kept := make(chan error, 1)
		go func() { kept <- s.KeepOperator(ctx, path) }()
		for _, jump := range []time.Duration{2 * operatorLife, -2 * operatorLife} {
			store.mu.Lock()
			store.ahead += jump
			store.mu.Unlock()
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			left := store.tokens[0].ExpiresAt.Sub(store.now())
			if left <= operatorLife-extendAfter || left > operatorLife {
				t.Errorf("after a jump by %s the token lives for %s", jump, left)
			}
			if _, err := s.Authenticate(t.Context(), token(t, path)); err != nil {
				t.Errorf("after a jump by %s: %v", jump, err)
			}
		}
		cancel()
		if err := <-kept; err != nil {
			t.Error(err)
		}
	})
}

func TestOperatorTokenFileWithSomethingElse(t *testing.T) {
	for _, content := range []string{"", "secret", "pawl_operator_short", newSecret('c'), newSecret('o') +
		"\nx", strings.Repeat("x", 1<<16)} {
		path := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		store := &memory{}
		err := NewService(store).EnsureOperator(t.Context(), path)
		if err == nil || !strings.Contains(err.Error(), "remove it") || len(store.tokens) > 0 {
			t.Errorf("%.30q: %v", content, err)
		}
		if content != "" && err != nil && strings.Contains(err.Error(), content) {
			t.Error("the error tells the content")
		}
		if b, _ := os.ReadFile(path); !bytes.Equal(b, []byte(content)) {
			t.Error("the file changed")
		}
	}
}

// What is no token is left alone: neither its mode nor what a link leads to is anybody's to change.
func TestOperatorTokenIsNoLinkAndNoDirectory(t *testing.T) {
	dir := t.TempDir()
	other, link := filepath.Join(dir, "other"), filepath.Join(dir, "link")
	if err := os.WriteFile(other, []byte("not a token"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, link); err != nil {
		t.Fatal(err)
	}
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		other: "does not hold an operator token", link: "is a link",
		sub: "is no file",
	} {
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := NewService(&memory{}).EnsureOperator(t.Context(), path); err == nil ||
			!strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%s: %v", path, err)
		}
		if after, err := os.Stat(path); err != nil || after.Mode() != before.Mode() {
			t.Errorf("%s: mode %v, then %v, %v", path, before.Mode(), after.Mode(), err)
		}
	}
}
