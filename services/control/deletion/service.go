package deletion

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/retention"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

const (
	// keep is how long a replica has a deletion for itself without a batch. Then another one goes on with it.
	keep = 30 * time.Second
	// every is how often a replica looks for deletions.
	every = time.Second
	// atOnce is how many deletions it takes at a time, and splitInto how many parts of one are open at once.
	atOnce    = 8
	splitInto = 200
	// A deletion that does not get on is due again after a pause, which doubles.
	shortest, longest = time.Second, 5 * time.Minute
)

// errWorks says that the work of a session has not ended yet.
var errWorks = errors.New("the work that runs was aborted, and has not ended yet")

// Aborter ends the work of sessions. It tells their owners and readers.
type Aborter interface {
	AbortSession(ctx context.Context, tenant, sessionID string) (settled int, running *submission.Submission, err error)
}

// Deps are what a Service works with.
type Deps struct {
	Store   Store
	Aborter Aborter
	// Closed is told of sessions whose rows begin to go: readers of their streams look, and find them gone.
	Closed func(sessionID string)
	Owners []Owner
	Log    *slog.Logger // nil is slog's default
}

// Service accepts deletions and carries them out. Every replica runs one.
type Service struct {
	Deps
	asked await.Signal
}

// NewService makes a Service.
func NewService(d Deps) *Service {
	if d.Log == nil {
		d.Log = slog.Default()
	}
	if d.Closed == nil {
		d.Closed = func(string) {}
	}
	return &Service{Deps: d, asked: await.NewSignal()}
}

// DeleteSession accepts the deletion of a session. What has not settled is aborted; without abort, session.ErrBusy
// refuses a session that has such. Errors: session.ErrNotFound, submission.ErrSubAgent.
func (s *Service) DeleteSession(ctx context.Context, of session.Session, abort bool) (Deletion, error) {
	if of.ParentID != "" {
		return Deletion{}, submission.ErrSubAgent.With("the conversation of a sub-agent is deleted with the session " +
			"that it works for: delete that")
	}
	begun, err := s.begin(ctx, Deletion{Kind: Session, Key: of.Key, SessionID: of.ID, IfIdle: !abort})
	switch {
	case errors.Is(err, session.ErrBusy):
		err = session.ErrBusy.With("the session has submissions that have not settled: wait for them, or delete it " +
			"with abort")
	case errors.Is(err, session.ErrNotFound): // its rows went meanwhile
		if done, none := s.Store.DeletionOf(ctx, of.Key.Tenant, of.ID); none == nil {
			return done, nil
		}
	}
	return begun, err
}

// DeleteInstance accepts the deletion of all sessions of an instance. Errors: INVALID_NAME, session.ErrNoInstance.
func (s *Service) DeleteInstance(ctx context.Context, tenant, agent, instance string) (Deletion, error) {
	if err := errors.Join(ident.CheckAgent(agent), ident.CheckInstance(instance)); err != nil {
		return Deletion{}, err
	}
	return s.begin(ctx, Deletion{Kind: Instance, Key: session.Key{Tenant: tenant, Agent: agent, Instance: instance}})
}

// DeleteTenant accepts the deletion of a tenant: of its sessions, tokens and executors. Its clients are refused from
// now on. Errors: tenancy.ErrNotFound, tenancy.ErrDefault.
func (s *Service) DeleteTenant(ctx context.Context, name string) (Deletion, error) {
	switch {
	case name == session.DefaultTenant:
		return Deletion{}, tenancy.ErrDefault
	case ident.CheckTenant(name) != nil:
		return Deletion{}, tenancy.ErrNotFound
	}
	return s.begin(ctx, Deletion{Kind: Tenant, Key: session.Key{Tenant: name}})
}

func (s *Service) begin(ctx context.Context, d Deletion) (Deletion, error) {
	d.ID = ident.New()
	d, err := s.Store.BeginDeletion(ctx, d)
	if err == nil {
		s.asked.Set()
	}
	return d, err
}

