package rows

import (
	"context"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/deletion"
	"github.com/pawl-dev/pawl/services/control/retention"
	"github.com/pawl-dev/pawl/services/control/run"
)

var (
	oldRuns = reads(`SELECT run_id, tenant, workflow FROM runs WHERE ended_at IS NOT NULL AND NOT swept
		AND ended_at <= {before $1} ORDER BY ended_at LIMIT $2 {skip locked}`)
	sweepRuns = writes(`UPDATE runs SET swept = true WHERE run_id IN (SELECT p.id FROM {ids $1} p)`)
)

// runs begins the deletion of those that ended long ago, each as a session: its workspace goes with its rows. These
// deletions are parts of none, so that nobody is told of them and nothing is left of them.
func (x batch) runs(ctx context.Context) (b retention.Batch, err error) {
	old, err := x.port.Query(ctx, oldRuns, x.age, x.limit)
	if err != nil || len(old) == 0 {
		return b, err
	}
	var swept texts
	for _, r := range old {
		id := r.text(0)
		swept = append(swept, id)
		if err := addDeletion(ctx, x.port, deletion.Deletion{
			ID: ident.New(), Kind: deletion.Session, Key: run.Key(r.text(1), r.text(2), id), SessionID: id,
			ParentID: noID,
		}); err != nil {
			return b, err
		}
	}
	b.Deleted, err = x.port.Exec(ctx, sweepRuns, swept.json())
	b.More = len(old) == x.limit
	return b, err
}
