// Package store names what a database does for control: the sum of what the domain packages ask for.
//
// postgres and sqlite implement it natively; storetest is the contract that both pass. Rows never leave them.
package store

import (
	"context"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/deletion"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/retention"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

// Store is a database. All methods may be called concurrently.
type Store interface {
	session.Store
	approval.Store
	run.Store
	submission.Store
	lane.Store
	call.Store
	event.Store
	fleet.Store
	replica.Store
	auth.Store
	audit.Store
	retention.Store
	deletion.Store
	tenancy.Store
	model.Pauses
	Definitions
	Pinned
	Used
	Notifier
	// Close ends all work and waits for it.
	Close() error
}

// Definitions keeps the definitions of agents and of workflows that work is pinned to, by digest.
type Definitions interface {
	// PutDefinition stores a definition, or keeps a stored one from being deleted as unused for retention.RecordAge.
	PutDefinition(ctx context.Context, digest, name string, body []byte) error
	// GetDefinition returns a definition's body, or ErrDefinitionNotFound.
	GetDefinition(ctx context.Context, digest string) ([]byte, error)
}

// Pin is the definitions whose secrets count for a loop, by digest. In a session that is the agent of the head. In a
// run it is the workflow, and the agent that carries out the step, "" where a step does without; its sub-agents work
// with what it works with.
type Pin struct{ Agent, Workflow string }

// Pinned tells which definitions work runs with.
type Pinned interface {
	// PinOf returns what a loop is pinned to, or submission.ErrNotFound.
	PinOf(ctx context.Context, loopID string) (Pin, error)
}

// Used tells what loops have used.
type Used interface {
	// UsedBelow returns what those loops had used that a root has asked itself and that have ended: how often their
	// models had answered, and what they and all below them have cost.
	UsedBelow(ctx context.Context, rootID string) (answers int, usage model.Usage, err error)
}

// Notifier tells other replicas of one database that rows of a session changed. It is a hint: everything that waits
// polls too.
type Notifier interface {
	// Shared reports whether other processes may write to the database. Nobody polls for their work where it is not.
	Shared() bool
	// Notify queues hints and returns at once.
	Notify(sessionIDs ...string)
	// Listen calls f with the sessions that other replicas notified, and with nil when hints may have been lost (after
	// a reconnect). It returns when ctx ends. A database of one process has nobody to hear and just waits.
	Listen(ctx context.Context, f func(sessionIDs []string)) error
}

// ErrDefinitionNotFound says that no definition with the digest is stored.
var ErrDefinitionNotFound = errs.New(errs.NotFound, "DEFINITION_NOT_FOUND", "no such agent definition")
