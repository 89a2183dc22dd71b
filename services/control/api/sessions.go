package api

import (
	"context"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/session"
)

type sessions struct {
	pawlv1.UnimplementedSessionServiceServer
	deps Deps
}

// ListSessions implements SessionService.
func (s *sessions) ListSessions(ctx context.Context, req *pawlv1.ListSessionsRequest) (*pawlv1.ListSessionsResponse, error) {
	if err := may(ctx, auth.ReadSessions, auth.Resource{Agent: req.GetAgent(), Missing: session.ErrNotFound}); err != nil {
		return nil, err
	}
	limit := pageSize(req.GetPageSize())
	page, err := s.deps.Sessions.ListSessions(ctx, session.Filter{
		Tenant: tenant(ctx), Agent: req.GetAgent(), Instance: req.GetInstance(), Limit: limit, BeforeID: req.GetPageToken(),
	})
	if err != nil {
		return nil, err
	}
	out := &pawlv1.ListSessionsResponse{}
	for _, one := range page {
		if may(ctx, auth.ReadSessions, auth.Resource{Agent: one.Key.Agent}) == nil {
			out.Sessions = append(out.Sessions, encodeSession(one))
		}
	}
	if len(page) == limit {
		out.NextPageToken = page[limit-1].ID
	}
	return out, nil
}

// GetSession implements SessionService.
func (s *sessions) GetSession(ctx context.Context, req *pawlv1.GetSessionRequest) (*pawlv1.GetSessionResponse, error) {
	if err := may(ctx, auth.ReadSessions, auth.Resource{}); err != nil {
		return nil, err
	}
	var one session.Session
	var err error
	if k := req.GetKey(); k != nil {
		one, err = s.deps.Sessions.FindSession(ctx, decodeKey(ctx, k))
	} else {
		one, err = s.deps.Sessions.GetSession(ctx, tenant(ctx), req.GetSessionId())
	}
	if err == nil {
		err = may(ctx, auth.ReadSessions, auth.Resource{Agent: one.Key.Agent, Missing: session.ErrNotFound})
	}
	if err != nil {
		return nil, err
	}
	return &pawlv1.GetSessionResponse{Session: encodeSession(one)}, nil
}

// find is a session that the caller may read.
func (d Deps) find(ctx context.Context, id string) (session.Session, error) {
	if err := may(ctx, auth.ReadSessions, auth.Resource{}); err != nil {
		return session.Session{}, err
	}
	one, err := d.Sessions.GetSession(ctx, tenant(ctx), id)
	if err != nil {
		return session.Session{}, err
	}
	return one, may(ctx, auth.ReadSessions, auth.Resource{Agent: one.Key.Agent, Missing: session.ErrNotFound})
}

// ListEntries implements SessionService.
func (s *sessions) ListEntries(ctx context.Context, req *pawlv1.ListEntriesRequest) (*pawlv1.ListEntriesResponse, error) {
	one, err := s.deps.find(ctx, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	page, err := s.deps.Sessions.Entries(ctx, one.ID, req.GetAfter(), pageSize(req.GetPageSize()))
	if err != nil {
		return nil, err
	}
	out := &pawlv1.ListEntriesResponse{}
	for i := range page {
		out.Entries = append(out.Entries, encodeEntry(&page[i]))
	}
	return out, nil
}

// WatchSession implements SessionService.
func (s *sessions) WatchSession(req *pawlv1.WatchSessionRequest, stream grpc.ServerStreamingServer[pawlv1.WatchSessionResponse]) error {
	ctx := stream.Context()
	one, err := s.deps.find(ctx, req.GetSessionId())
	if err != nil {
		return err
	}
	sub := s.deps.Events.Subscribe(one.Key)
	defer sub.Close()
	if err := stream.Send(&pawlv1.WatchSessionResponse{}); err != nil {
		return err
	}
	for batch, err := range s.deps.Events.Follow(ctx, sub, one.ID, req.GetAfter(), false) {
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			continue
		}
		if err := stream.Send(&pawlv1.WatchSessionResponse{Events: encodeEvents(batch, one)}); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}
