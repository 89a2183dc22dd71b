package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/services/control"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/session"
)

// tokens manages tokens, at a control plane that runs or in its database.
type tokens interface {
	create(ctx context.Context, like auth.Token, expiresIn time.Duration) (secret string, made auth.Token, err error)
	list(ctx context.Context) ([]auth.Token, error)
	revoke(ctx context.Context, id string) error
	io.Closer
}

func tokenCommand(o *options) *cobra.Command {
	c := &cobra.Command{
		Use: "token", Short: "Make, list and revoke tokens",
		Long: "Make, list and revoke tokens: through the control plane that runs on the data directory, or else in its database.",
		Args: cli.Args(0), RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(tokenCreate(o), tokenList(o), tokenRevoke(o))
	return c
}

func tokenCreate(o *options) *cobra.Command {
	var want auth.Token
	var client, operator bool
	var expires time.Duration
	var labels []string
	c := &cobra.Command{
		Use: "create", Short: "Make a token and print its secret, once", Args: cli.Args(0),
		Example: "control token create --executor gpu1 --allow-label gpu=a100 > gpu1.token\n" +
			"control token create --client --agent reviewer --expires 720h --name ci",
		RunE: func(c *cobra.Command, _ []string) error {
			var kinds []auth.Kind
			for kind, given := range map[auth.Kind]bool{auth.Executor: c.Flags().Changed("executor"), auth.Client: client, auth.Operator: operator} {
				if given {
					kinds = append(kinds, kind)
				}
			}
			if len(kinds) != 1 {
				return cli.Misused(c, errors.New("give one of --executor ID, --client and --operator"))
			}
			want.Kind = kinds[0]
			if len(want.Agents) > 0 && !client {
				return errors.New("--agent limits a client's token: add --client")
			}
			if len(labels) > 0 && want.Kind != auth.Executor {
				return errors.New("--allow-label is for an executor's token: add --executor ID")
			}
			var err error
			if want.Labels, err = allowedLabels(labels); err != nil {
				return err
			}
			return o.withTokens(c, true, func(t tokens) error {
				secret, made, err := t.create(c.Context(), want, expires)
				if err != nil {
					return err
				}
				fmt.Fprintf(c.ErrOrStderr(), "token %s for %s, %s\n", made.ID, allows(made), lasts(made))
				if _, here := t.(direct); here {
					fmt.Fprintf(c.ErrOrStderr(), "no control plane runs on %s: the token works at those that start on %s\n", o.data, o.databaseState())
				}
				_, err = fmt.Fprintln(c.OutOrStdout(), secret)
				return err
			})
		},
	}
	f := c.Flags()
	f.StringVar(&want.Executor, "executor", "", "for the executor of this id")
	f.StringArrayVar(&labels, "allow-label", nil,
		"label that the executor may claim, key=value, where * in the value stands for anything; may be repeated (default: none)")
	f.BoolVar(&client, "client", false, "for a client: prompting and reading")
	f.StringArrayVar(&want.Agents, "agent", nil, "the client's agents; may be repeated (default: all)")
	f.BoolVar(&operator, "operator", false, "for an operator: everything")
	f.StringVar(&want.Name, "name", "", "name, for people")
	f.DurationVar(&expires, "expires", 0, "how long it works, such as 720h (default: for ever)")
	return c
}

// allowedLabels reads the values of --allow-label.
func allowedLabels(given []string) (auth.Labels, error) {
	if len(given) == 0 {
		return nil, nil
	}
	labels := auth.Labels{}
	for _, one := range given {
		key, value, ok := strings.Cut(one, "=")
		if !ok {
			return nil, fmt.Errorf("--allow-label is KEY=VALUE, not %q", one)
		}
		if _, twice := labels[key]; twice {
			return nil, fmt.Errorf("--allow-label %s is given twice: use one value with * in it", key)
		}
		labels[key] = value
	}
	return labels, nil
}

func tokenList(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List tokens, without their secrets", Args: cli.Args(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return o.withTokens(c, false, func(t tokens) error {
				all, err := t.list(c.Context())
				if err != nil {
					return err
				}
				w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "ID\tFOR\tNAME\tCREATED\tSTATE")
				for _, one := range all {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", one.ID, allows(one), one.Name, one.CreatedAt.Local().Format(time.DateTime), lasts(one))
				}
				return w.Flush()
			})
		},
	}
}

func tokenRevoke(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "End a token; what is connected with it loses its connection within seconds", Args: cli.Args(1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.withTokens(c, false, func(t tokens) error {
				if err := t.revoke(c.Context(), args[0]); err != nil {
					return err
				}
				_, err := fmt.Fprintf(c.ErrOrStderr(), "token %s is revoked\n", args[0])
				return err
			})
		},
	}
}

// allows is what a token is for.
func allows(t auth.Token) string {
	switch {
	case t.Kind == auth.Executor && len(t.Labels) > 0:
		return "executor " + t.Executor + " with " + t.Labels.String()
	case t.Kind == auth.Executor:
		return "executor " + t.Executor
	case len(t.Agents) > 0:
		return string(t.Kind) + " of " + strings.Join(t.Agents, ", ")
	}
	return string(t.Kind)
}

