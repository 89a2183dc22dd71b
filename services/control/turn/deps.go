package turn

import (
	"context"
	"log/slog"
	"time"

	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/session"
)

// Store is what is read of calls. They are written through the lane's owner.
type Store interface {
	TurnCalls(ctx context.Context, loopID string, turn int) ([]call.Call, error)
	GetSession(ctx context.Context, tenant, id string) (session.Session, error)
	// Approvals, see approval.Store.
	TurnApprovals(ctx context.Context, loopID string, turn int) ([]approval.Approval, error)
	ExpireApproval(ctx context.Context, id string) (approval.Approval, error)
}

// Watchers are those who follow streams here.
type Watchers interface {
	// Watched reports whether anybody wants the deltas of a stream's roots as they come, WatchedTask those of a
	// sub-agent.
	Watched(key session.Key) bool
	WatchedTask(key session.Key, task string) bool
}

// Fleet chooses and finds executors.
type Fleet interface {
	Place(ctx context.Context, w fleet.Wanted) (fleet.Executor, bool, error)
	Find(ctx context.Context, id string) (fleet.Executor, error)
	// Local returns an executor that is connected to this replica.
	Local(id string) (fleet.Executor, bool)
}

// Executors sends to executors, wherever they are connected. A message that cannot be sent is an error and otherwise a
// hint: only a report proves that it arrived.
type Executors interface {
	Send(ctx context.Context, executor string, m call.Message) error
}

// Slots are the slots of executors, see package link. An executor of which nothing is known here takes any call.
type Slots interface {
	// TryDispatch takes a slot of an executor that is connected here for a call that is to be inserted as dispatched.
	TryDispatch(executor, callID string) (fleet.Executor, bool)
	// Wait queues calls that were inserted as pending. An error says that the replica which the executor is connected
	// to was not told.
	Wait(ctx context.Context, q call.Queued) error
	// Freed says that calls have ended, or were not inserted as dispatched.
	Freed(executor string, callIDs ...string)
}

// Deps are what calls are carried out with.
type Deps struct {
	Store     Store
	Watchers  Watchers
	Fleet     Fleet
	Executors Executors
	Slots     Slots
	Builtin   string // id of the built-in executor, "" for none
	Log       *slog.Logger
	// DisconnectGrace is how long calls wait for an executor that is away.
	DisconnectGrace time.Duration
}
