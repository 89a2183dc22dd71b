// Package deletion deletes sessions, instances and tenants, with all that belongs to them.
//
//	asked ──▶ session: its work ends ──▶ what others keep goes (Owners) ──▶ its rows go, in batches ──▶ done
//	     └──▶ instance, tenant: split into deletions of sessions ──▶ none is left ──▶ done
//	                                       of a tenant: its receipts are blanked, its tokens and executors go ──▶ done
//
// A deletion is a row, so that it goes on after a restart, at any replica. While it is open, its sessions take no
// prompts, see session.ErrDeleting.
//
// Invariants: no row of a session goes before its work has ended and its owners have let go of it; one transaction
// deletes a bounded number of rows and bytes; each step may be repeated; one that does not get on waits, and keeps no
// other one from its turn.
package deletion

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/session"
)

// ErrNotFound says that there is no such deletion for this caller.
var ErrNotFound = errs.New(errs.NotFound, "DELETION_NOT_FOUND", "no such deletion")

// Kind of what is deleted.
type Kind uint8

// Kinds, as numbered in the database.
const (
	Session Kind = iota + 1
	Instance
	Tenant
)

// State of the deletion of a session.
type State uint8

// States, as numbered in the database.
const (
	Ending State = iota // its work ends
	Owned               // no work is left, and no prompt gets in any more; what others keep goes
	Rows                // its rows go
)

// Deletion is what was asked to be deleted.
type Deletion struct {
	ID   string // UUIDv7
	Kind Kind
	// Key is of the session. Instance and tenant leave empty what may be anything.
	Key       session.Key
	SessionID string // of a session
	Executor  string // of a session: where its workspace is, "" when it has none
	ParentID  string // the deletion that this one is a part of
	State     State
	Attempts  int    // that did not get on, one after the other
	Cause     string // why the last did not
	AskedAt   time.Time
	DoneAt    time.Time // zero while it is open
	// IfIdle is that a session with submissions that have not settled is not deleted. It is not stored.
	IfIdle bool
}

// Batch is what one transaction did.
type Batch struct {
	Deleted int
	Done    bool // nothing is left
}

// Store keeps deletions and deletes rows. Clocks are the database's.
type Store interface {
	// BeginDeletion stores an open deletion. The times are filled in. When one with the same target is open, that is
	// returned. Of a session the id counts: the key is what that has by now. session.ErrNotFound, and session.ErrBusy
	// with IfIdle. session.ErrNoInstance when an instance has no sessions. A tenant is suspended and marked by the same
	// transaction; tenancy.ErrNotFound when there is none. One that is gone is answered with a deletion that is done.
	BeginDeletion(ctx context.Context, d Deletion) (Deletion, error)
	// GetDeletion returns the tenant's deletion, or ErrNotFound.
	GetDeletion(ctx context.Context, tenant, id string) (Deletion, error)
	// DeletionOf returns the last deletion of the tenant's session, or ErrNotFound.
	DeletionOf(ctx context.Context, tenant, sessionID string) (Deletion, error)
	// ListDeletions returns at most limit of the tenant's deletions that are no parts, newest first by id: those that
	// were asked for before the one with the id before, "" for the newest.
	ListDeletions(ctx context.Context, tenant, before string, limit int) ([]Deletion, error)
	// TakeDeletions returns at most limit open deletions that are due. They are not due again for so long: whoever took
	// them works on them meanwhile.
	TakeDeletions(ctx context.Context, keep time.Duration, limit int) ([]Deletion, error)
	// PostponeDeletion says that a deletion does not get on, and when it is due again.
	PostponeDeletion(ctx context.Context, id string, pause time.Duration, cause string) error
	// AdvanceDeletion moves a deletion to a later state, and returns it as it is then, with the executor that its
	// session is bound to by now. It has got on. ErrNotFound when it is done.
	AdvanceDeletion(ctx context.Context, id string, to State) (Deletion, error)
	// CloseSession removes the lane of a session at which nothing runs and nothing is queued: no work gets there any
	// more. It reports whether there is none now.
	CloseSession(ctx context.Context, sessionID string) (closed bool, err error)
	// PurgeSession deletes, in one transaction, at most limit rows (and about retention.MaxBytes) of a closed session
	// and its sub-agents', and keeps the deletion for so long from others. With the last row the deletion is done.
	PurgeSession(ctx context.Context, id string, keep time.Duration, limit int) (Batch, error)
	// SplitDeletion begins the deletions of at most limit sessions of an instance or a tenant. At most limit of its
	// parts are open at once. It reports how many it has begun, and whether none is left: then it is done. Of a tenant
	// without sessions it deletes, retention.MaxRows at a time, what else is its own.
	SplitDeletion(ctx context.Context, id string, limit int) (begun int, done bool, err error)
}

// Target is what owners let go of.
type Target struct {
	Deletion  string // its id: repeated calls have the same
	Key       session.Key
	SessionID string
	Executor  string // where the session's workspace is, "" when it has none
}

// Owner keeps something for sessions beside their rows: workspaces, sandboxes of providers, runs.
type Owner interface {
	// Name says what it keeps, for messages.
	Name() string
	// Delete removes what it keeps for a session that does not work any more. It may be called several times for one
	// session, and again after it succeeded. After an error it is called again later.
	Delete(ctx context.Context, t Target) error
}
