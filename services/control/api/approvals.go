package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/auth"
)

type approvals struct {
	pawlv1.UnimplementedApprovalServiceServer
	deps Deps
}

const (
	// approvalsPage bounds how many approvals are read at once: each may have half a megabyte.
	approvalsPage = 50
	// listedArguments is how much of arguments, and of a diff, a list shows, in bytes.
	listedArguments = 4 << 10
)

var (
	errVerdict = errs.New(errs.InvalidArgument, "VERDICT", "verdict is APPROVE or DENY")
	errScope   = errs.New(errs.InvalidArgument, "SCOPE", "scope is ONCE or SESSION")
	errState   = errs.New(errs.InvalidArgument, "APPROVAL_STATE", "there is no such state of approvals")
)

// approvalFilter is what a caller may see of what it selects.
func approvalFilter(ctx context.Context, sessionID, agent string) (f approval.Filter, err error) {
	limits := auth.FromContext(ctx).Limits
	f = approval.Filter{
		Tenant: tenant(ctx), SessionID: sessionID, Agent: agent, InstancePrefix: limits.InstancePrefix,
	}
	if len(limits.Agents) > 0 {
		f.Agents = limits.Agents
	}
	return f, errors.Join(checkRef("session_id", sessionID), checkRef("agent", agent))
}

// ListApprovals implements ApprovalService.
func (a *approvals) ListApprovals(
	ctx context.Context, req *pawlv1.ListApprovalsRequest,
) (*pawlv1.ListApprovalsResponse, error) {
	if err := may(ctx, auth.ReadApprovals, auth.Resource{}); err != nil {
		return nil, err
	}
	f, err := approvalFilter(ctx, req.GetSessionId(), req.GetAgent())
	if err == nil {
		f.Limit, f.Before, err = pageByID(req)
	}
	if err != nil {
		return nil, err
	}
	f.Limit = min(f.Limit, approvalsPage)
	switch n := req.GetState(); {
	case n < 0 || int(n) >= len(pawlv1.ApprovalState_name):
		return nil, errState
	case n > 0:
		state := approval.State(n - 1)
		f.State = &state
	}
	page, next, err := a.deps.Approvals.ListApprovals(ctx, f)
	if err != nil {
		return nil, err
	}
	for i := range page {
		page[i].Subject.Brief(listedArguments)
	}
	return &pawlv1.ListApprovalsResponse{Approvals: encodeAll(page, encodeApproval), NextPageToken: next}, nil
}

// find is an approval that the caller may do something with.
func (a *approvals) find(ctx context.Context, id string, verb auth.Verb) (one approval.Approval, err error) {
	if err := may(ctx, verb, auth.Resource{}); err != nil {
		return one, err
	}
	if one, err = a.deps.Approvals.GetApproval(ctx, tenant(ctx), id); err != nil {
		return one, err
	}
	return one, may(ctx, verb, auth.Resource{
		Agent: one.Key.Agent, Instance: one.Key.Instance, Missing: approval.ErrNotFound,
	})
}

// GetApproval implements ApprovalService.
func (a *approvals) GetApproval(
	ctx context.Context, req *pawlv1.GetApprovalRequest,
) (*pawlv1.GetApprovalResponse, error) {
	one, err := a.find(ctx, req.GetApprovalId(), auth.ReadApprovals)
	if err != nil {
		return nil, err
	}
	return &pawlv1.GetApprovalResponse{Approval: encodeApproval(one)}, nil
}

// DecideApproval implements ApprovalService.
func (a *approvals) DecideApproval(
	ctx context.Context, req *pawlv1.DecideApprovalRequest,
) (*pawlv1.DecideApprovalResponse, error) {
	one, err := a.find(ctx, req.GetApprovalId(), auth.DecideApprovals)
	if err != nil {
		return nil, err
	}
	d, err := decodeDecision(req)
	if err != nil {
		return nil, err
	}
	d.Tenant, d.By = one.Tenant, whoOf(auth.FromContext(ctx))
	word := "deny"
	if d.Approve {
		word = "approve"
	}
	names(ctx, "decision="+word+" tool="+one.Subject.Tool+" session_id="+one.LaneID)
	record := allowed(ctx)
	d.Record = record.Event()
	got, replayed, err := a.deps.Approvals.Decide(ctx, d)
	if err != nil {
		return nil, err
	}
	if d.Record != nil && !replayed {
		record.Stored()
	}
	return &pawlv1.DecideApprovalResponse{Approval: encodeApproval(got), Replayed: replayed}, nil
}

func decodeDecision(req *pawlv1.DecideApprovalRequest) (d approval.Decision, err error) {
	d = approval.Decision{ID: req.GetApprovalId(), Comment: req.GetComment()}
	switch req.GetVerdict() {
	case pawlv1.DecideApprovalRequest_VERDICT_APPROVE:
		d.Approve = true
	case pawlv1.DecideApprovalRequest_VERDICT_DENY:
	default:
		return d, errVerdict
	}
	switch req.GetScope() {
	case pawlv1.ApprovalScope_APPROVAL_SCOPE_UNSPECIFIED, pawlv1.ApprovalScope_APPROVAL_SCOPE_ONCE:
	case pawlv1.ApprovalScope_APPROVAL_SCOPE_SESSION:
		d.Scope = approval.Session
	default:
		return d, errScope
	}
	if d.Digest, err = hex.DecodeString(req.GetDigest()); err != nil || len(d.Digest) == 0 {
		return d, approval.ErrDigest
	}
	return d, nil
}

