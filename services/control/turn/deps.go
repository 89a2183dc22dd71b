package turn

import (
	"context"
	"log/slog"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
)

// Store is what runs read and write.
type Store interface {
	Claim(ctx context.Context, owner string, limit int) ([]submission.Lease, error)
	TakeOver(ctx context.Context, owner string, dead []string, limit int) ([]submission.Lease, error)
	TakeOverdue(ctx context.Context, owner string, grace time.Duration, limit int) ([]submission.Lease, error)
	Commit(ctx context.Context, c submission.Commit) (submission.Committed, error)
	OwnedLanes(ctx context.Context, owner string) ([]submission.Fence, error)
	Release(ctx context.Context, f submission.Fence) error
	ReleaseStalled(ctx context.Context, f submission.Fence) error
	AbortRequests(ctx context.Context, owner string) ([]submission.AbortRequest, error)
	Entries(ctx context.Context, sessionID string, after int64, limit int) ([]session.Entry, error)
	LostCalls(ctx context.Context, sessionID string, submissionSeq int64) ([]call.Call, error)
	Events(ctx context.Context, sessionID string, after int64, limit int) ([]event.Event, error)
	TurnCalls(ctx context.Context, sessionID string, submissionSeq int64, turn int) ([]call.Call, error)
}

// Publisher hands committed events to watchers.
type Publisher interface {
	Publish(key session.Key, events []event.Event)
	Watched(key session.Key) bool
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
}

// Executors sends to executors, wherever they are connected. A message that cannot be sent is an error and otherwise a
// hint: only a report proves that it arrived.
type Executors interface {
	Send(ctx context.Context, executor string, m call.Message) error
}

// Hints tells other replicas that a session's rows changed.
type Hints interface{ Notify(sessionIDs ...string) }

// Deps are what a Worker works with.
type Deps struct {
	Store       Store
	Events      Publisher
	Models      Models
	Definitions Definitions
	Fleet       Fleet
	Executors   Executors
	Hints       Hints
	Tools       tool.Set     // all that agents can name; empty is builtin.Tools
	Lookup      agent.Lookup // of variables that agents' env refers to
	Builtin     string       // id of the built-in executor, "" for none
	Log         *slog.Logger
	// MayReap says whether replicas whose lease has expired may count as dead. nil is always.
	MayReap func() bool
	// DisconnectGrace is how long calls wait for an executor that is away. Zero is 2 minutes.
	DisconnectGrace time.Duration
	// Slots is how many submissions run at once. Zero is 1000.
	Slots int
}

func (d Deps) withDefaults() Deps {
	if len(d.Tools.Names()) == 0 {
		d.Tools = builtin.Tools()
	}
	if d.DisconnectGrace == 0 {
		d.DisconnectGrace = 2 * time.Minute
	}
	if d.Slots == 0 {
		d.Slots = 1000
	}
	if d.MayReap == nil {
		d.MayReap = func() bool { return true }
	}
	if d.Log == nil {
		d.Log = slog.Default()
	}
	return d
}
