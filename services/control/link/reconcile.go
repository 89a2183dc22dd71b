package link

import (
	"context"
	"maps"
	"slices"
	"time"
)

const (
	// compareEvery is how often a connection compares the rows of calls with what its executor has.
	compareEvery = 30 * time.Second
	// cancelGrace is between TERM and KILL of a call that nobody waits for.
	cancelGrace = time.Second
)

// compare is C4, after Hello and again every compareEvery. A call that the executor may have and that is open here for
// nobody is cancelled: it ended without the executor's word, by force, or as lost, or was sent to another executor. A
// call that is open here and was not asked for over this connection is left to its lane's owner, who is told that the
// executor is here and attaches. It costs one query, and time in proportion to the open calls.
//
// Whoever ends a call by force sends its Cancel at once (Server.Send). This is for those that get lost.
func (c *connection) compare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	// Taken before the rows are read: what is asked for later is open, although those rows may not say so.
	had := c.calls.snapshot()
	rows, err := c.dispatched(ctx)
	if err != nil {
		return err
	}
	absent := map[string]bool{} // lanes whose owners have not asked over this connection
	open := map[string]bool{}
	for _, row := range rows {
		open[row.ID] = true
		if !had[row.ID].asked {
			absent[row.LaneID] = true
		}
	}
	epochs := map[string]int64{} // the highest that the executor has seen of a lane
	for _, h := range had {
		epochs[h.lane] = max(epochs[h.lane], h.epoch)
	}
	for id, h := range had {
		if open[id] {
			continue
		}
		if m := c.calls.overdue(id, epochs[h.lane]); m != nil {
			c.out.put(encode(m))
		}
	}
	if len(absent) > 0 {
		c.server.changed(slices.Collect(maps.Keys(absent))...)
	}
	return nil
}