// ListGrants implements ApprovalService.
func (a *approvals) ListGrants(ctx context.Context, req *pawlv1.ListGrantsRequest) (*pawlv1.ListGrantsResponse, error) {
	if err := may(ctx, auth.ReadApprovals, auth.Resource{}); err != nil {
		return nil, err
	}
	f, err := approvalFilter(ctx, req.GetSessionId(), req.GetAgent())
	if err == nil {
		f.Limit, f.Before, err = pageByID(req)
	}
	if err != nil {
		return nil, err
	}
	f.Active = !req.GetRevoked()
	page, next, err := a.deps.Approvals.ListGrants(ctx, f)
	if err != nil {
		return nil, err
	}
	return &pawlv1.ListGrantsResponse{Grants: encodeAll(page, encodeGrant), NextPageToken: next}, nil
}

// RevokeGrant implements ApprovalService.
func (a *approvals) RevokeGrant(
	ctx context.Context, req *pawlv1.RevokeGrantRequest,
) (*pawlv1.RevokeGrantResponse, error) {
	if err := may(ctx, auth.DecideApprovals, auth.Resource{}); err != nil {
		return nil, err
	}
	one, err := a.deps.Approvals.GetGrant(ctx, tenant(ctx), req.GetGrantId())
	if err == nil {
		err = may(ctx, auth.DecideApprovals, auth.Resource{
			Agent: one.Key.Agent, Instance: one.Key.Instance, Missing: approval.ErrGrantNotFound,
		})
	}
	if err != nil {
		return nil, err
	}
	one, err = a.deps.Approvals.RevokeGrant(ctx, one.Tenant, one.ID, whoOf(auth.FromContext(ctx)))
	if err != nil {
		return nil, err
	}
	return &pawlv1.RevokeGrantResponse{Grant: encodeGrant(one)}, nil
}

func encodeApproval(a approval.Approval) *pawlv1.Approval {
	s := &a.Subject
	out := &pawlv1.Approval{
		ApprovalId: a.ID, State: pawlv1.ApprovalState(a.State + 1), SessionId: a.LaneID, Key: encodeKey(a.Key),
		SubmissionId: a.RootID, CallId: a.CallID, Tool: clean(s.Tool), Arguments: encodeArguments(s.Arguments),
		Diff: clean(s.Diff), Cut: s.Cut, Cwd: clean(s.Cwd), Digest: hex.EncodeToString(a.Digest),
		AskedAt: stamp(a.AskedAt), ExpiresAt: stamp(a.ExpiresAt), DecidedAt: stamp(a.DecidedAt),
		DecidedBy: encodeApprover(a.By), Comment: clean(a.Comment),
	}
	if a.State == approval.Approved {
		out.Scope = pawlv1.ApprovalScope(a.Scope + 1)
	}
	for _, ask := range s.Asks {
		r := &pawlv1.ApprovalRule{
			Agent: ask.Agent, Number: int32(ask.Number), Text: clean(ask.Rule.String()),
			To: approval.Least([]approval.Ask{ask}).String(), Other: ask.Rule.Other, Failed: clean(ask.Failed),
		}
		if ask.Rule.Timeout > 0 {
			r.Timeout, r.OnTimeout = durationpb.New(ask.Rule.Timeout), string(approval.DoDeny)
			if ask.Rule.OnTimeout != "" {
				r.OnTimeout = string(ask.Rule.OnTimeout)
			}
		}
		out.Rules = append(out.Rules, r)
	}
	for _, stage := range s.Path {
		out.Path = append(out.Path, &pawlv1.ApprovalStage{
			Agent: stage.Agent, TaskId: stage.Task, Description: clean(stage.Description),
		})
	}
	for _, by := range s.Requesters {
		out.Requesters = append(out.Requesters, encodeSpeaker(&by))
	}
	return out
}

// encodeArguments is arguments as a structure; those that are too long to be one are a text.
func encodeArguments(body json.RawMessage) *structpb.Struct {
	var all any
	if json.Unmarshal(body, &all) != nil {
		return nil
	}
	fields, ok := all.(map[string]any)
	if !ok {
		fields = map[string]any{"arguments": all}
	}
	out, err := structpb.NewStruct(fields)
	if err != nil { // what came out of a decoder has no other types, and is UTF-8
		return nil
	}
	return out
}

func encodeApprover(w *audit.Who) *pawlv1.Approver {
	if w == nil {
		return nil
	}
	return &pawlv1.Approver{TokenId: w.TokenID, Kind: w.Kind, Role: w.Role, Name: clean(w.Name)}
}

func encodeGrant(g approval.Grant) *pawlv1.Grant {
	return &pawlv1.Grant{
		GrantId: g.ID, SessionId: g.LaneID, Key: encodeKey(g.Key), Tool: clean(g.Tool), Rule: clean(g.Said),
		ApprovalId: g.ApprovalID, GrantedBy: encodeApprover(&g.By), CreatedAt: stamp(g.CreatedAt),
		RevokedAt: stamp(g.RevokedAt), RevokedBy: encodeApprover(g.RevokedBy),
	}
}
