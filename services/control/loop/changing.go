package loop

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/event"
)

// Changing is a source whose tools come and go while a loop works. The loop asks it again between two turns when its
// version is another one.
type Changing interface {
	Source
	// Version changes when what Tools would return may have changed. It does not wait.
	Version(of Offer) string
}

// supply is what a loop has been offered, and what not.
type supply struct {
	version string   // of the sources that change
	missing []string // what cannot be offered and why
	told    bool     // those who watch have been told of it
}

// asOffer is the loop as sources see it.
func (l *loop) asOffer() Offer {
	return Offer{
		Definition: l.as.def, Loop: l.row, Depth: l.depth, Executor: l.tree.bound(), Activate: l.activate,
	}
}

// versions are those of all sources that change.
func (r *Runner) versions(of Offer) string {
	var all strings.Builder
	for _, source := range r.deps.Sources {
		if s, ok := source.(Changing); ok {
			fmt.Fprintf(&all, "%q", s.Version(of))
		}
	}
	return all.String()
}

// refreshTools gathers what the loop is offered anew if that may have changed since, and says what has. It is called
// between turns: the calls of a turn are those of the tools that its model was told of.
func (l *loop) refreshTools(ctx context.Context) error {
	before, was := l.as.tools.Names(), l.as.supply
	if l.tree.versions(l.asOffer()) != was.version {
		if err := l.offerTools(ctx); err != nil || l.end.stop != nil {
			return err
		}
	}
	change := event.Tools{}
	after := l.as.tools.Names()
	for _, name := range after {
		if !slices.Contains(before, name) {
			change.Added = append(change.Added, name)
		}
	}
	for _, name := range before {
		if !slices.Contains(after, name) {
			change.Removed = append(change.Removed, name)
		}
	}
	if missing := l.as.supply.missing; !slices.Equal(missing, was.missing) || !was.told {
		change.Missing = missing
	}
	l.as.supply.told = true
	if len(change.Added)+len(change.Removed)+len(change.Missing) > 0 {
		l.push(l.event(event.Event{Type: event.ToolsChanged, Tools: &change}))
	}
	return nil
}
