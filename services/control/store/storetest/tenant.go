package storetest

import (
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

var tenantCases = []testCase{
	{"begin with the default one", func(t *testing.T, db DB) {
		all, err := db.Store.ListTenants(ctx(t))
		if ok(t, err); len(all) != 1 || all[0].Name != session.DefaultTenant ||
			time.Since(all[0].CreatedAt) > time.Hour {
			t.Errorf("the tenants are %+v", all)
		}
	}},
	{"are made once, and listed by name", func(t *testing.T, db DB) {
		for _, name := range []string{"zoo", "acme"} {
			made, err := db.Store.CreateTenant(ctx(t), name)
			if ok(t, err); made.Name != name || made.CreatedAt.IsZero() || !made.SuspendedAt.IsZero() {
				t.Errorf("made %+v", made)
			}
		}
		_, err := db.Second.CreateTenant(ctx(t), "acme")
		refused(t, err, tenancy.ErrExists)
		all, err := db.Second.ListTenants(ctx(t))
		if ok(t, err); len(all) != 3 || all[0].Name != "acme" || all[2].Name != "zoo" {
			t.Errorf("the tenants are %+v", all)
		}
		_, err = db.Store.GetTenant(ctx(t), "other")
		refused(t, err, tenancy.ErrNotFound)
	}},
	{"are suspended and resumed, and their tokens tell", func(t *testing.T, db DB) {
		_, err := db.Store.CreateTenant(ctx(t), "acme")
		ok(t, err)
		for i, name := range []string{"acme", session.DefaultTenant} {
			_, err := db.Store.CreateToken(ctx(t), auth.Token{
				ID: ident.New(), Tenant: name, Kind: auth.Client, Hash: []byte{byte(i)},
			}, 0)
			ok(t, err)
		}
		suspended := func(s store.Store, want bool) {
			t.Helper()
			for i, want := range []bool{want, false} {
				got, err := s.FindToken(ctx(t), []byte{byte(i)})
				if ok(t, err); got.Suspended != want {
					t.Errorf("token %d is suspended: %v", i, got.Suspended)
				}
			}
		}
		suspended(db.Second, false)
		first, err := db.Store.SuspendTenant(ctx(t), "acme", true)
		ok(t, err)
		suspended(db.Second, true)
		db.Advance(time.Hour)
		again, err := db.Second.SuspendTenant(ctx(t), "acme", true)
		ok(t, err)
		equal(t, "the tenant that is suspended twice", again, first)
		_, err = db.Second.SuspendTenant(ctx(t), "acme", false)
		ok(t, err)
		suspended(db.Store, false)
		_, err = db.Store.SuspendTenant(ctx(t), "other", true)
		refused(t, err, tenancy.ErrNotFound)
	}},
}
