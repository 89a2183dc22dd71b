package api

import (
	"context"
	"errors"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/deletion"
	"github.com/pawl-dev/pawl/services/control/session"
)

// Deletions are what was deleted, and how far that is.
type Deletions interface {
	GetDeletion(ctx context.Context, tenant, id string) (deletion.Deletion, error)
	DeletionOf(ctx context.Context, tenant, sessionID string) (deletion.Deletion, error)
	ListDeletions(ctx context.Context, tenant, before string, limit int) ([]deletion.Deletion, error)
}

type deletions struct {
	pawlv1.UnimplementedDeletionServiceServer
	deps Deps
}

// DeleteSession implements DeletionService.
func (d *deletions) DeleteSession(
	ctx context.Context, req *pawlv1.DeleteSessionRequest,
) (*pawlv1.DeleteSessionResponse, error) {
	if err := may(ctx, auth.Delete, auth.Resource{}); err != nil {
		return nil, err
	}
	one, err := d.find(ctx, req)
	if errors.Is(err, session.ErrNotFound) { // its rows may be going already
		begun, of := d.deps.Deletions.DeletionOf(ctx, tenant(ctx), req.GetSessionId())
		if of == nil && sees(ctx, auth.Delete, begun) {
			return &pawlv1.DeleteSessionResponse{Deletion: encodeDeletion(begun)}, nil
		}
	}
	if err != nil {
		return nil, err
	}
	begun, err := d.deps.Deleter.DeleteSession(ctx, one, req.GetAbort())
	if err != nil {
		return nil, err
	}
	names(ctx, "deletion_id="+begun.ID)
	return &pawlv1.DeleteSessionResponse{Deletion: encodeDeletion(begun)}, nil
}

// find is the session that is to be deleted.
func (d *deletions) find(ctx context.Context, req *pawlv1.DeleteSessionRequest) (session.Session, error) {
	k := req.GetKey()
	if k == nil {
		return d.deps.find(ctx, req.GetSessionId())
	}
	if err := checkKey(k); err != nil {
		return session.Session{}, err
	}
	key := decodeKey(ctx, k)
	if err := may(ctx, auth.Delete, auth.Resource{
		Agent: key.Agent, Instance: key.Instance, Missing: session.ErrNotFound,
	}); err != nil {
		return session.Session{}, err
	}
	return d.deps.Sessions.FindSession(ctx, key)
}

// DeleteInstance implements DeletionService.
func (d *deletions) DeleteInstance(
	ctx context.Context, req *pawlv1.DeleteInstanceRequest,
) (*pawlv1.DeleteInstanceResponse, error) {
	if err := may(ctx, auth.Delete, auth.Resource{
		Agent: req.GetAgent(), Instance: req.GetInstance(), Missing: session.ErrNoInstance,
	}); err != nil {
		return nil, err
	}
	begun, err := d.deps.Deleter.DeleteInstance(ctx, tenant(ctx), req.GetAgent(), req.GetInstance())
	if err != nil {
		return nil, err
	}
	names(ctx, "deletion_id="+begun.ID)
	return &pawlv1.DeleteInstanceResponse{Deletion: encodeDeletion(begun)}, nil
}

// GetDeletion implements DeletionService.
func (d *deletions) GetDeletion(
	ctx context.Context, req *pawlv1.GetDeletionRequest,
) (*pawlv1.GetDeletionResponse, error) {
	if err := may(ctx, auth.ReadDeletions, auth.Resource{}); err != nil {
		return nil, err
	}
	one, err := d.deps.Deletions.GetDeletion(ctx, tenant(ctx), req.GetDeletionId())
	if err == nil && !sees(ctx, auth.ReadDeletions, one) {
		err = deletion.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return &pawlv1.GetDeletionResponse{Deletion: encodeDeletion(one)}, nil
}

// ListDeletions implements DeletionService.
func (d *deletions) ListDeletions(
	ctx context.Context, req *pawlv1.ListDeletionsRequest,
) (*pawlv1.ListDeletionsResponse, error) {
	if err := may(ctx, auth.ReadDeletions, auth.Resource{}); err != nil {
		return nil, err
	}
	limit, before, err := pageByID(req)
	if err != nil {
		return nil, err
	}
	page, err := d.deps.Deletions.ListDeletions(ctx, tenant(ctx), before, limit)
	if err != nil {
		return nil, err
	}
	out := &pawlv1.ListDeletionsResponse{}
	if len(page) == limit {
		out.NextPageToken = page[limit-1].ID
	}
	for _, one := range page {
		if sees(ctx, auth.ReadDeletions, one) {
			out.Deletions = append(out.Deletions, encodeDeletion(one))
		}
	}
	return out, nil
}

// sees reports whether the caller may know of a deletion. Whose instance it was is not known any more of one that is
// done: who is limited to some instances does not see it then.
func sees(ctx context.Context, v auth.Verb, d deletion.Deletion) bool {
	if !d.DoneAt.IsZero() && auth.FromContext(ctx).Limits.InstancePrefix != "" {
		return false
	}
	return may(ctx, v, auth.Resource{Agent: d.Key.Agent, Instance: d.Key.Instance}) == nil
}

func encodeDeletion(d deletion.Deletion) *pawlv1.Deletion {
	out := &pawlv1.Deletion{
		DeletionId: d.ID, AskedAt: stamp(d.AskedAt), DoneAt: stamp(d.DoneAt), WaitsFor: clean(d.Cause),
	}
	switch d.Kind {
	case deletion.Session:
		out.Target = &pawlv1.Deletion_Session{Session: &pawlv1.DeletedSession{
			SessionId: d.SessionID, Agent: d.Key.Agent, Instance: d.Key.Instance, Session: d.Key.Name,
		}}
	case deletion.Instance:
		out.Target = &pawlv1.Deletion_Instance{Instance: &pawlv1.DeletedInstance{
			Agent: d.Key.Agent, Instance: d.Key.Instance,
		}}
	case deletion.Tenant:
		out.Target = &pawlv1.Deletion_Tenant{Tenant: &pawlv1.DeletedTenant{Tenant: d.Key.Tenant}}
	}
	return out
}
