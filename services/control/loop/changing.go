package loop

import (
	"context"
	"fmt"
	"slices"

	"github.com/pawl-dev/pawl/services/control/event"
)

// Changing is a source whose tools come and go while a loop works. The loop asks it again between two turns when its
// version is another one.
type Changing interface {
	Source
	// Version changes when what Tools would return may have changed; it is never "". known is false while nobody can
	// say, as when an executor is away: what was offered stands. It does not wait for executors and servers.
	Version(ctx context.Context, of Offer) (version string, known bool, err error)
}

// supply is what a loop has been offered, and what not.
type supply struct {
	version []string // of the sources that change
	missing []string // what cannot be offered and why
	told    bool     // those who watch have been told of it
}

// asOffer is the loop as sources see it.
func (l *loop) asOffer() Offer {
	return Offer{
		Definition: l.as.def, Loop: l.row, Depth: l.depth, Executor: l.tree.Executor(), Activate: l.activate,
	}
}

// versions are those of all sources that change. Of one that cannot say it is the one before, "" for none.
func (r *Runner) versions(ctx context.Context, of Offer, before []string) (all []string, err error) {
	for _, source := range r.deps.Sources {
		s, ok := source.(Changing)
		if !ok {
			continue
		}
		version, known, err := s.Version(ctx, of)
		switch {
		case err != nil:
			return nil, fmt.Errorf("looking for changes of a loop's tools: %w", err)
		case known:
			all = append(all, version)
		case len(all) < len(before):
			all = append(all, before[len(all)])
		default:
			all = append(all, "")
		}
	}
	return all, nil
}

// refreshTools gathers what the loop is offered anew if that may have changed since, and says what has. It is called
// between turns: the calls of a turn are those of the tools that its model was told of.
func (l *loop) refreshTools(ctx context.Context) error {
	before, was := l.as.Tools.Callable(), l.as.supply
	version, err := l.tree.versions(ctx, l.asOffer(), was.version)
	if err != nil {
		return err
	}
	if !slices.Equal(version, was.version) {
		if err := l.offerTools(ctx); err != nil || l.end.stop != nil {
			return err
		}
	}
	change := event.Tools{}
	after := l.as.Tools.Callable()
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
		l.Push(l.Event(event.Event{Type: event.ToolsChanged, Tools: &change}))
	}
	return nil
}
