package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/client"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control"
	"github.com/pawl-dev/pawl/services/control/api"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/session"
)

// stored is the tokens in the database, as the API has them, for whoever may open the database.
type stored struct {
	server pawlv1.TokenServiceServer
	audit  audit.Store
	end    func() error
}

// record puts on record what whoever may open the database is about to do: what cannot be recorded is not done.
func (s stored) record(ctx context.Context, method, resource string) error {
	return s.audit.AppendAudit(ctx, []audit.Event{{
		ID: ident.New(), Tenant: session.DefaultTenant, Verb: string(auth.ManageTokens), Method: method,
		Resource: resource, Allowed: true, Who: audit.Who{Kind: string(auth.Operator), Name: "command line"},
	}})
}

func (s stored) operator(ctx context.Context) context.Context {
	return auth.NewContext(ctx, auth.Principal{Tenant: session.DefaultTenant, Kind: auth.Operator})
}

// CreateToken implements client.Tokens.
func (s stored) CreateToken(ctx context.Context, req *pawlv1.CreateTokenRequest) (*pawlv1.CreateTokenResponse, error) {
	if err := s.record(ctx, pawlv1.TokenService_CreateToken_FullMethodName[1:], "name="+req.GetName()); err != nil {
		return nil, err
	}
	return s.server.CreateToken(s.operator(ctx), req)
}

// ListTokens implements client.Tokens.
func (s stored) ListTokens(ctx context.Context, req *pawlv1.ListTokensRequest) (*pawlv1.ListTokensResponse, error) {
	return s.server.ListTokens(s.operator(ctx), req)
}

// RevokeToken implements client.Tokens.
func (s stored) RevokeToken(ctx context.Context, req *pawlv1.RevokeTokenRequest) (*pawlv1.RevokeTokenResponse, error) {
	method := pawlv1.TokenService_RevokeToken_FullMethodName[1:]
	if err := s.record(ctx, method, "token_id="+req.GetTokenId()); err != nil {
		return nil, err
	}
	return s.server.RevokeToken(s.operator(ctx), req)
}

// Close implements client.Tokens.
func (s stored) Close() error { return s.end() }

// tokens opens the tokens in the database while no control plane runs. Only with fresh is a database made.
func (o *options) tokens(ctx context.Context, fresh bool) (client.Tokens, error) {
	if o.databaseName() == "memory" {
		return nil, fmt.Errorf("no control plane runs on %s, and a database in memory keeps no tokens: start it first",
			o.data)
	}
	if path, ok := strings.CutPrefix(o.databaseName(), "sqlite:"); ok && !fresh {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("no control plane runs on %s, and there is no database at %s: name another with "+
				"--data or --database", o.data, path)
		}
	}
	release := func() error { return nil }
	if !o.shared() {
		held, err := control.LockDataDir(o.data)
		if err != nil {
			return nil, fmt.Errorf("no control plane answers, yet %w", err)
		}
		release = held.Close
	}
	store, err := control.OpenStore(ctx, o.databaseAt(), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, errors.Join(notOpened(err), release())
	}
	return stored{
		api.Tokens(api.Deps{Tokens: auth.NewService(store)}),
		store,
		func() error { return errors.Join(store.Close(), release()) },
	}, nil
}
