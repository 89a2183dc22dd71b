package postgres_test

import (
	"testing"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
)

// A row that cannot be decoded keeps nobody else's lane, executor or token from being found.
func TestDamagedRowsStopNothingElse(t *testing.T) {
	address := migrated.URL(t)
	s, conn := open(t, address, postgres.Options{}), raw(t, address)
	labels := auth.Labels{"k": "v"}
	for _, name := range []string{"bad", "good"} {
		if err := s.CreateToken(t.Context(), auth.Token{
			ID: ident.New(), Tenant: session.DefaultTenant, Kind: auth.Executor, Executor: name, Labels: labels,
			Hash: []byte(name),
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Admit(t.Context(), admission(name, "")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Connect(t.Context(), fleet.Executor{ID: name, Labels: map[string]string{"k": "v"}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range []string{
		`UPDATE submissions SET usage = '"x"', cancellation = '['
			WHERE session_id = (SELECT session_id FROM sessions WHERE name = 'bad')`,
		`UPDATE executors SET labels = '[1]' WHERE executor_id = 'bad'`,
		`UPDATE tokens SET labels = '[1]' WHERE executor = 'bad'`,
	} {
		if _, err := conn.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Claim(t.Context(), live(t, s), lane.KindSession, 10)
	if err != nil || len(got.Leases) != 1 || got.Leases[0].Root().Key.Name != "good" || len(got.Unreadable) != 1 {
		t.Errorf("claimed %+v, %v", got, err)
	}
	if all, err := s.ListExecutors(t.Context()); err != nil || len(all) != 2 || len(all[0].Labels) != 0 ||
		len(all[1].Labels) != 1 {
		t.Errorf("executors: %+v, %v", all, err)
	}
	// What a token is limited to is never guessed.
	if all, err := s.ListTokens(t.Context(), session.DefaultTenant); err != nil || len(all) != 1 ||
		all[0].Executor != "good" {
		t.Errorf("tokens: %+v, %v", all, err)
	}
	if _, err := s.FindToken(t.Context(), []byte("bad")); err == nil {
		t.Error("a token lets somebody in whose limits cannot be read")
	}
}
