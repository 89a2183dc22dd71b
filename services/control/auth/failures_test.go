package auth

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Whoever shows too many tokens that are nobody's is refused without a query, for a while; a token that is known works
// meanwhile, and other sources are not concerned.
func TestFailuresOfASource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		s := NewService(store)
		known, _, err := s.Mint(t.Context(), Token{Kind: Operator}, 0)
		if err != nil {
			t.Fatal(err)
		}
		fresh, _, err := s.Mint(t.Context(), Token{Kind: Operator}, 0)
		if err != nil {
			t.Fatal(err)
		}
		here, there := WithSource(t.Context(), "10.0.0.1"), WithSource(t.Context(), "10.0.0.2")
		if _, err := s.Authenticate(here, known); err != nil {
			t.Fatal(err)
		}
		for range failureBurst {
			if _, err := s.Authenticate(here, newSecret('c')); !errors.Is(err, ErrUnauthenticated) {
				t.Fatal(err)
			}
		}
		before := store.lookups
		for range 1000 {
			if _, err := s.Authenticate(here, newSecret('c')); !errors.Is(err, ErrTooManyFailures) {
				t.Fatal(err)
			}
		}
		if store.lookups != before {
			t.Errorf("%d queries for refused tokens", store.lookups-before)
		}
		time.Sleep(time.Hour) // the answer for the known one is long forgotten, that it is known is not
		for range failureBurst {
			_, _ = s.Authenticate(here, newSecret('c'))
		}
		for name, err := range map[string]error{
			"a known token":       authenticate(here, s, known),
			"another source":      authenticate(there, s, fresh),
			"within this process": authenticate(t.Context(), s, fresh),
		} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		time.Sleep(time.Second)
		if err := authenticate(here, s, newSecret('c')); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("a second later: %v", err)
		}
	})
}

// A glance asks no database.
func TestGlance(t *testing.T) {
	store := &memory{}
	s := NewService(store)
	secret, _, err := s.Mint(t.Context(), Token{Kind: Operator}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		secret string
		want   error
	}{
		"none": {"", ErrUnauthenticated}, "another's": {"ghp_" + strings.Repeat("x", 40), ErrUnauthenticated},
		"huge": {"pawl_" + strings.Repeat("x", 1<<20), ErrUnauthenticated}, "good": {secret, nil},
		"unknown": {newSecret('c'), nil},
	} {
		if err := s.Glance(t.Context(), c.secret); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if store.lookups != 0 {
		t.Errorf("%d queries", store.lookups)
	}
}

func authenticate(ctx context.Context, s *Service, secret string) error {
	_, err := s.Authenticate(ctx, secret)
	return err
}

// However many sources fail, few are remembered, and first forgotten are those that have not failed for long.
func TestSourcesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFailures()
		for range failureBurst {
			f.count("attacker")
		}
		source := netip.MustParseAddr("10.0.0.1")
		for range 2 * maxBuckets {
			f.count(source.String())
			source = source.Next()
			time.Sleep(time.Millisecond)
		}
		if n := len(f.sources.all); n > maxBuckets {
			t.Errorf("%d sources", n)
		}
		if err := f.check("attacker"); err != nil {
			t.Errorf("%v, and it has refilled", err)
		}
	})
}

// Whoever repeats a token that is nobody's any more, as a forgotten client does, costs hardly a query and locks nobody
// out who has the same address.
func TestOneWrongTokenLocksNobodyOut(t *testing.T) {
	for _, name := range []string{"never a token", "revoked", "revoked, and its row is gone"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &memory{}
				s := NewService(store)
				here := WithSource(t.Context(), "10.0.0.1")
				wrong := newSecret('c')
				if name != "never a token" {
					var made Token
					var err error
					if wrong, made, err = s.Mint(t.Context(), Token{Kind: Operator}, 0); err != nil {
						t.Fatal(err)
					}
					if err := authenticate(here, s, wrong); err != nil {
						t.Fatal(err)
					}
					if err := store.RevokeToken(t.Context(), made.Tenant, made.ID); err != nil {
						t.Fatal(err)
					}
					time.Sleep(2 * fresh)
				}
				if strings.Contains(name, "gone") {
					store.tokens = nil
				}
				before := store.lookups
				for range 10 * failureBurst {
					if err := authenticate(here, s, wrong); !errors.Is(err, ErrUnauthenticated) {
						t.Fatal(err)
					}
				}
				if n := store.lookups - before; n != 1 {
					t.Errorf("%d queries", n)
				}
				good, _, err := s.Mint(t.Context(), Token{Kind: Operator}, 0)
				if err == nil {
					err = authenticate(here, s, good)
				}
				if err != nil {
					t.Errorf("another one at the same address: %v", err)
				}
			})
		})
	}
}

// A token that is made after somebody has tried it works within seconds: with another replica's, or the file of a data
// directory, that happens.
func TestWrongTokenThatBecomesRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &memory{}, NewService(&memory{})
		s := NewService(one)
		secret, _, err := two.Mint(t.Context(), Token{Kind: Operator}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := authenticate(t.Context(), s, secret); !errors.Is(err, ErrUnauthenticated) {
			t.Fatal(err)
		}
		one.tokens = two.store.(*memory).tokens
		time.Sleep(fresh)
		if err := authenticate(t.Context(), s, secret); err != nil {
			t.Error(err)
		}
	})
}

// Whatever has the form of a token costs one query when it is seen first and none again soon, whether it is a token's,
// was one's or never was: how long an answer takes tells nothing. What has not that form is told apart by anybody, and
// costs none.
func TestRightAndWrongTokensCostTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		minted := NewService(store)
		secrets := map[string]string{"never a token": newSecret('c'), "an operator's, it says": newSecret('o')}
		for _, name := range []string{"valid", "expired", "revoked"} {
			secret, made, err := minted.Mint(t.Context(), Token{Kind: Client, Name: name}, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if secrets[name] = secret; name == "revoked" {
				if err := store.RevokeToken(t.Context(), made.Tenant, made.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		s := NewService(store) // which has seen none of them
		queries := func(secret string) int {
			before := store.lookups
			_ = authenticate(WithSource(t.Context(), "10.0.0.1"), s, secret) // refused or not
			return store.lookups - before
		}
		for name, secret := range secrets {
			if name == "expired" {
				continue
			}
			if first, second := queries(secret), queries(secret); first != 1 || second != 0 {
				t.Errorf("%s: %d queries, then %d", name, first, second)
			}
		}
		time.Sleep(time.Minute)
		if first, second := queries(secrets["expired"]), queries(secrets["expired"]); first != 1 || second != 0 {
			t.Errorf("expired: %d queries, then %d", first, second)
		}
		for _, malformed := range []string{"", "x", secrets["valid"] + "x", strings.ToUpper(secrets["valid"])} {
			if n := queries(malformed); n != 0 {
				t.Errorf("%q: %d queries", malformed, n)
			}
		}
	})
}
