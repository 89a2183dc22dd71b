package platformtest

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/model"
)

// PauseModel implements model.Pauses.
func (d *Database) PauseModel(ctx context.Context, key string, p model.Pause) error {
	return put0(ctx, d, "PauseModel", func(ctx context.Context) error { return d.db.PauseModel(ctx, key, p) })
}

// ModelPause implements model.Pauses.
func (d *Database) ModelPause(ctx context.Context, key string) (model.Pause, error) {
	return ask(ctx, d, "ModelPause", func(ctx context.Context) (model.Pause, error) {
		return d.db.ModelPause(ctx, key)
	})
}
