package loop

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/workspace"
)

// Store is what loops read. They write through the lane's owner.
type Store interface {
	Entries(ctx context.Context, sessionID string, after int64, limit int) ([]session.Entry, error)
	Image(ctx context.Context, sessionID, sha256 string) ([]byte, error)
	LastSummary(ctx context.Context, sessionID string) (session.Entry, bool, error)
	TurnCalls(ctx context.Context, loopID string, turn int) ([]call.Call, error)
	Unended(ctx context.Context, loopID string) (call.Unended, error)
	Cancellations(ctx context.Context, rootID string) ([]call.Cancellation, error)
	GetSession(ctx context.Context, tenant, id string) (session.Session, error)
	// Steers returns what waits to join the head, see package submission.
	Steers(ctx context.Context, headID string, after int64, limit int) ([]lane.Steer, error)
	// Approvals and grants, see approval.Store.
	TurnApprovals(ctx context.Context, loopID string, turn int) ([]approval.Approval, error)
	ExpireApproval(ctx context.Context, id string) (approval.Approval, error)
	LaneGrants(ctx context.Context, laneID string) ([]approval.Grant, error)
}

// Publisher hands committed events to watchers.
type Publisher interface {
	Publish(laneID string, key session.Key, events []event.Event)
	// Watched reports whether anybody here wants the deltas of a session's root loops as they come, WatchedTask those
	// of a sub-agent.
	Watched(key session.Key) bool
	WatchedTask(key session.Key, task string) bool
}

// Models resolves models.
type Models interface {
	Model(ref model.Ref) (model.Model, error)
}

// Definitions returns pinned definitions.
type Definitions interface {
	Definition(ctx context.Context, digest string) (agent.Definition, error)
}

// Fleet chooses and finds executors.
type Fleet interface {
	Place(ctx context.Context, w fleet.Wanted) (fleet.Executor, bool, error)
	Find(ctx context.Context, id string) (fleet.Executor, error)
	// Offering is the executor whose tools a workspace has, or would have; ok is false when there is none.
	Offering(ctx context.Context, w fleet.Wanted) (e fleet.Executor, ok bool, err error)
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

// Deps are what a Runner works with.
type Deps struct {
	Store     Store
	Events    Publisher
	Models    Models
	Agents    Definitions
	Fleet     Fleet
	Executors Executors
	Slots     Slots
	// Workspaces are the files of executors; nil: models are told of none.
	Workspaces workspace.Files
	// Sources have tools, in the order in which models are told of them; nil is Sources(). Those of executors come
	// last.
	Sources []Source
	Lookup  agent.Lookup // of variables that agents' env refers to
	Builtin string       // id of the built-in executor, "" for none
	Log     *slog.Logger // nil is the default one
	// DisconnectGrace is how long calls wait for an executor that is away. Zero is 2 minutes.
	DisconnectGrace time.Duration
	// Streams is how many answers of models stream at once. Zero is 1000.
	Streams int
}

func (d Deps) withDefaults() Deps {
	if d.DisconnectGrace == 0 {
		d.DisconnectGrace = 2 * time.Minute
	}
	if d.Streams == 0 {
		d.Streams = 1000
	}
	if d.Log == nil {
		d.Log = slog.Default()
	}
	if d.Sources == nil {
		d.Sources = Sources()
	}
	d.Sources = append(slices.Clip(d.Sources), offered{d.Fleet, d.Builtin})
	return d
}
