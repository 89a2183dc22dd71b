package api

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/auth"
)

type audits struct {
	pawlv1.UnimplementedAuditServiceServer
	deps Deps
}

var errAuditOfAll = auth.ErrForbidden.With("this token is limited to some agents, workflows or instances, and the " +
	"audit log tells of all: use the token of an admin that is not")

// auditRequest selects events.
type auditRequest interface {
	GetTenant() string
	GetTokenId() string
	GetVerb() string
}

// auditFilter is the events that a request selects and its caller may read.
func auditFilter(ctx context.Context, req auditRequest) (f audit.Filter, err error) {
	if err := may(ctx, auth.ReadAudit, auth.Resource{}); err != nil {
		return f, err
	}
	if auth.FromContext(ctx).Limits.ToSome() {
		return f, errAuditOfAll
	}
	f = audit.Filter{Tenant: req.GetTenant(), TokenID: req.GetTokenId(), Verb: req.GetVerb()}
	if p := auth.FromContext(ctx); p.Kind != auth.Operator {
		f.Tenant = p.Tenant
	}
	err = errors.Join(checkRef("tenant", f.Tenant), checkRef("token_id", f.TokenID), checkRef("verb", f.Verb))
	if err == nil && f.Verb != "" {
		err = auth.CheckVerb(f.Verb)
	}
	return f, err
}

// ListAuditEvents implements AuditService.
func (a *audits) ListAuditEvents(
	ctx context.Context, req *pawlv1.ListAuditEventsRequest,
) (*pawlv1.ListAuditEventsResponse, error) {
	f, err := auditFilter(ctx, req)
	if err != nil {
		return nil, err
	}
	if f.Limit, f.BeforeID, err = pageByID(req); err != nil {
		return nil, err
	}
	if f.From = req.GetFrom().AsTime(); req.GetTo() != nil {
		f.To = req.GetTo().AsTime()
	}
	page, next, err := a.deps.Audit.ListAudit(ctx, f)
	if err != nil {
		return nil, err
	}
	return &pawlv1.ListAuditEventsResponse{Events: encodeAll(page, encodeAudit), NextPageToken: next}, nil
}

// exportPage is how many events are read at once.
const exportPage = 500

// ExportAuditEvents implements AuditService.
func (a *audits) ExportAuditEvents(
	req *pawlv1.ExportAuditEventsRequest, stream grpc.ServerStreamingServer[pawlv1.ExportAuditEventsResponse],
) error {
	f, err := auditFilter(stream.Context(), req)
	if err != nil {
		return err
	}
	if f.From, f.Limit = req.GetFrom().AsTime(), exportPage; req.GetTo() != nil {
		f.To = req.GetTo().AsTime()
	}
	for {
		page, next, err := a.deps.Audit.ListAudit(stream.Context(), f)
		if err != nil {
			return err
		}
		for _, e := range page {
			if err := stream.Send(&pawlv1.ExportAuditEventsResponse{Event: encodeAudit(e)}); err != nil {
				return err
			}
		}
		if f.BeforeID = next; next == "" {
			return nil
		}
	}
}

func encodeAudit(e audit.Event) *pawlv1.AuditEvent {
	return &pawlv1.AuditEvent{
		EventId: e.ID, Tenant: e.Tenant, Time: stamp(e.At), TokenId: e.Who.TokenID, Kind: e.Who.Kind, Role: e.Who.Role,
		Name: e.Who.Name, OnBehalfOf: e.Who.OnBehalfOf, Source: e.Who.Source, Verb: e.Verb, Method: e.Method,
		Resource: e.Resource, Allowed: e.Allowed, Reason: e.Reason,
	}
}
