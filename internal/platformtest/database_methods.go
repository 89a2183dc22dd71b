package platformtest

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/retention"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// Every method of a store, so that none escapes a test's strike: one that is new does not compile until it is here.
var _ store.Store = (*Database)(nil)

// Close implements store.Store: the database outlives its replicas.
func (d *Database) Close() error { return nil }

// Commit implements lane.Store.
func (d *Database) Commit(ctx context.Context, c lane.Commit) (lane.Committed, error) {
	return put(ctx, d, Step{Op: opOf(&c), Commit: &c}, func(ctx context.Context) (lane.Committed, error) {
		return d.db.Commit(ctx, c)
	})
}

// CreateSession implements session.Store.
func (d *Database) CreateSession(
	ctx context.Context, n session.New,
) (s session.Session, created bool, err error) {
	err = put0(ctx, d, "CreateSession", func(ctx context.Context) (err error) {
		s, created, err = d.db.CreateSession(ctx, n)
		return err
	})
	return s, created, err
}

// UpdateSession implements session.Store.
func (d *Database) UpdateSession(
	ctx context.Context, tenant, id string, c session.Change,
) (session.Session, error) {
	return put(ctx, d, Step{Op: "UpdateSession"}, func(ctx context.Context) (session.Session, error) {
		return d.db.UpdateSession(ctx, tenant, id, c)
	})
}

// ForkSession implements session.Store.
func (d *Database) ForkSession(ctx context.Context, f session.Fork) (session.Session, error) {
	return put(ctx, d, Step{Op: "ForkSession"}, func(ctx context.Context) (session.Session, error) {
		return d.db.ForkSession(ctx, f)
	})
}

// Steers implements submission.Store.
func (d *Database) Steers(ctx context.Context, headID string, after int64, limit int) ([]lane.Steer, error) {
	return ask(ctx, d, "Steers", func(ctx context.Context) ([]lane.Steer, error) {
		return d.db.Steers(ctx, headID, after, limit)
	})
}

// Claim implements lane.Store.
func (d *Database) Claim(ctx context.Context, owner string, kind lane.Kind, limit int) (lane.Claimed, error) {
	return d.lease(ctx, "Claim", func(ctx context.Context) (lane.Claimed, error) {
		return d.db.Claim(ctx, owner, kind, limit)
	})
}

// TakeOver implements lane.Store.
func (d *Database) TakeOver(ctx context.Context, owner string, dead []string, limit int) (lane.Claimed, error) {
	return d.lease(ctx, "TakeOver", func(ctx context.Context) (lane.Claimed, error) {
		return d.db.TakeOver(ctx, owner, dead, limit)
	})
}

func (d *Database) lease(
	ctx context.Context, op string, f func(context.Context) (lane.Claimed, error),
) (got lane.Claimed, err error) {
	s := Step{Op: op}
	err = d.use(ctx, &s, true, func(ctx context.Context) (err error) {
		got, err = f(ctx)
		s.Leases = len(got.Leases)
		return err
	})
	return got, err
}

// Own implements lane.Store.
func (d *Database) Own(ctx context.Context, owner string) ([]lane.Held, error) {
	return ask(ctx, d, "Own", func(ctx context.Context) ([]lane.Held, error) { return d.db.Own(ctx, owner) })
}

// Release implements lane.Store.
func (d *Database) Release(ctx context.Context, f lane.Fence, r lane.Release) error {
	return put0(ctx, d, "Release", func(ctx context.Context) error { return d.db.Release(ctx, f, r) })
}

// End implements lane.Store.
func (d *Database) End(
	ctx context.Context, f lane.Fence, outcome lane.Outcome, reason, message string,
) (lane.Ended, error) {
	return put(ctx, d, Step{Op: "End"}, func(ctx context.Context) (lane.Ended, error) {
		return d.db.End(ctx, f, outcome, reason, message)
	})
}

// Force implements lane.Store.
func (d *Database) Force(ctx context.Context, limit int) ([]lane.Ended, error) {
	return put(ctx, d, Step{Op: "Force"}, func(ctx context.Context) ([]lane.Ended, error) {
		return d.db.Force(ctx, limit)
	})
}

// Raise implements lane.Store.
func (d *Database) Raise(ctx context.Context, f lane.Fence, above int64) (lane.Fence, error) {
	return put(ctx, d, Step{Op: "Raise"}, func(ctx context.Context) (lane.Fence, error) {
		return d.db.Raise(ctx, f, above)
	})
}

// Post implements lane.Store.
func (d *Database) Post(ctx context.Context, laneIDs ...string) error {
	return put0(ctx, d, "Post", func(ctx context.Context) error { return d.db.Post(ctx, laneIDs...) })
}

