package storetest

import (
	"bytes"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
)

func token(hash string, at time.Time) auth.Token {
	return auth.Token{
		ID: ident.New(), Tenant: session.DefaultTenant, Name: hash, Kind: auth.Client,
		Hash: []byte(hash), CreatedAt: at,
	}
}

func findToken(t tester, s store.Store, hash string) auth.Token {
	t.Helper()
	got, err := s.FindToken(ctx(t), []byte(hash))
	ok(t, err)
	return got
}

var tokenCases = []testCase{
	{"are found by hash and listed newest first", func(t *testing.T, db DB) {
		a, b, c := token("a", someTime), token("b", someTime.Add(time.Second)), token("c", someTime.Add(2*time.Second))
		a.Agents, a.ExpiresAt = []string{"x", "y"}, someTime
		b.Kind, b.Executor, b.RevokedAt = auth.Executor, "e", someTime
		b.Labels = auth.Labels{"gpu": "a100", "zone": "eu-*"}
		foreign := token("foreign", someTime)
		foreign.Tenant = "other"
		for _, tok := range []auth.Token{b, a, c, foreign} {
			ok(t, db.Store.CreateToken(ctx(t), tok))
			equal(t, "the token", findToken(t, db.Second, tok.Name), tok)
			ok(t, db.Second.CreateToken(ctx(t), tok)) // as after an answer that was lost
		}
		got, err := db.Second.ListTokens(ctx(t), session.DefaultTenant)
		ok(t, err)
		equal(t, "the tokens", got, []auth.Token{c, b, a})
		_, err = db.Store.FindToken(ctx(t), []byte("none"))
		refused(t, err, auth.ErrTokenNotFound)
		if err := db.Store.CreateToken(ctx(t), token("a", someTime)); err == nil {
			t.Error("two tokens have one hash")
		}
	}},
	{"are revoked once, by their tenant", func(t *testing.T, db DB) {
		tok := token("a", someTime)
		ok(t, db.Store.CreateToken(ctx(t), tok))
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
	{"live as long as they are extended", func(t *testing.T, db DB) {
		tok := token("a", someTime)
		tok.ExpiresAt = someTime.Add(time.Hour)
		ok(t, db.Store.CreateToken(ctx(t), tok))
		tok.ExpiresAt = someTime.Add(2 * time.Hour)
		ok(t, db.Second.ExtendToken(ctx(t), tok.ID, tok.ExpiresAt))
		equal(t, "the token", findToken(t, db.Store, "a"), tok)
		refused(t, db.Store.ExtendToken(ctx(t), ident.New(), someTime), auth.ErrTokenNotFound)
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
