package api

import (
	"context"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/model"
)

// Models tells of models.
type Models interface {
	// List is all that is known of one provider's models; of "" those that agents name and those of the providers file.
	// They are sorted by name.
	List(provider string) []model.Description
}

type models struct {
	pawlv1.UnimplementedModelServiceServer
	deps Deps
}

// ListModels implements ModelService.
func (m *models) ListModels(ctx context.Context, req *pawlv1.ListModelsRequest) (*pawlv1.ListModelsResponse, error) {
	if err := may(ctx, auth.ReadModels, auth.Resource{}); err != nil {
		return nil, err
	}
	if err := checkRef("provider", req.GetProvider()); err != nil {
		return nil, err
	}
	page, next, err := pageOf(m.deps.Models.List(req.GetProvider()), req, func(d model.Description) string {
		return d.Ref.String()
	})
	if err != nil {
		return nil, err
	}
	return &pawlv1.ListModelsResponse{Models: encodeAll(page, encodeModel), NextPageToken: next}, nil
}

func encodeModel(d model.Description) *pawlv1.Model {
	out := &pawlv1.Model{
		Model: clean(d.Ref.String()), Api: string(d.API), Vision: d.Info.Images, Thinking: d.Info.Thinks,
		ThinkingLevels: d.Info.Efforts, KeyEnv: d.KeyEnv, KeySet: d.KeySet,
	}
	if d.Info.Window > 0 {
		out.Window = &d.Info.Window
	}
	if d.Info.MaxOutput > 0 {
		out.MaxOutput = &d.Info.MaxOutput
	}
	if p := d.Info.Price; p != nil {
		out.Price = &pawlv1.ModelPrice{
			Input: p.Input, Output: p.Output, CacheRead: p.CacheRead, CacheWrite: p.CacheWrite,
			Search: p.Search,
		}
	}
	if d.Problem != nil {
		out.Problem = clean(d.Problem.Error())
	}
	return out
}