func lasts(t auth.Token) string {
	switch {
	case !t.RevokedAt.IsZero():
		return "revoked"
	case t.ExpiresAt.IsZero():
		return "does not expire"
	case t.ExpiresAt.Before(time.Now()):
		return "expired " + t.ExpiresAt.Local().Format(time.DateTime)
	}
	return "expires " + t.ExpiresAt.Local().Format(time.DateTime)
}

// withTokens opens the tokens, at whichever end they can be had. Only who makes one may do so before the first start, and make the
// database with it.
func (o *options) withTokens(c *cobra.Command, fresh bool, f func(tokens) error) (err error) {
	t, err := o.openTokens(c.Context(), fresh)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	return told(c.Context(), f(t))
}

func (o *options) openTokens(ctx context.Context, fresh bool) (tokens, error) {
	conn, err := o.dial(ctx)
	if err != nil {
		return nil, err
	}
	if conn != nil {
		return remote{conn, pawlv1.NewTokenServiceClient(conn)}, nil
	}
	if o.databaseName() == "memory" {
		return nil, errors.New("no control plane runs on " + o.data + ", and a database in memory keeps no tokens: start it first")
	}
	if path, ok := strings.CutPrefix(o.databaseName(), "sqlite:"); ok && !fresh {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("no control plane runs on %s, and there is no database at %s: name another with --data or --database", o.data, path)
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
		return nil, errors.Join(fmt.Errorf("--database: %w", err), release())
	}
	return direct{auth.NewService(store), func() error { return errors.Join(store.Close(), release()) }}, nil
}

// direct is the tokens in the database.
type direct struct {
	service *auth.Service
	end     func() error
}

func (d direct) create(ctx context.Context, like auth.Token, expiresIn time.Duration) (string, auth.Token, error) {
	return d.service.Mint(ctx, like, expiresIn)
}

func (d direct) list(ctx context.Context) ([]auth.Token, error) {
	return d.service.List(ctx, session.DefaultTenant)
}

func (d direct) revoke(ctx context.Context, id string) error {
	return d.service.Revoke(ctx, session.DefaultTenant, id)
}

func (d direct) Close() error { return d.end() }

// remote is the tokens at a control plane that runs.
type remote struct {
	conn   *grpc.ClientConn
	client pawlv1.TokenServiceClient
}

func (r remote) create(ctx context.Context, like auth.Token, expiresIn time.Duration) (string, auth.Token, error) {
	req := &pawlv1.CreateTokenRequest{Name: like.Name}
	switch like.Kind {
	case auth.Operator:
		req.Principal = &pawlv1.CreateTokenRequest_Operator{Operator: &pawlv1.Operator{}}
	case auth.Client:
		req.Principal = &pawlv1.CreateTokenRequest_Client{Client: &pawlv1.Client{Agents: like.Agents}}
	default:
		req.Principal = &pawlv1.CreateTokenRequest_Executor{Executor: &pawlv1.ExecutorPrincipal{
			ExecutorId: like.Executor, Labels: like.Labels,
		}}
	}
	if expiresIn != 0 {
		req.ExpiresIn = durationpb.New(expiresIn)
	}
	res, err := r.client.CreateToken(ctx, req)
	if err != nil {
		return "", auth.Token{}, err
	}
	return res.GetSecret(), decodeToken(res.GetToken()), nil
}

func (r remote) list(ctx context.Context) ([]auth.Token, error) {
	res, err := r.client.ListTokens(ctx, &pawlv1.ListTokensRequest{})
	if err != nil {
		return nil, err
	}
	all := make([]auth.Token, len(res.GetTokens()))
	for i, t := range res.GetTokens() {
		all[i] = decodeToken(t)
	}
	return all, nil
}

func (r remote) revoke(ctx context.Context, id string) error {
	_, err := r.client.RevokeToken(ctx, &pawlv1.RevokeTokenRequest{TokenId: id})
	return err
}

func (r remote) Close() error { return r.conn.Close() }

func decodeToken(t *pawlv1.Token) auth.Token {
	out := auth.Token{ID: t.GetTokenId(), Name: t.GetName(), Kind: auth.Operator, CreatedAt: t.GetCreatedAt().AsTime()}
	switch {
	case t.GetClient() != nil:
		out.Kind, out.Agents = auth.Client, t.GetClient().GetAgents()
	case t.GetExecutor() != nil:
		out.Kind, out.Executor, out.Labels = auth.Executor, t.GetExecutor().GetExecutorId(), t.GetExecutor().GetLabels()
	}
	if t.GetExpiresAt() != nil {
		out.ExpiresAt = t.GetExpiresAt().AsTime()
	}
	if t.GetRevoked() {
		out.RevokedAt = time.Now() // when, the API does not tell
	}
	return out
}
