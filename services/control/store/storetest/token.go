package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
)

func token(hash string) auth.Token {
	return auth.Token{
		ID: ident.New(), Tenant: session.DefaultTenant, Name: hash, Kind: auth.Client, Role: auth.User,
		Hash: []byte(hash),
	}
}

// keep stores a token for ever.
func keep(t tester, s store.Store, tok auth.Token) auth.Token {
	t.Helper()
	made, err := s.CreateToken(ctx(t), tok, 0)
	ok(t, err)
	return made
}

func findToken(t tester, s store.Store, hash string) auth.Token {
	t.Helper()
	got, err := s.FindToken(ctx(t), []byte(hash))
	ok(t, err)
	return got
}

// lasts checks how long a token lasts from now, as the database tells.
func lasts(t tester, s store.Store, hash string, want time.Duration) {
	t.Helper()
	if left := findToken(t, s, hash).Left; left > want || left < want-time.Minute { // the test takes a moment
		t.Errorf("token %s lasts for %v, want %v", hash, left, want)
	}
}

var tokenCases = []testCase{
	{"are found by hash and listed newest first", func(t *testing.T, db DB) {
		a, b, c := token("a"), token("b"), token("c")
		a.Role = auth.Admin
		a.Limits = auth.Limits{
			Agents: []string{"x", "y"}, Workflows: []string{"w"}, InstancePrefix: "team-%_\\",
			Rate: auth.Rate{PerSecond: 0.5, Burst: 7}, ForOthers: true,
		}
		b.Kind, b.Role, b.Executor, b.Shared = auth.Executor, "", "e", true
		b.Labels = auth.Labels{"gpu": "a100", "zone": "eu-*"}
		foreign := token("foreign")
		foreign.Tenant = "other"
		for _, tok := range []*auth.Token{&b, &a, &c, &foreign} {
			made := keep(t, db.Store, *tok)
			if made.CreatedAt.IsZero() || !made.ExpiresAt.IsZero() {
				t.Errorf("made at %v, expires at %v", made.CreatedAt, made.ExpiresAt)
			}
			tok.CreatedAt = made.CreatedAt
			equal(t, "the token", made, *tok)
			equal(t, "the token", findToken(t, db.Second, tok.Name), *tok)
			for _, tenant := range []string{"", tok.Tenant} {
				byID, err := db.Second.GetToken(ctx(t), tenant, tok.ID)
				ok(t, err)
				equal(t, "the token", byID, *tok)
			}
			_, err := db.Store.GetToken(ctx(t), "nobody", tok.ID)
			refused(t, err, auth.ErrTokenNotFound)
			db.Advance(time.Second)
			equal(t, "the token", keep(t, db.Second, *tok), *tok) // as after an answer that was lost
		}
		got, next, err := db.Second.ListTokens(ctx(t), session.DefaultTenant, "", 4)
		ok(t, err)
		equal(t, "the tokens", got, []auth.Token{c, b, a})
		equal(t, "the next page", next, "")
		got, _, err = db.Store.ListTokens(ctx(t), "", "", 4)
		ok(t, err)
		equal(t, "the tokens of all tenants", got, []auth.Token{foreign, c, b, a})
		_, err = db.Store.GetToken(ctx(t), "", ident.New())
		refused(t, err, auth.ErrTokenNotFound)
		_, err = db.Store.FindToken(ctx(t), []byte("none"))
		refused(t, err, auth.ErrTokenNotFound)
		if _, err := db.Store.CreateToken(ctx(t), token("a"), 0); err == nil {
			t.Error("two tokens have one hash")
		}
	}},
	{"are revoked once, by their tenant", func(t *testing.T, db DB) {
		tok := keep(t, db.Store, token("a"))
		refused(t, db.Store.RevokeToken(ctx(t), "other", tok.ID), auth.ErrTokenNotFound)
		refused(t, db.Store.RevokeToken(ctx(t), session.DefaultTenant, ident.New()), auth.ErrTokenNotFound)
		equal(t, "the token", findToken(t, db.Store, "a"), tok)
		ok(t, db.Second.RevokeToken(ctx(t), session.DefaultTenant, tok.ID))
		revoked := findToken(t, db.Store, "a")
		if revoked.RevokedAt.IsZero() {
			t.Error("the token is not revoked")
		}
		db.Advance(time.Hour)
		ok(t, db.Second.RevokeToken(ctx(t), session.DefaultTenant, tok.ID))
		equal(t, "revoked again", findToken(t, db.Store, "a"), revoked)
	}},
	{"are a user's when they were made before there were roles", func(t *testing.T, db DB) {
		made := keep(t, db.Store, token("a"))
		db.Exec(`UPDATE tokens SET role = '', limits = NULL`)
		equal(t, "the token", findToken(t, db.Second, "a"), made)
	}},
	{"have tickets that are used once", func(t *testing.T, db DB) {
		at := func(hash string) auth.Ticket {
			return auth.Ticket{Hash: []byte(hash), Tenant: session.DefaultTenant, TokenHash: []byte("token " + hash)}
		}
		for _, hash := range []string{"a", "late"} {
			ok(t, db.Store.CreateTicket(ctx(t), at(hash), time.Minute))
		}
		ok(t, db.Store.CreateTicket(ctx(t), at("a"), time.Minute)) // as after an answer that was lost
		const n = 8
		used := make([]bool, n)
		together(t, n, func(i int) error {
			token, err := either(db, i).UseTicket(ctx(t), []byte("a"))
			if used[i] = string(token) == "token a"; used[i] {
				return err
			}
			if errors.Is(err, auth.ErrTicket) {
				return nil
			}
			return fmt.Errorf("%q, %w", token, err)
		})
		times := 0
		for _, one := range used {
			if one {
				times++
			}
		}
		equal(t, "times that the ticket was used", times, 1)
		db.Advance(time.Minute)
		_, err := db.Second.UseTicket(ctx(t), []byte("late"))
		refused(t, err, auth.ErrTicket)
		_, err = db.Store.UseTicket(ctx(t), []byte("none"))
		refused(t, err, auth.ErrTicket)
	}},
	{"live as long as they are extended", func(t *testing.T, db DB) {
		made, err := db.Store.CreateToken(ctx(t), token("a"), 3*time.Hour)
		ok(t, err)
		equal(t, "its life", made.ExpiresAt.Sub(made.CreatedAt).Round(time.Second), 3*time.Hour)
		lasts(t, db.Second, "a", 3*time.Hour)
		db.Advance(time.Hour) // of the database's clock, whatever others show
		lasts(t, db.Second, "a", 2*time.Hour)
		ok(t, db.Second.ExtendToken(ctx(t), made.ID, 5*time.Hour))
		lasts(t, db.Store, "a", 5*time.Hour)
		db.Advance(6 * time.Hour)
		lasts(t, db.Store, "a", -time.Hour)
		refused(t, db.Store.ExtendToken(ctx(t), ident.New(), time.Hour), auth.ErrTokenNotFound)
	}},
	{"are listed page by page, whatever can be decoded of a page", func(t *testing.T, db DB) {
		var want []auth.Token
		for i := range 7 {
			made := keep(t, db.Store, token(fmt.Sprint("t", i)))
			if i != 2 && i != 4 && i != 5 {
				want = append([]auth.Token{made}, want...)
			}
		}
		db.Exec(`UPDATE tokens SET agents = '{"a": 1}' WHERE name IN ('t2', 't4', 't5')`)
		var got []auth.Token
		pages := 0
		for before, more := "", true; more; more = before != "" {
			page, next, err := db.Second.ListTokens(ctx(t), session.DefaultTenant, before, 2)
			ok(t, err)
			got, before = append(got, page...), next
			pages++
		}
		equal(t, "the tokens", got, want)
		equal(t, "the number of pages", pages, 4)
	}},
	{"share one secret", func(t *testing.T, db DB) {
		const n = 8
		secrets := make([][]byte, n)
		together(t, n, func(i int) (err error) {
			secrets[i], err = either(db, i).ClusterSecret(ctx(t), []byte{byte(i), 0, 1})
			return err
		})
		for _, s := range secrets {
			if len(s) != 3 || !bytes.Equal(s, secrets[0]) {
				t.Errorf("the secrets are %v", secrets)
			}
		}
	}},
}

var definitionCases = []testCase{
	{"are kept by digest", func(t *testing.T, db DB) {
		ok(t, db.Store.PutDefinition(ctx(t), "d1", "agent", []byte("one\x00")))
		ok(t, db.Second.PutDefinition(ctx(t), "d1", "agent", []byte("one\x00")))
		ok(t, db.Store.PutDefinition(ctx(t), "d2", "agent", []byte("two")))
		got, err := db.Second.GetDefinition(ctx(t), "d1")
		ok(t, err)
		if string(got) != "one\x00" {
			t.Errorf("the definition is %q", got)
		}
		_, err = db.Store.GetDefinition(ctx(t), "d3")
		refused(t, err, store.ErrDefinitionNotFound)
	}},
}
