// Package fleet is the executors that control knows: what they offer, where they are connected, which of them gets a
// workspace, and which calls get their slots.
//
//	          ┌──── Hello: connection_epoch + 1 ────┐
//	          ▼                                     │
//	unknown ──▶ connected ──its connection ended──▶ away
//	                │                                ▲
//	                └── Draining ──▶ draining ───────┘
//
// A connected executor may say Hello again, at any replica: its older connection is superseded then. One that drains is
// connected and gets nothing new. A row names the replica that has the executor's connection. While that replica has no
// lease, the executor is away, whatever the row says.
//
// Invariants: an executor has at most one connection in the whole control plane, the one with the highest
// connection_epoch. A workspace stays on the executor that its first call went to. An executor whose Hello does not
// continue the journal of the last one under its name has another journal, whatever it is called (Journal). A slot has
// one call (Granter).
package fleet

import (
	"context"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// Failures of this package's operations.
var (
	ErrNotFound = errs.New(errs.NotFound, "EXECUTOR_NOT_FOUND", "no such executor")
	// ErrChanged refuses a connection that was decided on by a row that has changed since.
	ErrChanged = errs.New(errs.Aborted, "EXECUTOR_CHANGED", "the executor has connected elsewhere meanwhile")
	// ErrContended refuses a connection that cannot be decided on now.
	ErrContended = errs.New(errs.Unavailable, "NAME_CONTENDED", "others connect under this name at the same time; "+
		"try again")
)

// Missing is ErrNotFound about an id.
func Missing(id string) error { return ErrNotFound.With("no such executor: %s", id) }

// Executor is what is known of one executor, with a field for each column.
type Executor struct {
	ID     string
	Tenant string // of its token
	Shared bool   // it serves other tenants too, see Serves
	// JournalID is control's own id of the executor's journal: a new one for every Hello that does not continue the
	// journal of the last one. What an absence from a journal proves is bound to it.
	JournalID       string
	Journal         Journal
	Labels          map[string]string
	Slots           int
	Version         string
	Root            string
	Isolation       string
	Draining        bool
	ConnectionEpoch int64
	Replica         string // "" while away
	ReplicaAddr     string // where other replicas reach that one
	LastSeen        time.Time
	Running         int            // calls dispatched to it
	Tools           []tool.Offered // that it offers, by name
}

// Connected reports whether a replica holds its connection.
func (e Executor) Connected() bool { return e.Replica != "" }

// unisolated is the isolation of commands that see one another's files and processes.
const unisolated = "none"

// Serves reports whether workspaces of a tenant may be there: those of the executor's own tenant and, when it is
// shared, of all. Without isolation they would see one another's, so that it serves its own tenant only, unless that is
// allowed.
func (e Executor) Serves(tenant string, sharedNone bool) bool {
	return e.Tenant == tenant || e.Shared && (sharedNone || e.Isolation != unisolated && e.Isolation != "")
}

// Offers finds a tool that the executor offers.
func (e Executor) Offers(name string) (tool.Offered, bool) {
	i := slices.IndexFunc(e.Tools, func(o tool.Offered) bool { return o.Name == name })
	if i < 0 {
		return tool.Offered{}, false
	}
	return e.Tools[i], true
}

// offersOf is how many of some tools the executor offers.
func (e Executor) offersOf(names []string) (n int) {
	for _, name := range names {
		if _, ok := e.Offers(name); ok {
			n++
		}
	}
	return n
}

// Has reports whether the executor has all of these labels. Its token guarantees those that it has.
func (e Executor) Has(labels map[string]string) bool {
	for k, v := range labels {
		if got, ok := e.Labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// Store keeps executors.
type Store interface {
	// Connect records a new connection at e.Replica. e.ConnectionEpoch is the last one that the caller has seen of this
	// executor, 0 for none; the new one is higher by one. ErrChanged when there is another one by now.
	Connect(ctx context.Context, e Executor) (epoch int64, err error)
	// Disconnect records the end of a connection, and that the executor's journal has begun so many calls at least. It
	// does nothing when there is a newer connection.
	Disconnect(ctx context.Context, id string, epoch, begun int64) error
	// SetBegun records how many calls the executor's journal has begun, unless more are known. False when the
	// connection is not the executor's present one.
	SetBegun(ctx context.Context, id string, epoch, begun int64) (bool, error)
	// SetDraining records that the executor takes nothing new.
	SetDraining(ctx context.Context, id string, epoch int64) error
	// GetExecutor returns an executor or ErrNotFound. An executor whose replica is dead counts as away.
	GetExecutor(ctx context.Context, id string) (Executor, error)
	// ListExecutors returns all, by id.
	ListExecutors(ctx context.Context) ([]Executor, error)
}
