package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/deletion"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// An admission that has found a session, and waits for its lane while somebody takes its name or begins to delete it,
// does not get in: else a session that was rewound would go on, and one that was idle would be deleted with a prompt
// that was accepted.
func TestAdmissionsDoNotGetIntoWhatWasClosedMeanwhile(t *testing.T) {
	var rewound session.Session
	rewind := func(ctx context.Context, s *postgres.Store, of submission.Submission) (err error) {
		rewound, err = s.ForkSession(ctx, session.Fork{
			New: session.New{Key: session.Key{Tenant: of.Key.Tenant}}, From: of.SessionID, Rewinds: true,
		})
		return err
	}
	erase := func(ctx context.Context, s *postgres.Store, of submission.Submission) error {
		_, err := s.BeginDeletion(ctx, deletion.Deletion{
			ID: ident.New(), Kind: deletion.Session, Key: of.Key, SessionID: of.SessionID, IfIdle: true,
		})
		return err
	}
	for name, test := range map[string]struct {
		meanwhile func(context.Context, *postgres.Store, submission.Submission) error
		pinned    bool
		want      error
	}{
		"rewound, by name": {rewind, false, nil},
		"rewound, by id":   {rewind, true, session.ErrRewound},
		"deleted, by name": {erase, false, session.ErrDeleting},
		"deleted, by id":   {erase, true, session.ErrDeleting},
	} {
		t.Run(name, func(t *testing.T) {
			address := migrated.URL(t)
			s, other := open(t, address, postgres.Options{}), open(t, address, postgres.Options{})
			first, err := s.Admit(t.Context(), admission("a", ""))
			if err != nil {
				t.Fatal(err)
			}
			of := first.Submission
			if _, _, err := s.RequestAbortSession(t.Context(), of.Key.Tenant, of.SessionID); err != nil {
				t.Fatal(err)
			}
			tx, err := raw(t, address).Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
			if _, err := tx.Exec(t.Context(), `SELECT 1 FROM lanes FOR UPDATE`); err != nil {
				t.Fatal(err)
			}
			closed, admitted := make(chan error, 1), make(chan error, 1)
			go func() { closed <- test.meanwhile(t.Context(), other, of) }()
			watch := raw(t, address)
			until(t, watch, someoneWaits)
			a := admission("a", "")
			if test.pinned {
				a.SessionID = of.SessionID
			}
			var got submission.Admitted
			go func() {
				var err error
				got, err = s.Admit(t.Context(), a)
				admitted <- err
			}()
			until(t, watch, `SELECT count(*) = 2 FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event_type = 'Lock'`)
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := <-closed; err != nil {
				t.Fatal(err)
			}
			if err := <-admitted; !errors.Is(err, test.want) {
				t.Errorf("admitted with %v, want %v", err, test.want)
			}
			if test.want == nil && got.Submission.SessionID != rewound.ID {
				t.Errorf("it goes to %s, and the name leads to %s", got.Submission.SessionID, rewound.ID)
			}
			if old, err := s.GetSession(t.Context(), of.Key.Tenant, of.SessionID); err != nil || old.Pending != 0 {
				t.Errorf("what was closed: %+v, %v", old, err)
			}
		})
	}
}
