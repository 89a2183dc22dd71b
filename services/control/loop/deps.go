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
	"github.com/pawl-dev/pawl/services/control/turn"
	"github.com/pawl-dev/pawl/services/control/workspace"
)

// Store is what loops read. They write through the lane's owner.
type Store interface {
	turn.Store
	Entries(ctx context.Context, sessionID string, after int64, limit int) ([]session.Entry, error)
	Image(ctx context.Context, sessionID, sha256 string) ([]byte, error)
	LastSummary(ctx context.Context, sessionID string) (session.Entry, bool, error)
	Unended(ctx context.Context, loopID string) (call.Unended, error)
	Cancellations(ctx context.Context, rootID string) ([]call.Cancellation, error)
	// Steers returns what waits to join the head, see package submission.
	Steers(ctx context.Context, headID string, after int64, limit int) ([]lane.Steer, error)
	// FindSession returns the session with a key, or session.ErrNotFound.
	FindSession(ctx context.Context, key session.Key) (session.Session, error)
	// UsedBelow returns what loops had used, see store.Used.
	UsedBelow(ctx context.Context, rootID string) (answers int, usage model.Usage, err error)
	// LaneGrants returns what is granted, see approval.Store.
	LaneGrants(ctx context.Context, laneID string) ([]approval.Grant, error)
}

// Publisher hands committed events to watchers.
type Publisher interface {
	turn.Watchers
	Publish(laneID string, key session.Key, events []event.Event)
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
	turn.Fleet
	// Offering is the executor whose tools a workspace has, or would have; ok is false when there is none.
	Offering(ctx context.Context, w fleet.Wanted) (e fleet.Executor, ok bool, err error)
}

// Deps are what a Runner works with.
type Deps struct {
	Store     Store
	Events    Publisher
	Models    Models
	Agents    Definitions
	Fleet     Fleet
	Executors turn.Executors
	Slots     turn.Slots
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

func (d Deps) calls() turn.Deps {
	return turn.Deps{
		Store: d.Store, Watchers: d.Events, Fleet: d.Fleet, Executors: d.Executors, Slots: d.Slots, Builtin: d.Builtin,
		Log: d.Log, DisconnectGrace: d.DisconnectGrace,
	}
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
