package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/auth"
)

type tokens struct {
	pawlv1.UnimplementedTokenServiceServer
	deps Deps
}

// Tokens is the service, for those that have the database and no server. Of d it needs Tokens. Callers put the
// principal into the context.
func Tokens(d Deps) pawlv1.TokenServiceServer { return &tokens{deps: d} }

// CreateToken implements TokenService.
func (t *tokens) CreateToken(ctx context.Context, req *pawlv1.CreateTokenRequest) (*pawlv1.CreateTokenResponse, error) {
	err := may(ctx, auth.ManageTokens, auth.Resource{})
	if err = errors.Join(err, checkRef("tenant", req.GetTenant())); err != nil {
		return nil, err
	}
	want := auth.Token{Tenant: req.GetTenant(), Name: req.GetName()}
	switch p := req.GetPrincipal().(type) {
	case *pawlv1.CreateTokenRequest_Operator:
		want.Kind = auth.Operator
	case *pawlv1.CreateTokenRequest_Client:
		want.Kind, want.Limits = auth.Client, decodeLimits(p.Client)
		if want.Role, err = decodeRole(p.Client.GetRole()); err != nil {
			return nil, err
		}
	case *pawlv1.CreateTokenRequest_Executor:
		want.Kind, want.Executor, want.Labels = auth.Executor, p.Executor.GetExecutorId(), p.Executor.GetLabels()
		want.Shared = p.Executor.GetShared()
	}
	life := req.GetExpiresIn().AsDuration()
	secret, made, err := t.deps.Tokens.Issue(ctx, auth.FromContext(ctx), want, life)
	if err != nil {
		names(ctx, tokenText(want, life))
		return nil, err
	}
	names(ctx, tokenText(made, life))
	return &pawlv1.CreateTokenResponse{Token: encodeToken(made), Secret: secret}, nil
}

// tokenText is a token as the audit log tells of it: its id, unless it was not made, and what it allows.
func tokenText(t auth.Token, life time.Duration) string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+"="+value)
		}
	}
	flag := func(name string, set bool) {
		if set {
			parts = append(parts, name)
		}
	}
	add("token_id", t.ID)
	add("kind", string(t.Kind))
	add("role", string(t.Role))
	if life != 0 {
		add("expires_in", life.String())
	}
	flag("shared", t.Shared)
	flag("may_speak_for_others", t.Limits.ForOthers)
	if r := t.Limits.Rate; r != (auth.Rate{}) {
		add("rate", fmt.Sprintf("%g/s,%d", r.PerSecond, r.Burst))
	}
	add("executor_id", t.Executor)
	add("instance_prefix", t.Limits.InstancePrefix)
	for _, label := range slices.Sorted(maps.Keys(t.Labels)) {
		add("label", label+":"+t.Labels[label])
	}
	add("agents", strings.Join(t.Limits.Agents, ","))
	add("workflows", strings.Join(t.Limits.Workflows, ","))
	return strings.Join(parts, " ")
}

// ListTokens implements TokenService.
func (t *tokens) ListTokens(ctx context.Context, req *pawlv1.ListTokensRequest) (*pawlv1.ListTokensResponse, error) {
	err := may(ctx, auth.ReadTokens, auth.Resource{})
	if err = errors.Join(err, checkRef("tenant", req.GetTenant())); err != nil {
		return nil, err
	}
	limit, before, err := pageByID(req)
	if err != nil {
		return nil, err
	}
	page, next, err := t.deps.Tokens.List(ctx, auth.FromContext(ctx), req.GetTenant(), before, limit)
	if err != nil {
		return nil, err
	}
	out := &pawlv1.ListTokensResponse{Tokens: encodeAll(page, encodeToken), NextPageToken: next}
	return out, nil
}

// RevokeToken implements TokenService.
func (t *tokens) RevokeToken(ctx context.Context, req *pawlv1.RevokeTokenRequest) (*pawlv1.RevokeTokenResponse, error) {
	if err := may(ctx, auth.ManageTokens, auth.Resource{}); err != nil {
		return nil, err
	}
	if err := t.deps.Tokens.Revoke(ctx, auth.FromContext(ctx), req.GetTokenId()); err != nil {
		return nil, err
	}
	return &pawlv1.RevokeTokenResponse{}, nil
}

// CreateTicket implements TokenService.
func (t *tokens) CreateTicket(
	ctx context.Context, _ *pawlv1.CreateTicketRequest,
) (*pawlv1.CreateTicketResponse, error) {
	if err := may(ctx, auth.MakeTicket, auth.Resource{}); err != nil {
		return nil, err
	}
	secret, err := t.deps.Tokens.Ticket(ctx, auth.FromContext(ctx))
	if err != nil {
		return nil, err
	}
	return &pawlv1.CreateTicketResponse{Ticket: secret, ExpiresIn: durationpb.New(auth.TicketLife)}, nil
}

func encodeToken(t auth.Token) *pawlv1.Token {
	out := &pawlv1.Token{
		TokenId: t.ID, Tenant: t.Tenant, Name: t.Name, CreatedAt: stamp(t.CreatedAt), ExpiresAt: stamp(t.ExpiresAt),
		Revoked: !t.RevokedAt.IsZero(),
	}
	switch t.Kind {
	case auth.Operator:
		out.Principal = &pawlv1.Token_Operator{Operator: &pawlv1.Operator{}}
	case auth.Client:
		out.Principal = &pawlv1.Token_Client{Client: encodeClient(t)}
	case auth.Executor:
		out.Principal = &pawlv1.Token_Executor{Executor: &pawlv1.ExecutorPrincipal{
			ExecutorId: t.Executor,
			Labels:     t.Labels,
			Shared:     t.Shared,
		}}
	}
	return out
}

func encodeClient(t auth.Token) *pawlv1.Client {
	out := &pawlv1.Client{
		Agents: t.Limits.Agents, Role: pawlv1.Role(slices.Index(auth.Roles, t.Role) + 1), Workflows: t.Limits.Workflows,
		InstancePrefix: t.Limits.InstancePrefix, MaySpeakForOthers: t.Limits.ForOthers,
	}
	if r := t.Limits.Rate; r != (auth.Rate{}) {
		out.Rate = &pawlv1.Rate{RequestsPerSecond: r.PerSecond, Burst: int32(r.Burst)}
	}
	return out
}

func decodeLimits(c *pawlv1.Client) auth.Limits {
	return auth.Limits{
		Agents: c.GetAgents(), Workflows: c.GetWorkflows(), InstancePrefix: c.GetInstancePrefix(),
		Rate:      auth.Rate{PerSecond: c.GetRate().GetRequestsPerSecond(), Burst: int(c.GetRate().GetBurst())},
		ForOthers: c.GetMaySpeakForOthers(),
	}
}

var errRole = errs.New(errs.InvalidArgument, "TOKEN_INVALID", "a client's role is viewer, user, approver or admin")

// decodeRole is the role of a client; of one that names none it is left open. The numbers are in order of the roles.
func decodeRole(r pawlv1.Role) (auth.Role, error) {
	switch i := int(r); {
	case i == 0:
		return "", nil
	case i < 0 || i > len(auth.Roles):
		return "", errRole
	default:
		return auth.Roles[i-1], nil
	}
}