// Run carries out deletions until ctx ends. What fails is tried again later.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := s.pass(ctx); err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "looking for deletions failed, trying again later", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.asked:
		case <-tick.C:
		}
	}
}

// pass works on what is due until nothing is.
func (s *Service) pass(ctx context.Context) error {
	for {
		due, err := s.Store.TakeDeletions(ctx, keep, atOnce)
		if err != nil || len(due) == 0 {
			return err
		}
		for _, d := range due {
			if err := s.work(ctx, d); err != nil {
				return err
			}
		}
	}
}

// work carries a deletion on as far as it gets. It fails when the database does not answer.
func (s *Service) work(ctx context.Context, d Deletion) error {
	cause := contain.Do(func() error { return s.carryOut(ctx, d) })
	if cause == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	pause := shortest
	if !errors.Is(cause, errWorks) {
		pause = longest
		if d.Attempts < 8 {
			pause = shortest << d.Attempts
		}
		s.Log.WarnContext(ctx, "a deletion does not get on, trying again later", "deletion_id", d.ID, "error", cause)
	}
	return s.Store.PostponeDeletion(ctx, d.ID, pause, cause.Error())
}

// carryOut returns why the deletion does not get on, nil once it is done.
func (s *Service) carryOut(ctx context.Context, d Deletion) (err error) {
	if d.Kind != Session {
		return s.split(ctx, d)
	}
	if d.State == Ending {
		if d, err = s.end(ctx, d); err != nil {
			return err
		}
	}
	if d.State == Owned {
		if err := s.disown(ctx, d); err != nil {
			return err
		}
	}
	return s.purge(ctx, d)
}

// end aborts what runs and is queued, and closes the session once nothing does.
func (s *Service) end(ctx context.Context, d Deletion) (Deletion, error) {
	_, _, err := s.Aborter.AbortSession(ctx, d.Key.Tenant, d.SessionID)
	if err != nil && !errors.Is(err, session.ErrNotFound) { // an earlier try may have closed it
		return d, fmt.Errorf("aborting its work: %w", err)
	}
	closed, err := s.Store.CloseSession(ctx, d.SessionID)
	switch {
	case err != nil:
		return d, fmt.Errorf("closing the session: %w", err)
	case !closed:
		return d, errWorks
	}
	s.Closed(d.SessionID)
	return s.Store.AdvanceDeletion(ctx, d.ID, Owned)
}

// disown lets all owners remove what they keep.
func (s *Service) disown(ctx context.Context, d Deletion) error {
	t := Target{Deletion: d.ID, Key: d.Key, SessionID: d.SessionID, Executor: d.Executor}
	var all []error
	for _, o := range s.Owners {
		if err := o.Delete(ctx, t); err != nil {
			all = append(all, fmt.Errorf("deleting %s: %w", o.Name(), err))
		}
	}
	if err := errors.Join(all...); err != nil {
		return err
	}
	_, err := s.Store.AdvanceDeletion(ctx, d.ID, Rows)
	return err
}

// purge deletes the rows. Between batches it pauses for as long as a batch took, as retention does.
func (s *Service) purge(ctx context.Context, d Deletion) error {
	for {
		began := time.Now()
		b, err := s.Store.PurgeSession(ctx, d.ID, keep, retention.MaxRows)
		if err != nil {
			return fmt.Errorf("deleting its rows: %w", err)
		}
		if b.Done {
			s.Log.DebugContext(ctx, "a session is deleted", "deletion_id", d.ID, "session_id", d.SessionID)
			return nil
		}
		if err := await.Sleep(ctx, time.Since(began)); err != nil {
			return err
		}
	}
}

// split makes an instance or a tenant the sum of its sessions.
func (s *Service) split(ctx context.Context, d Deletion) error {
	begun, done, err := s.Store.SplitDeletion(ctx, d.ID, splitInto)
	switch {
	case err != nil:
		return fmt.Errorf("looking for its sessions: %w", err)
	case done:
		return nil
	case begun > 0:
		s.asked.Set()
	}
	return errWorks
}
