package postgres_test

import (
	"testing"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
)

// waitingCall is a call that waits for a slot of a connected executor, and the grant that lets it begin.
func waitingCall(t *testing.T, s *postgres.Store) call.Grant {
	t.Helper()
	epoch, err := s.Connect(t.Context(), fleet.Executor{ID: "executor"})
	if err != nil {
		t.Fatal(err)
	}
	l := start(t, s, "a", live(t, s))
	c, id := step(l), ident.New()
	c.Steps[0].Calls = []call.Call{{ID: id, Turn: 1, EntrySeq: 2, Executor: "executor"}}
	if _, err := commit(t.Context(), s, l, c); err != nil {
		t.Fatal(err)
	}
	return call.Grant{Executor: "executor", ConnectionEpoch: epoch, Journal: "journal", CallIDs: []string{id}}
}

// TestGrantWaitsForANewConnection: what the old connection's replica grants meanwhile is nothing.
func TestGrantWaitsForANewConnection(t *testing.T) {
	address := migrated.URL(t)
	s := open(t, address, postgres.Options{})
	g := waitingCall(t, s)
	tx, err := raw(t, address).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `UPDATE executors SET connection_epoch = connection_epoch + 1`); err != nil {
		t.Fatal(err)
	}
	granted := make(chan []call.Granted, 1)
	go func() {
		got, err := s.Grant(t.Context(), g)
		if err != nil {
			t.Error(err)
		}
		granted <- got
	}()
	until(t, raw(t, address), someoneWaits)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-granted; len(got) != 0 {
		t.Errorf("granted %+v over a connection that has ended", got)
	}
	if waiting, err := s.WaitingCalls(t.Context(), "executor"); err != nil || len(waiting) != 1 {
		t.Errorf("%+v wait, %v", waiting, err)
	}
}

// TestConnectWaitsForAGrant: the new connection finds what the old one's replica has granted among what is dispatched.
func TestConnectWaitsForAGrant(t *testing.T) {
	address := migrated.URL(t)
	s := open(t, address, postgres.Options{})
	g := waitingCall(t, s)
	tx, err := raw(t, address).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The grant has to wait half-way.
	if _, err := tx.Exec(t.Context(), `SELECT 1 FROM tool_calls FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	granted, connected := make(chan []call.Granted, 1), make(chan int64, 1)
	go func() {
		got, err := s.Grant(t.Context(), g)
		if err != nil {
			t.Error(err)
		}
		granted <- got
	}()
	watch := raw(t, address)
	until(t, watch, someoneWaits)
	go func() {
		epoch, err := s.Connect(t.Context(), fleet.Executor{ID: "executor", ConnectionEpoch: g.ConnectionEpoch})
		if err != nil {
			t.Error(err)
		}
		connected <- epoch
	}()
	until(t, watch, twoWait)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-granted; len(got) != 1 || got[0].Dispatch != 1 || got[0].CallID != g.CallIDs[0] {
		t.Errorf("granted %+v", got)
	}
	if epoch := <-connected; epoch != g.ConnectionEpoch+1 {
		t.Errorf("connected with epoch %d", epoch)
	}
	if calls, err := s.DispatchedCalls(t.Context(), "executor"); err != nil || len(calls) != 1 {
		t.Errorf("dispatched: %+v, %v", calls, err)
	}
}
