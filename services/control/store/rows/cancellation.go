package rows

import (
	"context"
	"fmt"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/call"
)

var listCancellations = reads(`SELECT submission_id, cancellation FROM submissions
	WHERE root_id = $1 AND parent_call IS NOT NULL AND status = 2 AND cancellation IS NOT NULL`)

// Cancellations implements call.Store.
func (t *Tables) Cancellations(ctx context.Context, rootID string) ([]call.Cancellation, error) {
	if !ident.IsUUID(rootID) {
		return nil, nil
	}
	found, err := list(ctx, t, func(r Row) (c call.Cancellation, err error) {
		if err = r.json(1, &c); err != nil {
			err = fmt.Errorf("the cancellation of loop %s: %w", r.text(0), err)
		}
		return c, err
	}, listCancellations, rootID)
	return found, wrap("list cancellations", err)
}