// MoveMail implements lane.Store.
func (d *Database) MoveMail(ctx context.Context) ([]lane.Mailed, error) {
	return put(ctx, d, Step{Op: "MoveMail"}, d.db.MoveMail)
}

// LoopCalls implements call.Store.
func (d *Database) LoopCalls(ctx context.Context, loopID string, turn, index, limit int) ([]call.Call, error) {
	return ask(ctx, d, "LoopCalls", func(ctx context.Context) ([]call.Call, error) {
		return d.db.LoopCalls(ctx, loopID, turn, index, limit)
	})
}

// TurnCalls implements call.Store.
func (d *Database) TurnCalls(ctx context.Context, loopID string, turn int) ([]call.Call, error) {
	return ask(ctx, d, "TurnCalls", func(ctx context.Context) ([]call.Call, error) {
		return d.db.TurnCalls(ctx, loopID, turn)
	})
}

// Unended implements call.Store.
func (d *Database) Unended(ctx context.Context, loopID string) (call.Unended, error) {
	return ask(ctx, d, "Unended", func(ctx context.Context) (call.Unended, error) { return d.db.Unended(ctx, loopID) })
}

// Cancellations implements call.Store.
func (d *Database) Cancellations(ctx context.Context, rootID string) ([]call.Cancellation, error) {
	return ask(ctx, d, "Cancellations", func(ctx context.Context) ([]call.Cancellation, error) {
		return d.db.Cancellations(ctx, rootID)
	})
}

// UsedBelow implements store.Used.
func (d *Database) UsedBelow(ctx context.Context, rootID string) (answers int, usage model.Usage, err error) {
	usage, err = ask(ctx, d, "UsedBelow", func(ctx context.Context) (usage model.Usage, err error) {
		answers, usage, err = d.db.UsedBelow(ctx, rootID)
		return usage, err
	})
	return answers, usage, err
}

// WaitingCalls implements call.Store.
func (d *Database) WaitingCalls(ctx context.Context, executor string) ([]call.Waiting, error) {
	return ask(ctx, d, "WaitingCalls", func(ctx context.Context) ([]call.Waiting, error) {
		return d.db.WaitingCalls(ctx, executor)
	})
}

// Grant implements call.Store.
func (d *Database) Grant(ctx context.Context, g call.Grant) ([]call.Granted, error) {
	return put(ctx, d, Step{Op: "Grant"}, func(ctx context.Context) ([]call.Granted, error) {
		return d.db.Grant(ctx, g)
	})
}

// Rebind implements session.Store.
func (d *Database) Rebind(ctx context.Context, tenant, id, executor string) (session.Session, error) {
	return put(ctx, d, Step{Op: "Rebind"}, func(ctx context.Context) (session.Session, error) {
		return d.db.Rebind(ctx, tenant, id, executor)
	})
}

// PinOf implements store.Pinned.
func (d *Database) PinOf(ctx context.Context, loopID string) (store.Pin, error) {
	return ask(ctx, d, "PinOf", func(ctx context.Context) (store.Pin, error) { return d.db.PinOf(ctx, loopID) })
}

// CompleteCall implements call.Store.
func (d *Database) CompleteCall(ctx context.Context, o call.Outcome) (call.Call, error) {
	return put(ctx, d, Step{Op: "CompleteCall", Outcome: &o}, func(ctx context.Context) (call.Call,
		error,
	) {
		return d.db.CompleteCall(ctx, o)
	})
}

// OwnerOf implements replica.Store.
func (d *Database) OwnerOf(ctx context.Context, sessionID string) (r replica.Replica, ok bool, err error) {
	err = d.use(ctx, &Step{Op: "OwnerOf"}, false, func(ctx context.Context) (err error) {
		r, ok, err = d.db.OwnerOf(ctx, sessionID)
		return err
	})
	return r, ok, err
}

// FindSession implements session.Store.
func (d *Database) FindSession(ctx context.Context, key session.Key) (session.Session, error) {
	return ask(ctx, d, "FindSession", func(ctx context.Context) (session.Session,
		error,
	) {
		return d.db.FindSession(ctx, key)
	})
}

// GetSession implements session.Store.
func (d *Database) GetSession(ctx context.Context, tenant, id string) (session.Session, error) {
	return ask(ctx, d, "GetSession", func(ctx context.Context) (session.Session,
		error,
	) {
		return d.db.GetSession(ctx, tenant, id)
	})
}

// ListSessions implements session.Store.
func (d *Database) ListSessions(ctx context.Context, f session.Filter) ([]session.Session, error) {
	return ask(ctx, d, "ListSessions", func(ctx context.Context) ([]session.Session,
		error,
	) {
		return d.db.ListSessions(ctx, f)
	})
}

