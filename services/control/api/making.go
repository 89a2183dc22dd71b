package api

import (
	"context"
	"encoding/json"

	"google.golang.org/protobuf/types/known/structpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/session"
)

var (
	errMetadata = errs.New(errs.InvalidArgument, "METADATA", "metadata is a JSON object of finite numbers, texts, "+
		"booleans, lists and objects")
	errNoCut = errs.New(errs.InvalidArgument, "NO_CUT", "").WithFacts(map[string]string{"field": "at"},
		"at is missing: say the seq of the last entry that is to stay, 0 for none")
)

// decodeMetadata is metadata as it is stored: equal objects are equal texts. Nil is none.
func decodeMetadata(m *structpb.Struct) (json.RawMessage, error) {
	if m == nil {
		return nil, nil
	}
	b, err := json.Marshal(m.AsMap())
	if err != nil {
		return nil, errMetadata
	}
	return b, nil
}

// mayMake checks that the caller may make sessions of an agent in an instance.
func (s *sessions) mayMake(ctx context.Context, of session.Key) error {
	err := may(ctx, auth.MakeSessions, auth.Resource{Agent: of.Agent, Missing: agent.Missing(of.Agent)})
	if err != nil {
		return s.deps.withKnown(ctx, err)
	}
	return may(ctx, auth.MakeSessions, auth.Resource{Instance: of.Instance})
}

// CreateSession implements SessionService.
func (s *sessions) CreateSession(
	ctx context.Context, req *pawlv1.CreateSessionRequest,
) (*pawlv1.CreateSessionResponse, error) {
	n := session.New{Key: decodeKey(ctx, req.GetKey()), Labels: req.GetLabels()}
	if err := s.mayMake(ctx, n.Key); err != nil {
		return nil, err
	}
	if _, err := s.deps.Agents.Get(n.Key.Tenant, n.Key.Agent); err != nil {
		return nil, s.deps.withKnown(ctx, err)
	}
	var err error
	if n.Metadata, err = decodeMetadata(req.GetMetadata()); err != nil {
		return nil, err
	}
	made, created, err := session.NewService(s.deps.Sessions).Create(ctx, n)
	if err != nil {
		return nil, err
	}
	names(ctx, "session_id="+made.ID)
	return &pawlv1.CreateSessionResponse{Session: encodeSession(made), Created: created}, nil
}

// change is a session that the caller may change.
func (s *sessions) change(ctx context.Context, id string) (session.Session, error) {
	if err := may(ctx, auth.MakeSessions, auth.Resource{}); err != nil {
		return session.Session{}, err
	}
	return s.deps.find(ctx, id)
}

// UpdateSession implements SessionService.
func (s *sessions) UpdateSession(
	ctx context.Context, req *pawlv1.UpdateSessionRequest,
) (*pawlv1.UpdateSessionResponse, error) {
	one, err := s.change(ctx, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	c := session.Change{Set: req.GetSetLabels(), Remove: req.GetRemoveLabels()}
	if c.Metadata, err = decodeMetadata(req.GetMetadata()); err != nil {
		return nil, err
	}
	if one, err = session.NewService(s.deps.Sessions).Update(ctx, tenant(ctx), one.ID, c); err != nil {
		return nil, err
	}
	return &pawlv1.UpdateSessionResponse{Session: encodeSession(one)}, nil
}

// ForkSession implements SessionService.
func (s *sessions) ForkSession(
	ctx context.Context, req *pawlv1.ForkSessionRequest,
) (*pawlv1.ForkSessionResponse, error) {
	one, err := s.change(ctx, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	f := session.Fork{From: one.ID, At: req.GetAt()}
	f.Key = session.Key{
		Tenant: tenant(ctx), Agent: one.Key.Agent, Instance: req.GetInstance(), Name: req.GetName(),
	}
	f.Labels = req.GetLabels()
	if err := may(ctx, auth.MakeSessions, auth.Resource{Instance: f.Key.Instance}); err != nil {
		return nil, err
	}
	if f.Metadata, err = decodeMetadata(req.GetMetadata()); err != nil {
		return nil, err
	}
	made, moved, err := session.NewService(s.deps.Sessions).Fork(ctx, f)
	if err != nil {
		return nil, err
	}
	names(ctx, "fork_id="+made.ID)
	return &pawlv1.ForkSessionResponse{Session: encodeSession(made), Moved: moved}, nil
}

// RewindSession implements SessionService.
func (s *sessions) RewindSession(
	ctx context.Context, req *pawlv1.RewindSessionRequest,
) (*pawlv1.RewindSessionResponse, error) {
	one, err := s.change(ctx, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	if req.At == nil {
		return nil, errNoCut
	}
	f := session.Fork{From: one.ID, At: req.GetAt(), Rewinds: true}
	f.Key.Tenant = tenant(ctx)
	made, moved, err := session.NewService(s.deps.Sessions).Fork(ctx, f)
	if err != nil {
		return nil, err
	}
	names(ctx, "fork_id="+made.ID)
	return &pawlv1.RewindSessionResponse{Session: encodeSession(made), Moved: moved}, nil
}
