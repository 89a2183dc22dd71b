package api

import (
	"context"
	"errors"
	"slices"
	"strings"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/picture"
	"github.com/pawl-dev/pawl/services/control/session"
)

type sessions struct {
	pawlv1.UnimplementedSessionServiceServer
	deps Deps
}

// ListSessions implements SessionService.
func (s *sessions) ListSessions(
	ctx context.Context, req *pawlv1.ListSessionsRequest,
) (*pawlv1.ListSessionsResponse, error) {
	if err := may(ctx, auth.ReadSessions, auth.Resource{}); err != nil {
		return nil, err
	}
	limit, before, err := pageByID(req)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(checkRef("agent", req.GetAgent()), checkRef("instance", req.GetInstance())); err != nil {
		return nil, err
	}
	f := session.Filter{
		Tenant: tenant(ctx), Agent: req.GetAgent(), Instance: req.GetInstance(), Limit: limit, BeforeID: before,
		InstancePrefix: auth.FromContext(ctx).Limits.InstancePrefix, Labels: req.GetLabels(),
	}
	if err := session.CheckFilter(f); err != nil {
		return nil, err
	}
	list := s.list
	if id := req.GetParentSessionId(); id != "" {
		// A sub-agent's conversation has the key of the session that it works for: who may read one may read the other.
		one, err := s.deps.find(ctx, id)
		if err != nil {
			return nil, err
		}
		f.ParentID, list = one.ID, s.deps.Sessions.ListSessions
	}
	page, err := list(ctx, f)
	if err != nil {
		return nil, err
	}
	out := &pawlv1.ListSessionsResponse{Sessions: encodeAll(page, encodeSession)}
	if len(page) == limit {
		out.NextPageToken = page[limit-1].ID
	}
	return out, nil
}

// list is a page of the sessions that the caller may read. A caller that is limited to several agents gets their pages
// merged.
func (s *sessions) list(ctx context.Context, f session.Filter) ([]session.Session, error) {
	agents := auth.FromContext(ctx).Limits.Agents
	switch {
	case agents == nil:
		return s.deps.Sessions.ListSessions(ctx, f)
	case f.Agent != "":
		agents = slices.DeleteFunc(slices.Clone(agents), func(a string) bool { return a != f.Agent })
	}
	var all []session.Session
	for _, a := range slices.Compact(slices.Sorted(slices.Values(agents))) {
		f.Agent = a
		page, err := s.deps.Sessions.ListSessions(ctx, f)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
	}
	// ids are in order of time
	slices.SortFunc(all, func(a, b session.Session) int { return strings.Compare(b.ID, a.ID) })
	return all[:min(f.Limit, len(all))], nil
}