// Entries implements session.Store.
func (d *Database) Entries(ctx context.Context, sessionID string, after int64, limit int) ([]session.Entry, error) {
	return ask(ctx, d, "Entries", func(ctx context.Context) ([]session.Entry,
		error,
	) {
		return d.db.Entries(ctx, sessionID, after, limit)
	})
}

// Image implements session.Store.
func (d *Database) Image(ctx context.Context, sessionID, sha256 string) ([]byte, error) {
	return ask(ctx, d, "Image", func(ctx context.Context) ([]byte, error) { return d.db.Image(ctx, sessionID, sha256) })
}

// LastSummary implements session.Store.
func (d *Database) LastSummary(ctx context.Context, sessionID string) (e session.Entry, ok bool, err error) {
	e, err = ask(ctx, d, "LastSummary", func(ctx context.Context) (e session.Entry, err error) {
		e, ok, err = d.db.LastSummary(ctx, sessionID)
		return e, err
	})
	return e, ok, err
}

// GetSubmission implements submission.Store.
func (d *Database) GetSubmission(ctx context.Context, tenant, id string) (submission.Submission, error) {
	return ask(ctx, d, "GetSubmission", func(ctx context.Context) (submission.Submission,
		error,
	) {
		return d.db.GetSubmission(ctx, tenant, id)
	})
}

// ListSubmissions implements submission.Store.
func (d *Database) ListSubmissions(
	ctx context.Context, sessionID string, before int64, limit int,
) ([]submission.Submission, error) {
	return ask(ctx, d, "ListSubmissions", func(ctx context.Context) ([]submission.Submission, error) {
		return d.db.ListSubmissions(ctx, sessionID, before, limit)
	})
}

// GetCall implements call.Store.
func (d *Database) GetCall(ctx context.Context, id string) (call.Call, error) {
	return ask(ctx, d, "GetCall", func(ctx context.Context) (call.Call, error) { return d.db.GetCall(ctx, id) })
}

// DispatchedCalls implements call.Store.
func (d *Database) DispatchedCalls(ctx context.Context, executor string) ([]call.Call, error) {
	return ask(ctx, d, "DispatchedCalls", func(ctx context.Context) ([]call.Call,
		error,
	) {
		return d.db.DispatchedCalls(ctx, executor)
	})
}

// Events implements event.Store.
func (d *Database) Events(ctx context.Context, sessionID string, after int64, limit int) ([]event.Event, error) {
	return ask(ctx, d, "Events", func(ctx context.Context) ([]event.Event,
		error,
	) {
		return d.db.Events(ctx, sessionID, after, limit)
	})
}

// EventHeads implements event.Store.
func (d *Database) EventHeads(ctx context.Context, sessionIDs []string) (map[string]int64, error) {
	return ask(ctx, d, "EventHeads", func(ctx context.Context) (map[string]int64,
		error,
	) {
		return d.db.EventHeads(ctx, sessionIDs)
	})
}

// Admit implements submission.Store.
func (d *Database) Admit(ctx context.Context, a submission.Admission) (submission.Admitted, error) {
	return put(ctx, d, Step{Op: "Admit"}, func(ctx context.Context) (submission.Admitted,
		error,
	) {
		return d.db.Admit(ctx, a)
	})
}

// RequestAbortSession implements submission.Store.
func (d *Database) RequestAbortSession(
	ctx context.Context, tenant, sessionID string,
) (settled int, running string, err error) {
	err = d.use(ctx, &Step{Op: "RequestAbortSession"}, true, func(ctx context.Context) (err error) {
		settled, running, err = d.db.RequestAbortSession(ctx, tenant, sessionID)
		return err
	})
	return settled, running, err
}

// Settled implements submission.Store.
func (d *Database) Settled(ctx context.Context, ids []string) ([]string, error) {
	return ask(ctx, d, "Settled", func(ctx context.Context) ([]string, error) { return d.db.Settled(ctx, ids) })
}

// ExtendToken implements auth.Store.
func (d *Database) ExtendToken(ctx context.Context, id string, life time.Duration) error {
	return put0(ctx, d, "ExtendToken", func(ctx context.Context) error { return d.db.ExtendToken(ctx, id, life) })
}

// DeleteBatch implements retention.Store.
func (d *Database) DeleteBatch(
	ctx context.Context, kind retention.Kind, age time.Duration, limit int,
) (retention.Batch, error) {
	return put(ctx, d, Step{Op: "DeleteBatch"}, func(ctx context.Context) (retention.Batch, error) {
		return d.db.DeleteBatch(ctx, kind, age, limit)
	})
}

// RequestAbort implements submission.Store.
func (d *Database) RequestAbort(ctx context.Context, tenant, id string) (submission.Submission, error) {
	return put(ctx, d, Step{Op: "RequestAbort"}, func(ctx context.Context) (submission.Submission,
		error,
	) {
		return d.db.RequestAbort(ctx, tenant, id)
	})
}
