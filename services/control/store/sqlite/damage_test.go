package sqlite

import (
	"testing"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/session"
)

// A row that cannot be decoded keeps nobody else's lane, executor or token from being found.
func TestDamagedRowsStopNothingElse(t *testing.T) {
	s := openAt(t, Memory)
	defer closeStore(t, s)
	tokens := []auth.Token{
		{ID: ident.New(), Tenant: session.DefaultTenant, Kind: auth.Client, Agents: []string{"a"}, Hash: []byte("bad")},
		{
			ID: ident.New(), Tenant: session.DefaultTenant, Kind: auth.Client, Agents: []string{"a"},
			Hash: []byte("good"),
		},
	}
	for i, name := range []string{"bad", "good"} {
		if _, err := s.Admit(t.Context(), admission(name)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Connect(t.Context(), fleet.Executor{ID: name, Labels: map[string]string{"k": "v"}}); err != nil {
			t.Fatal(err)
		}
		if err := s.CreateToken(t.Context(), tokens[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.write(t.Context(), func(x tx) error {
		x.wrote = true
		for _, q := range []string{
			`UPDATE submissions SET usage = '{', cancellation = '[' WHERE rowid = 1`,
			`UPDATE executors SET labels = '{' WHERE executor_id = 'bad'`, `UPDATE tokens SET agents = '{' WHERE rowid = 1`,
		} {
			if _, err := x.raw.ExecContext(t.Context(), q, nil); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	dead := ident.New()
	if leases, err := s.Claim(t.Context(), dead, 10); err != nil || len(leases) != 2 {
		t.Errorf("claimed %d lanes, want 2: %v", len(leases), err)
	}
	if leases, err := s.TakeOver(t.Context(), ident.New(), []string{dead}, 10); err != nil || len(leases) != 2 {
		t.Errorf("took over %d lanes, want 2: %v", len(leases), err)
	}
	if all, err := s.ListExecutors(t.Context()); err != nil || len(all) != 2 || len(all[0].Labels) != 0 ||
		len(all[1].Labels) != 1 {
		t.Errorf("executors: %+v, %v", all, err)
	}
	// What a token is limited to is never guessed.
	if all, err := s.ListTokens(t.Context(), session.DefaultTenant); err != nil || len(all) != 1 ||
		all[0].ID != tokens[1].ID {
		t.Errorf("tokens: %+v, %v", all, err)
	}
	if _, err := s.FindToken(t.Context(), []byte("bad")); err == nil {
		t.Error("a token lets somebody in whose limits cannot be read")
	}
}
