package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

func TestMintedTokenAuthenticates(t *testing.T) {
	store := &memory{}
	s := NewService(store)
	secret, made, err := s.Mint(t.Context(), Token{Name: "ci", Kind: Client, Limits: Limits{Agents: []string{"a"}}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if letter, err := formOf(secret); err != nil || letter != 'c' {
		t.Errorf("secret %q: %v", secret, err)
	}
	if bytes.Contains(store.tokens[0].Hash, []byte(secret)) || len(store.tokens[0].Hash) != 32 {
		t.Error("the store holds something else than a hash")
	}
	p, err := s.Authenticate(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	if p.Kind != Client || p.TokenID != made.ID || p.Role != User || p.Tenant != "default" ||
		len(p.Limits.Agents) != 1 {
		t.Errorf("principal %+v", p)
	}
}

func TestAuthenticateRefuses(t *testing.T) {
	s := NewService(&memory{})
	secret, _, err := s.Mint(t.Context(), Token{Kind: Operator}, 0)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := s.Peer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"empty": "", "unknown": newSecret('o'), "cut": secret[:len(secret)-1], "longer": secret + "x",
		"huge": strings.Repeat("x", 1<<20), "other peer": newSecret('p'), "cut peer": peer[:len(peer)-1], "space": " ",
	} {
		if p, err := s.Authenticate(t.Context(), bad); !errors.Is(err, ErrUnauthenticated) || p.Kind != "" {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	unknown := newSecret('c')
	for _, how := range []string{"looked up", "known to be none"} {
		_, err := s.Authenticate(t.Context(), unknown)
		if err == nil || !strings.Contains(err.Error(), "no such token") {
			t.Errorf("%s: %v", how, err)
		}
	}
	if err := s.Glance(t.Context(), unknown); err == nil || !strings.Contains(err.Error(), "no such token") {
		t.Errorf("at a glance: %v", err)
	}
	if _, err := s.Authenticate(t.Context(), newSecret('p')); err == nil ||
		!strings.Contains(err.Error(), "no such token") {
		t.Errorf("another cluster's: %v", err)
	}
}

func TestTokenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		here, there := NewService(store), NewService(store)
		secret, _, err := here.Mint(t.Context(), Token{Kind: Operator}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		revoked, made, err := here.Mint(t.Context(), Token{Kind: Executor, Executor: "gpu1"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []*Service{here, there} {
			if _, err := s.Authenticate(t.Context(), revoked); err != nil {
				t.Fatal(err)
			}
		}
		if err := here.Revoke(t.Context(), Principal{Kind: Operator}, made.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := here.Authenticate(t.Context(), revoked); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("revoked here: %v", err)
		}
		time.Sleep(fresh + time.Nanosecond)
		if _, err := there.Authenticate(t.Context(), revoked); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("revoked elsewhere: %v", err)
		}
		time.Sleep(time.Minute - 2*fresh)
		if _, err := here.Authenticate(t.Context(), secret); err != nil {
			t.Errorf("before its end: %v", err)
		}
		time.Sleep(fresh) // the cache still has it
		if _, err := here.Authenticate(t.Context(), secret); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("after its end: %v", err)
		}
	})
}

func TestAnswersAreCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		s := NewService(store)
		secret, _, err := s.Mint(t.Context(), Token{Kind: Operator}, 0)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if _, err := s.Authenticate(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
		}
		if store.lookups != 1 {
			t.Errorf("%d lookups", store.lookups)
		}
		store.fail = errors.New("database is away")
		time.Sleep(fresh + 1)
		if _, err := s.Authenticate(t.Context(), secret); err == nil || errors.Is(err, ErrUnauthenticated) {
			t.Errorf("a store that fails says nothing of the token, got %v", err)
		}
	})
}

// slow is a store that answers when it is told to.
type slow struct {
	*memory
	asked  atomic.Int32
	answer chan struct{}
}

func (s *slow) FindToken(ctx context.Context, hash []byte) (Token, error) {
	s.asked.Add(1)
	t, err := s.memory.FindToken(ctx, hash)
	<-s.answer
	return t, err
}

// Whoever asks while the store is asked shares the answer, and it does not depend on who came first. Whoever asks after
// a revocation is not told what was true before.
func TestQueriesForATokenAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slow{memory: &memory{}, answer: make(chan struct{})}
		s := NewService(store)
		secret, made, err := s.Mint(t.Context(), Token{Kind: Operator}, 0)
		if err != nil {
			t.Fatal(err)
		}
		first, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		ask := func(ctx context.Context, want error) {
			all.Go(func() {
				if _, err := s.Authenticate(ctx, secret); !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
			})
			synctest.Wait()
		}
		ask(first, context.Canceled)
		for range 100 {
			ask(t.Context(), nil)
		}
		leave()
		if n := store.asked.Load(); n != 1 {
			t.Errorf("the store was asked %d times", n)
		}
		if err := s.Revoke(t.Context(), Principal{Kind: Operator}, made.ID); err != nil {
			t.Fatal(err)
		}
		ask(t.Context(), ErrUnauthenticated)
		close(store.answer)
		all.Wait()
		ask(t.Context(), ErrUnauthenticated)
		all.Wait()
	})
}

// Whoever found the answer too old, and asks when somebody else has just been answered, does not ask again.
func TestATokenIsNotAskedForTwice(t *testing.T) {
	store := &memory{}
	s := NewService(store)
	secret, _, err := s.Mint(t.Context(), Token{Kind: Operator}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.lookup(t.Context(), sha256.Sum256([]byte(secret))); err != nil {
			t.Fatal(err)
		}
	}
	if store.lookups != 1 {
		t.Errorf("%d queries", store.lookups)
	}
}

func TestWatchEndsWithItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewService(&memory{})
		secret, made, err := s.Mint(t.Context(), Token{Kind: Operator}, 0)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := Watch(t.Context(), s, secret)
		defer stop()
		time.Sleep(time.Hour)
		if ctx.Err() != nil {
			t.Fatal("ended early")
		}
		if err := s.Revoke(t.Context(), Principal{Kind: Operator}, made.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(fresh)
		synctest.Wait()
		if !errors.Is(context.Cause(ctx), ErrUnauthenticated) {
			t.Errorf("cause %v", context.Cause(ctx))
		}
	})
}

// A suspended tenant's clients are refused, also those that have been let in. Its executors go on with what was
// accepted.
func TestSuspensionEndsWhatClientsWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		s := NewService(store)
		client, _, err := s.Mint(t.Context(), Token{Kind: Client}, 0)
		if err != nil {
			t.Fatal(err)
		}
		executor, _, err := s.Mint(t.Context(), Token{Kind: Executor, Executor: "e"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		watched, stop := Watch(t.Context(), s, client)
		defer stop()
		stays, stop := Watch(t.Context(), s, executor)
		defer stop()
		store.mu.Lock()
		for i := range store.tokens {
			store.tokens[i].Suspended = true
		}
		store.mu.Unlock()
		time.Sleep(3 * fresh)
		synctest.Wait()
		if !errors.Is(context.Cause(watched), tenancy.ErrSuspended) {
			t.Errorf("the client's stream: %v", context.Cause(watched))
		}
		if stays.Err() != nil {
			t.Errorf("the executor's stream: %v", context.Cause(stays))
		}
	})
}

func TestMintRefuses(t *testing.T) {
	s := NewService(&memory{})
	for name, tok := range map[string]Token{
		"no kind": {}, "peer": {Kind: Peer}, "executor without id": {Kind: Executor},
		"executor with a path": {Kind: Executor, Executor: "../x"}, "long name": {
			Kind: Operator,
			Name: strings.Repeat("x", 256),
		},
		"name of two lines": {Kind: Operator, Name: "a\nb"}, "name that moves the cursor": {
			Kind: Operator,
			Name: "\x1b[2J",
		},
		"nameless agent": {Kind: Client, Limits: Limits{Agents: []string{""}}},
	} {
		if _, _, err := s.Mint(t.Context(), tok, 0); !errors.Is(err, ErrTokenInvalid) &&
			!errors.Is(err, ident.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := s.Mint(t.Context(), Token{Kind: Operator}, 1<<63-1); !errors.Is(err, ErrTokenInvalid) {
		t.Errorf("far: %v", err)
	}
	if _, _, err := s.Mint(t.Context(), Token{Kind: Operator}, -1); !errors.Is(err, ErrTokenInvalid) {
		t.Errorf("past: %v", err)
	}
}

func TestLocalSecretIsStoredNowhere(t *testing.T) {
	store := &memory{}
	s := NewService(store)
	secret := s.Local(Principal{Kind: Executor, Executor: "builtin"})
	p, err := s.Authenticate(t.Context(), secret)
	if err != nil || p.Executor != "builtin" || len(store.tokens) != 0 {
		t.Errorf("%+v, %v, %d stored", p, err, len(store.tokens))
	}
	if _, err := NewService(store).Authenticate(t.Context(), secret); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("another process: %v", err)
	}
}

func TestPeersShareASecret(t *testing.T) {
	store := &memory{}
	a, b := NewService(store), NewService(store)
	secret, err := a.Peer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.Authenticate(t.Context(), secret)
	if err != nil || p.Kind != Peer {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestOpenKnowsWhoSaysWhoTheyAre(t *testing.T) {
	s := NewService(&memory{})
	secret := s.Local(Principal{Kind: Executor, Executor: "builtin"})
	for a, want := range map[Open]Kind{{Known: s}: Executor, {}: Operator} {
		if p, err := a.Authenticate(t.Context(), secret); err != nil || p.Kind != want {
			t.Errorf("%+v, %v", p, err)
		}
		for _, unknown := range []string{"", "x"} {
			if p, err := a.Authenticate(t.Context(), unknown); err != nil || p.Kind != Operator ||
				p.Tenant != "default" {
				t.Errorf("%+v, %v", p, err)
			}
		}
	}
}

// How long a token lasts is counted on the store's clock, whatever this process's shows.
func TestTokensExpireByTheStoresClock(t *testing.T) {
	for _, ahead := range []time.Duration{-48 * time.Hour, 0, 48 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			store := &memory{ahead: ahead}
			s := NewService(store)
			secret, made, err := s.Mint(t.Context(), Token{Kind: Client}, time.Hour)
			if err != nil || !made.ExpiresAt.Equal(store.now().Add(time.Hour)) {
				t.Fatalf("it expires at %v, %v", made.ExpiresAt, err)
			}
			for _, step := range []struct {
				after time.Duration
				want  error
			}{
				{0, nil},
				{time.Hour - 2*time.Second, nil},
				{3 * time.Second, ErrUnauthenticated},
				{fresh, ErrUnauthenticated},
			} {
				time.Sleep(step.after)
				if _, err := s.Authenticate(t.Context(), secret); !errors.Is(err, step.want) {
					t.Errorf("ahead by %v: after %v more: %v", ahead, step.after, err)
				}
			}
		})
	}
}
