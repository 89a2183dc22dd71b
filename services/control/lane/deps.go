package lane

import (
	"log/slog"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// Publisher hands committed events to watchers.
type Publisher interface {
	Publish(laneID string, key session.Key, events []event.Event)
}

// Deps are what a Worker works with.
type Deps struct {
	Store   Store
	Runners map[Kind]Runner
	Events  Publisher
	Bus     *wake.Bus
	Log     *slog.Logger // nil is the default one
	// MayReap says whether replicas whose lease has expired may count as dead. nil is always.
	MayReap func() bool
	// Slots is how many lanes run at once. Zero is 10,000.
	Slots int
}

func (d Deps) withDefaults() Deps {
	if d.Slots == 0 {
		d.Slots = 10_000
	}
	if d.MayReap == nil {
		d.MayReap = func() bool { return true }
	}
	if d.Log == nil {
		d.Log = slog.Default()
	}
	return d
}
