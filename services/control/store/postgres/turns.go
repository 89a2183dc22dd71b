package postgres

import (
	"sync"

	"github.com/pawl-dev/pawl/services/control/lane"
)

// turns is whose turn it is when lanes are claimed: of several tenants whose lanes wait, each has some claimed before
// any has some claimed again. Each replica keeps its own. Safe for concurrent use.
type turns struct {
	mu    sync.Mutex
	kinds map[lane.Kind]turn
}

// turn is of lanes of one kind.
type turn struct {
	crowded bool   // the last claim has left lanes that are due
	last    string // the tenant that was served last
}

// of is the turn of a kind. Nobody takes turns unless lanes are left waiting.
func (t *turns) of(kind lane.Kind) (last string, crowded bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.kinds[kind]
	return one.last, one.crowded
}

// took notes what was claimed.
func (t *turns) took(kind lane.Kind, out *lane.Claimed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.kinds[kind]
	one.crowded = out.Next <= 0
	if served := lastInTurn(one.last, out.Leases); served != "" {
		one.last = served
	}
	if t.kinds == nil {
		t.kinds = map[lane.Kind]turn{}
	}
	t.kinds[kind] = one
}

// lastInTurn is the tenant among those of leases whose turn comes last when it begins after one.
func lastInTurn(after string, leases []lane.Lease) (last string) {
	for i := range leases {
		tenant := leases[i].Root().Key.Tenant
		wraps, wrapped := tenant <= after, last <= after
		if last == "" || wraps && !wrapped || wraps == wrapped && tenant > last {
			last = tenant
		}
	}
	return last
}