// GetSession implements SessionService.
func (s *sessions) GetSession(ctx context.Context, req *pawlv1.GetSessionRequest) (*pawlv1.GetSessionResponse, error) {
	if err := may(ctx, auth.ReadSessions, auth.Resource{}); err != nil {
		return nil, err
	}
	var one session.Session
	var err error
	if k := req.GetKey(); k != nil {
		if err := checkKey(k); err != nil {
			return nil, err
		}
		key := decodeKey(ctx, k)
		if err := may(ctx, auth.ReadSessions, auth.Resource{
			Agent:    key.Agent,
			Instance: key.Instance,
			Missing:  session.ErrNotFound,
		}); err != nil {
			return nil, err
		}
		one, err = s.deps.Sessions.FindSession(ctx, key)
	} else {
		one, err = s.deps.find(ctx, req.GetSessionId())
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
	if err := checkID(id, session.ErrNotFound); err != nil {
		return session.Session{}, err
	}
	one, err := d.Sessions.GetSession(ctx, tenant(ctx), id)
	if err != nil {
		return session.Session{}, err
	}
	if err := may(ctx, auth.ReadSessions, auth.Resource{
		Agent:    one.Key.Agent,
		Instance: one.Key.Instance,
		Missing:  session.ErrNotFound,
	}); err != nil {
		return session.Session{}, err
	}
	return one, nil
}

// RebindSession implements SessionService.
func (s *sessions) RebindSession(
	ctx context.Context, req *pawlv1.RebindSessionRequest,
) (*pawlv1.RebindSessionResponse, error) {
	if err := may(ctx, auth.MoveSessions, auth.Resource{}); err != nil {
		return nil, err
	}
	if err := errors.Join(
		checkID(req.GetSessionId(), session.ErrNotFound), checkRef("executor_id", req.GetExecutorId()),
	); err != nil {
		return nil, err
	}
	e, err := s.deps.Fleet.GetExecutor(ctx, req.GetExecutorId())
	if err == nil && !e.Shared && e.Tenant != tenant(ctx) {
		err = fleet.Missing(req.GetExecutorId())
	}
	if err != nil {
		return nil, err
	}
	one, err := s.deps.Sessions.Rebind(ctx, tenant(ctx), req.GetSessionId(), req.GetExecutorId())
	if err != nil {
		return nil, err
	}
	return &pawlv1.RebindSessionResponse{Session: encodeSession(one)}, nil
}

// ListEntries implements SessionService.
func (s *sessions) ListEntries(
	ctx context.Context, req *pawlv1.ListEntriesRequest,
) (*pawlv1.ListEntriesResponse, error) {
	one, err := s.deps.find(ctx, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	page, err := s.deps.entries(ctx, one, req.GetAfter(), limit)
	if err != nil {
		return nil, err
	}
	out := &pawlv1.ListEntriesResponse{}
	for i := range page[:cut(page, maxWeight, func(e *session.Entry) int { return e.Message.Weight() })] {
		out.Entries = append(out.Entries, encodeEntry(&page[i]))
	}
	return out, nil
}

// entries is a page of the entries of a session that was found just now. Those of a session whose rows are going are
// not taken for all that there are.
func (d Deps) entries(ctx context.Context, of session.Session, after int64, limit int) ([]session.Entry, error) {
	page, err := d.Sessions.Entries(ctx, of.ID, after, limit)
	next := max(after, 0) + 1
	if err == nil && next <= of.EntryHead && (len(page) == 0 || page[0].Seq != next) {
		err = session.ErrNotFound.With("the session is gone: it was deleted")
	}
	return page, err
}

// GetImage implements SessionService.
func (s *sessions) GetImage(
	ctx context.Context, req *pawlv1.GetImageRequest,
) (*pawlv1.GetImageResponse, error) {
	one, err := s.deps.find(ctx, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	data, err := s.deps.Sessions.Image(ctx, one.ID, req.GetSha256())
	if err != nil {
		return nil, err
	}
	return &pawlv1.GetImageResponse{Image: &pawlv1.Image{
		MediaType: picture.Type(data), Data: data, Size: int64(len(data)), Sha256: req.GetSha256(),
	}}, nil
}

// WatchSession implements SessionService.
func (s *sessions) WatchSession(
	req *pawlv1.WatchSessionRequest, stream grpc.ServerStreamingServer[pawlv1.WatchSessionResponse],
) error {
	if req.GetAfter() < 0 {
		return errCursor
	}
	want, err := decodeWant(req)
	if err != nil {
		return err
	}
	ctx := stream.Context()
	one, err := s.deps.find(ctx, req.GetSessionId())
	if err != nil {
		return err
	}
	if req.GetAfter() > one.EventHead { // nobody can have seen it; the events up to it would be kept from the reader
		return event.Ahead(req.GetAfter(), one.EventHead)
	}
	key := one.Key
	if one.ParentID != "" { // its events are in the stream of the session that it works for
		root, err := s.deps.find(ctx, one.LaneID)
		if err != nil {
			return err
		}
		key, want = root.Key, event.Want{Only: one.ParentCall}
	}
	sub := s.deps.Events.Subscribe(key, want)
	defer sub.Close()
	established := false
	for batch, err := range s.deps.Events.Follow(ctx, sub, one.LaneID, req.GetAfter(), false) {
		if err != nil {
			return err
		}
		if !established { // the cursor is good
			if err := stream.Send(&pawlv1.WatchSessionResponse{}); err != nil {
				return err
			}
			established = true
		}
		err := sendEvents(batch, one, func(events []*pawlv1.Event) error {
			return stream.Send(&pawlv1.WatchSessionResponse{Events: events})
		})
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}
