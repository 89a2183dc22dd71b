package deletion_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/deletion"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

// owner keeps something for sessions.
type owner struct {
	mu      sync.Mutex
	fails   int // so often first
	deleted []deletion.Target
}

func (o *owner) Name() string { return "workspaces" }

func (o *owner) Delete(_ context.Context, t deletion.Target) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fails > 0 {
		o.fails--
		return errors.New("the provider does not answer")
	}
	o.deleted = append(o.deleted, t)
	return nil
}

// dying is a store whose process dies after so many batches.
type dying struct {
	deletion.Store
	batches int
	die     func()
}

func (d *dying) PurgeSession(
	ctx context.Context, id string, keep time.Duration, _ int,
) (deletion.Batch, error) {
	if d.batches--; d.batches < 0 {
		d.die()
		return deletion.Batch{}, ctx.Err()
	}
	return d.Store.PurgeSession(ctx, id, keep, 2)
}

func ask(t *testing.T, p *planetest.Plane, instance string) submission.Submission {
	t.Helper()
	got, err := p.Submissions.Submit(t.Context(), submission.Input{
		Key: session.Key{Agent: "shell", Instance: instance}, Message: "hi",
	})
	if err != nil {
		t.Fatal(err)
	}
	return got.Submission
}

func answered(t *testing.T, p *planetest.Plane, instance string) submission.Submission {
	t.Helper()
	got := ask(t, p, instance)
	sub, err := p.Submissions.Wait(t.Context(), session.DefaultTenant, got.ID, submission.Forever)
	if err != nil || sub.Status != submission.SettledStatus {
		t.Fatal(sub, err)
	}
	return sub
}

