package rows

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/retention"
)

var (
	// The longer pause stays. One that is longer than any can be was written by a clock that was wrong.
	pauseModel = writes(`INSERT INTO model_pauses (key, until, kind, cause) VALUES ($1, {after $2}, $3, $4)
		ON CONFLICT (key) DO UPDATE SET until = excluded.until, kind = excluded.kind, cause = excluded.cause
		WHERE model_pauses.until < excluded.until OR model_pauses.until > {after $5}`)
	modelPause = reads(`SELECT until, {now}, kind, cause FROM model_pauses
		WHERE key = $1 AND until > {now} AND until <= {after $2}`)
	deletePauses = writes(`WITH found AS MATERIALIZED (SELECT key FROM model_pauses
		WHERE until <= {before $1} ORDER BY until LIMIT $2 {skip locked})
		DELETE FROM model_pauses WHERE key IN (SELECT key FROM found)`)
)

// PauseModel implements model.Pauses.
func (t *Tables) PauseModel(ctx context.Context, key string, p model.Pause) error {
	_, err := t.port.Exec(ctx, deletePauses, int64(0), retention.MaxRows)
	if err == nil {
		_, err = t.port.Exec(ctx, pauseModel, key, p.Left.Microseconds(), string(p.Kind), p.Cause,
			model.MaxPause.Microseconds())
	}
	return wrap("pause model", err)
}

// ModelPause implements model.Pauses.
func (t *Tables) ModelPause(ctx context.Context, key string) (model.Pause, error) {
	p, err := one(ctx, t.port, pause, nil, modelPause, key, model.MaxPause.Microseconds())
	return p, wrap("find the pause of a model", err)
}

func pause(r Row) (model.Pause, error) {
	left := time.Duration(r.int(0)-r.int(1)) * time.Microsecond
	return model.Pause{Left: left, Kind: model.Kind(r.text(2)), Cause: r.text(3)}, nil
}
