package api

import (
	"context"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
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
	if err := may(ctx, auth.ManageTokens, auth.Resource{}); err != nil {
		return nil, err
	}
	want := auth.Token{Tenant: tenant(ctx), Name: req.GetName()}
	switch p := req.GetPrincipal().(type) {
	case *pawlv1.CreateTokenRequest_Operator:
		want.Kind = auth.Operator
	case *pawlv1.CreateTokenRequest_Client:
		want.Kind, want.Agents = auth.Client, p.Client.GetAgents()
	case *pawlv1.CreateTokenRequest_Executor:
		want.Kind, want.Executor, want.Labels = auth.Executor, p.Executor.GetExecutorId(), p.Executor.GetLabels()
	}
	secret, made, err := t.deps.Tokens.Mint(ctx, want, req.GetExpiresIn().AsDuration())
	if err != nil {
		return nil, err
	}
	return &pawlv1.CreateTokenResponse{Token: encodeToken(made), Secret: secret}, nil
}

// ListTokens implements TokenService.
func (t *tokens) ListTokens(ctx context.Context, req *pawlv1.ListTokensRequest) (*pawlv1.ListTokensResponse, error) {
	if err := may(ctx, auth.ManageTokens, auth.Resource{}); err != nil {
		return nil, err
	}
	limit, before, err := pageByID(req)
	if err != nil {
		return nil, err
	}
	page, next, err := t.deps.Tokens.List(ctx, tenant(ctx), before, limit)
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
	if err := t.deps.Tokens.Revoke(ctx, tenant(ctx), req.GetTokenId()); err != nil {
		return nil, err
	}
	return &pawlv1.RevokeTokenResponse{}, nil
}

func encodeToken(t auth.Token) *pawlv1.Token {
	out := &pawlv1.Token{
		TokenId: t.ID, Name: t.Name, CreatedAt: stamp(t.CreatedAt), ExpiresAt: stamp(t.ExpiresAt), Revoked: !t.RevokedAt.IsZero(),
	}
	switch t.Kind {
	case auth.Operator:
		out.Principal = &pawlv1.Token_Operator{Operator: &pawlv1.Operator{}}
	case auth.Client:
		out.Principal = &pawlv1.Token_Client{Client: &pawlv1.Client{Agents: t.Agents}}
	case auth.Executor:
		out.Principal = &pawlv1.Token_Executor{Executor: &pawlv1.ExecutorPrincipal{
			ExecutorId: t.Executor,
			Labels:     t.Labels,
		}}
	}
	return out
}