func find(t *testing.T, p *planetest.Plane, id string) session.Session {
	t.Helper()
	s, err := p.Store.GetSession(t.Context(), session.DefaultTenant, id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// until runs the service until the deletion is done, or ctx ends.
func until(ctx context.Context, t *testing.T, p *planetest.Plane, s *deletion.Service, id string) {
	t.Helper()
	ctx, end := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	for range await.Ticks(ctx, 5*time.Millisecond) { // nothing tells that a deletion is done
		d, err := p.Store.GetDeletion(t.Context(), session.DefaultTenant, id)
		if err != nil {
			t.Fatal(err)
		}
		if !d.DoneAt.IsZero() {
			break
		}
	}
	end()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
}

func service(p *planetest.Plane, s deletion.Store, owners ...deletion.Owner) *deletion.Service {
	return deletion.NewService(deletion.Deps{
		Store: s, Aborter: p.Submissions, Owners: owners, Log: slog.New(slog.DiscardHandler),
	})
}

// A session goes with all that it has, after those that keep something for it have let go of that.
func TestASessionIsDeleted(t *testing.T) {
	p := planetest.New(t, modeltest.Always(modeltest.Say("hello")))
	sub := answered(t, p, "i")
	kept := &owner{fails: 1}
	s := service(p, p.Store, kept)
	d, err := s.DeleteSession(t.Context(), find(t, p, sub.SessionID), true)
	if err != nil {
		t.Fatal(err)
	}
	until(t.Context(), t, p, s, d.ID)
	if len(kept.deleted) != 1 || kept.deleted[0].SessionID != sub.SessionID || kept.deleted[0].Deletion != d.ID {
		t.Errorf("the owner was told of %+v", kept.deleted)
	}
	if _, err := p.Store.GetSession(t.Context(), session.DefaultTenant, sub.SessionID); !errors.Is(err,
		session.ErrNotFound) {
		t.Errorf("the session is still there: %v", err)
	}
	if again := answered(t, p, "i"); again.SessionID == sub.SessionID {
		t.Error("the name leads to the session that was deleted")
	}
}

// What runs is aborted, and readers of the stream are told that it is gone.
func TestWorkIsAbortedFirst(t *testing.T) {
	p := planetest.New(t, modeltest.Always(modeltest.Reply{modeltest.Hang()}))
	sub := ask(t, p, "i")
	one := find(t, p, sub.SessionID)
	s := service(p, p.Store)
	reader := p.Events.Subscribe(one.Key, event.Want{})
	defer reader.Close()
	d, err := s.DeleteSession(t.Context(), one, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Submissions.Submit(t.Context(), submission.Input{
		Key: one.Key, Message: "more",
	}); !errors.Is(err, session.ErrDeleting) {
		t.Errorf("a prompt meanwhile: %v", err)
	}
	until(t.Context(), t, p, s, d.ID)
	for _, err := range p.Events.Follow(t.Context(), reader, one.ID, 0, false) {
		if err != nil {
			if !errors.Is(err, session.ErrNotFound) {
				t.Error(err)
			}
			break
		}
	}
}

// A process that dies between two batches leaves the rest to the next one.
func TestDeletionGoesOnAfterACrash(t *testing.T) {
	p := planetest.New(t, modeltest.Always(modeltest.Say("hello")))
	sub := answered(t, p, "i")
	ctx, die := context.WithCancel(t.Context())
	first := service(p, &dying{p.Store, 2, die})
	d, err := first.DeleteSession(t.Context(), find(t, p, sub.SessionID), true)
	if err != nil {
		t.Fatal(err)
	}
	until(ctx, t, p, first, d.ID)
	half, err := p.Store.GetDeletion(t.Context(), session.DefaultTenant, d.ID)
	if err != nil || !half.DoneAt.IsZero() || half.State != deletion.Rows {
		t.Fatalf("after the crash: %+v, %v", half, err)
	}
	if err := p.Store.PostponeDeletion(t.Context(), d.ID, 0, ""); err != nil { // its time with the dead one is over
		t.Fatal(err)
	}
	until(t.Context(), t, p, service(p, p.Store), d.ID)
}

// mortal is a store whose process dies before or after any write.
type mortal struct {
	deletion.Store
	writes int // that it makes
	die    func()
}

// step makes a write, unless the process has died.
func step[T any](m *mortal, ctx context.Context, write func() (T, error)) (made T, err error) {
	if m.writes--; m.writes < 0 {
		m.die()
		return made, context.Cause(ctx)
	}
	return write()
}

func (m *mortal) CloseSession(ctx context.Context, id string) (bool, error) {
	return step(m, ctx, func() (bool, error) { return m.Store.CloseSession(ctx, id) })
}

func (m *mortal) AdvanceDeletion(ctx context.Context, id string, to deletion.State) (deletion.Deletion, error) {
	return step(m, ctx, func() (deletion.Deletion, error) { return m.Store.AdvanceDeletion(ctx, id, to) })
}

func (m *mortal) PurgeSession(ctx context.Context, id string, _ time.Duration, _ int) (deletion.Batch, error) {
	return step(m, ctx, func() (deletion.Batch, error) { return m.Store.PurgeSession(ctx, id, 0, 3) })
}

func (m *mortal) SplitDeletion(ctx context.Context, id string, _ int) (begun int, done bool, err error) {
	begun, err = step(m, ctx, func() (int, error) {
		begun, done, err = m.Store.SplitDeletion(ctx, id, 1)
		return begun, err
	})
	return begun, done, err
}

// TakeDeletions has no deletion wait for a process that has died.
func (m *mortal) TakeDeletions(ctx context.Context, _ time.Duration, limit int) ([]deletion.Deletion, error) {
	return m.Store.TakeDeletions(ctx, 0, limit)
}

func (m *mortal) PostponeDeletion(ctx context.Context, id string, _ time.Duration, cause string) error {
	return m.Store.PostponeDeletion(ctx, id, 5*time.Millisecond, cause)
}

// A tenant goes with its sessions, what runs among them too, and its tokens, whichever write its process dies at.
// Nothing of another tenant goes.
func TestATenantIsDeletedWhateverDies(t *testing.T) {
	for died, writes := true, 0; died; writes++ {
		p := planetest.New(t, modeltest.Always(modeltest.Reply{modeltest.Hang()}))
		if _, err := p.Store.CreateTenant(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		secret, _, err := auth.NewService(p.Store).Mint(t.Context(), auth.Token{Kind: auth.Client, Tenant: "acme"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, instance := range []string{"a", "b"} {
			if _, err := p.Submissions.Submit(t.Context(), submission.Input{
				Key:     session.Key{Tenant: "acme", Agent: "shell", Instance: instance},
				Message: "hi", IdempotencyKey: "k",
			}); err != nil {
				t.Fatal(err)
			}
		}
		theirs := ask(t, p, "a")
		ctx, die := context.WithCancel(t.Context())
		first := service(p, &mortal{p.Store, writes, die})
		if _, err := first.DeleteTenant(ctx, "acme"); err != nil {
			t.Fatal(err)
		}
		untilGone(ctx, t, p, first)
		died = ctx.Err() != nil
		untilGone(t.Context(), t, p, service(p, &mortal{p.Store, 1 << 30, die}))
		die()
		left, err := p.Store.ListSessions(t.Context(), session.Filter{Tenant: "acme", Limit: 10})
		if err != nil || len(left) > 0 {
			t.Errorf("dead at write %d: %d sessions are left, %v", writes, len(left), err)
		}
		if _, err := auth.NewService(p.Store).Authenticate(t.Context(), secret); !errors.Is(err,
			auth.ErrUnauthenticated) {
			t.Errorf("dead at write %d: its token: %v", writes, err)
		}
		if sub, err := p.Store.GetSubmission(t.Context(), session.DefaultTenant, theirs.ID); err != nil ||
			sub.Status == submission.SettledStatus {
			t.Errorf("dead at write %d: what another tenant runs: %+v, %v", writes, sub, err)
		}
		if writes > 100 {
			t.Fatal("it does not end")
		}
	}
}

// untilGone runs the service until nothing is left of the tenant acme, or ctx ends.
func untilGone(ctx context.Context, t *testing.T, p *planetest.Plane, s *deletion.Service) {
	t.Helper()
	ctx, end := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	for range await.Ticks(ctx, 2*time.Millisecond) { // nothing tells that a tenant is gone
		// Asked again, the service looks at once.
		if _, err := s.DeleteTenant(ctx, "acme"); err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
		one, err := p.Store.GetTenant(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		if !one.DeletedAt.IsZero() {
			break
		}
	}
	end()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
}

func TestTenantsThatCannotBeDeleted(t *testing.T) {
	p := planetest.New(t, nil)
	for name, want := range map[string]error{
		session.DefaultTenant: tenancy.ErrDefault, "": tenancy.ErrNotFound, "nobody": tenancy.ErrNotFound,
		"A B": tenancy.ErrNotFound,
	} {
		if _, err := service(p, p.Store).DeleteTenant(t.Context(), name); !errors.Is(err, want) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// The conversation of a sub-agent goes with the session that it works for only.
func TestSubAgentsGoWithTheirSession(t *testing.T) {
	p := planetest.New(t, nil)
	of := session.Session{ID: ident.New(), ParentID: ident.New()}
	_, err := service(p, p.Store).DeleteSession(t.Context(), of, true)
	if !errors.Is(err, submission.ErrSubAgent) {
		t.Error(err)
	}
}
