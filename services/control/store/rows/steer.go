package rows

import (
	"context"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/lane"
)

var listSteers = reads(`SELECT submission_id, seq, input FROM submissions WHERE host_id = $1 AND when_busy = 1
	AND status + 0 = 0 AND options IS NULL AND seq > $2 ORDER BY seq LIMIT $3`)

// Steers implements submission.Store.
func (t *Tables) Steers(ctx context.Context, headID string, after int64, limit int) ([]lane.Steer, error) {
	if !ident.IsUUID(headID) {
		return nil, nil
	}
	found, err := list(ctx, t, func(r Row) (lane.Steer, error) {
		return lane.Steer{ID: r.text(0), Seq: r.int(1), Input: r.blob(2)}, nil
	}, listSteers, headID, after, limit)
	return found, wrap("list what waits to join", err)
}
