package postgres_test

import (
	"context"
	"slices"
	"testing"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
)

// listener hears what others notify.
type listener struct {
	heard chan []string
}

func listen(t *testing.T, s *postgres.Store) *listener {
	l := &listener{heard: make(chan []string, 1000)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Listen(ctx, func(ids []string) { l.heard <- ids }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l
}

const someoneListens = `SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN pawl%' AND state = 'idle')`

func TestNotesReachOtherStores(t *testing.T) {
	address := migrated.URL(t)
	s, other := open(t, address, postgres.Options{}), open(t, address, postgres.Options{})
	l := listen(t, s)
	until(t, raw(t, address), someoneListens)
	var ids []string
	for range 1000 { // more than one payload
		ids = append(ids, ident.New())
	}
	s.Notify("own")
	other.Notify(ids...)
	var got []string
	for len(got) < len(ids) {
		got = append(got, <-l.heard...)
	}
	slices.Sort(got)
	slices.Sort(ids)
	if !slices.Equal(got, ids) {
		t.Errorf("heard %d ids that differ from the %d notified ones", len(got), len(ids))
	}
}

func TestLostNotesAreTold(t *testing.T) {
	address := migrated.URL(t)
	s, other := open(t, address, postgres.Options{}), open(t, address, postgres.Options{})
	l, conn := listen(t, s), raw(t, address)
	until(t, conn, someoneListens)
	if _, err := conn.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND query ILIKE 'LISTEN pawl%'`); err != nil {
		t.Fatal(err)
	}
	if got := <-l.heard; got != nil {
		t.Errorf("heard %v", got)
	}
	other.Notify("a")
	if got := <-l.heard; !slices.Equal(got, []string{"a"}) {
		t.Errorf("heard %v", got)
	}
}
