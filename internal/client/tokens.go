package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/disk"
	"github.com/pawl-dev/pawl/internal/rpc"
)

func tokenCommand(o *connection) *cobra.Command {
	return o.group(&cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke tokens",
		Long: "Make, list and revoke tokens: through a control plane that runs, or else in the database of the " +
			"data directory.",
		Example: "control token create --executor gpu1 --allow-label gpu=a100 > gpu1.token\n" +
			"control token list -o json",
	}, tokenCreate(o), tokenList(o), tokenRevoke(o))
}

// wantedToken is the flags of token create.
type wantedToken struct {
	executor, name, tenant string
	out                    string // file for the secret
	operator, shared       bool
	role                   string
	limits                 pawlv1.Client
	rate                   float64
	burst                  int32
	labels                 []string
	expires                time.Duration
}

func tokenCreate(o *connection) *cobra.Command {
	var want wantedToken
	c := o.json(&cobra.Command{
		Use: "create", Short: "Make a token and print its secret, once", Args: cli.Args(0),
		Example: "control token create --executor gpu1 --allow-label gpu=a100 > gpu1.token\n" +
			"control token create --role user --agent reviewer --expires-in 720h --name ci\n" +
			"control token create --role viewer --instance-prefix team-a- --rate 10",
		RunE: func(c *cobra.Command, _ []string) error {
			req, err := want.request(c)
			if err != nil {
				return err
			}
			if kept, err := want.kept(c); kept || err != nil {
				return err
			}
			return o.withTokens(c, true, func(t Tokens) error { return want.make(c, o, t, req) })
		},
	})
	want.flags(c.Flags())
	return c
}

func (w *wantedToken) flags(f *pflag.FlagSet) {
	f.StringVar(&w.executor, "executor", "", "`ID`: for the executor of this id")
	f.StringArrayVar(&w.labels, "allow-label", nil, "`KEY=VALUE`: label that the executor may claim, where * in "+
		"the value stands for anything; may be repeated (default: none)")
	f.BoolVar(&w.shared, "shared", false, "the executor serves every tenant")
	f.StringVar(&w.role, "role", "", "`ROLE`: for a client of this role: viewer, user, approver or admin")
	f.StringArrayVar(&w.limits.Agents, "agent", nil,
		"`AGENT`: one of the client's agents; may be repeated (default: all)")
	f.StringArrayVar(&w.limits.Workflows, "workflow", nil,
		"`WORKFLOW`: one of the client's workflows; may be repeated (default: all)")
	f.StringVar(&w.limits.InstancePrefix, "instance-prefix", "",
		"`TEXT`: what the ids of the client's instances begin with (default: anything)")
	f.Float64Var(&w.rate, "rate", 0, "`N`: requests a second that the client may make (default: any number)")
	f.Int32Var(&w.burst, "burst", 0, "`N`: requests that may come at once (default: those of one second)")
	f.BoolVar(&w.limits.MaySpeakForOthers, "may-speak-for-others", false,
		"the client may say for whom it speaks, in on_behalf_of")
	f.BoolVar(&w.operator, "operator", false, "for an operator: everything")
	f.StringVar(&w.tenant, "tenant", "", "`TENANT`: whose token it is (default: the caller's)")
	f.StringVar(&w.name, "name", "", "`NAME`: name, for people")
	f.StringVar(&w.out, "out", "", "`FILE`: for the secret, which only you can read, instead of the output; if it "+
		"holds a token already, that is kept and none is made")
	f.DurationVar(&w.expires, "expires-in", 0, "how long it works, such as 720h (default: for ever)")
}

// make has the token made, and prints it or writes it into the file for it.
func (w *wantedToken) make(c *cobra.Command, o *connection, t Tokens, req *pawlv1.CreateTokenRequest) error {
	res, err := t.CreateToken(c.Context(), req)
	if err != nil {
		return err
	}
	made := res.GetToken()
	fmt.Fprintf(c.ErrOrStderr(), "token %s for %s, %s\n", made.GetTokenId(), cli.Visible(allows(made)), lasts(made))
	if _, remote := t.(*remoteTokens); !remote {
		fmt.Fprintf(c.ErrOrStderr(), "no control plane runs on %s: the token works at those that start on %s\n",
			*o.options.Data, o.options.State())
	}
	if w.out != "" {
		if err := disk.Replace(w.out, []byte(res.GetSecret()+"\n")); err != nil {
			return fmt.Errorf("writing the token: %w", err)
		}
		res.Secret = "" // it is shown once
	}
	if o.output == "json" {
		return printJSON(c.OutOrStdout(), res)
	}
	if w.out != "" {
		return nil
	}
	_, err = fmt.Fprintln(c.OutOrStdout(), res.GetSecret())
	return err
}

// kept reports whether the file for the secret holds a token already. Where a set-up is repeated, that stays in use.
func (w *wantedToken) kept(c *cobra.Command) (bool, error) {
	if w.out == "" {
		return false, nil
	}
	secret, err := rpc.File(w.out)(c.Context())
	if errors.Is(err, fs.ErrNotExist) || err == nil && secret == "" {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = fmt.Fprintf(c.ErrOrStderr(), "%s holds a token already, which is kept\n", w.out)
	return true, err
}

// request is what the flags ask for.
func (w *wantedToken) request(c *cobra.Command) (*pawlv1.CreateTokenRequest, error) {
	executor, client := c.Flags().Changed("executor"), w.role != ""
	switch limited := proto.Size(&w.limits) > 0 || w.rate != 0 || w.burst != 0; {
	case one(executor, client, w.operator) != 1:
		return nil, cli.Misused(c, errors.New("give one of --executor ID, --role ROLE and --operator"))
	case limited && !client:
		return nil, cli.Misused(c, errors.New("only a client's token has limits: add --role ROLE"))
	case (len(w.labels) > 0 || w.shared) && !executor:
		return nil, cli.Misused(c,
			errors.New("--allow-label and --shared are for an executor's token: add --executor ID"))
	}
	req := &pawlv1.CreateTokenRequest{Name: w.name, Tenant: w.tenant}
	if w.expires != 0 {
		req.ExpiresIn = durationpb.New(w.expires)
	}
	switch {
	case w.operator:
		req.Principal = &pawlv1.CreateTokenRequest_Operator{Operator: &pawlv1.Operator{}}
	case client:
		if err := w.complete(); err != nil {
			return nil, cli.Misused(c, err)
		}
		req.Principal = &pawlv1.CreateTokenRequest_Client{Client: &w.limits}
	default:
		allowed, err := allowedLabels(w.labels)
		if err != nil {
			return nil, cli.Misused(c, err)
		}
		req.Principal = &pawlv1.CreateTokenRequest_Executor{Executor: &pawlv1.ExecutorPrincipal{
			ExecutorId: w.executor, Labels: allowed, Shared: w.shared,
		}}
	}
	return req, nil
}

// complete fills in the client's role and rate.
func (w *wantedToken) complete() error {
	role, known := pawlv1.Role_value["ROLE_"+strings.ToUpper(w.role)]
	if !known || role == 0 {
		return fmt.Errorf("--role is viewer, user, approver or admin, not %q", w.role)
	}
	w.limits.Role = pawlv1.Role(role)
	if w.rate != 0 || w.burst != 0 {
		w.limits.Rate = &pawlv1.Rate{RequestsPerSecond: w.rate, Burst: w.burst}
	}
	return nil
}

func one(flags ...bool) (n int) {
	for _, given := range flags {
		if given {
			n++
		}
	}
	return n
}

// allowedLabels reads the values of --allow-label.
func allowedLabels(given []string) (map[string]string, error) {
	var labels map[string]string
	for _, one := range given {
		key, value, ok := strings.Cut(one, "=")
		if !ok {
			return nil, fmt.Errorf("--allow-label is KEY=VALUE, not %q", one)
		}
		if _, twice := labels[key]; twice {
			return nil, fmt.Errorf("--allow-label %s is given twice: use one value with * in it", key)
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[key] = value
	}
	return labels, nil
}

func tokenList(o *connection) *cobra.Command {
	return o.limited(o.json(&cobra.Command{
		Use: "list", Short: "List tokens, without their secrets", Args: cli.Args(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return o.withTokens(c, false, func(t Tokens) error {
				return listing[*pawlv1.Token]{
					head: "ID\tTENANT\tFOR\tNAME\tCREATED\tSTATE",
					page: func(size int32, token string) ([]*pawlv1.Token, string, error) {
						req := &pawlv1.ListTokensRequest{PageSize: size, PageToken: token}
						res, err := t.ListTokens(c.Context(), req)
						return res.GetTokens(), res.GetNextPageToken(), err
					},
					row: func(t *pawlv1.Token) []string {
						return []string{
							t.GetTokenId(), t.GetTenant(), allows(t), t.GetName(), stamp(t.GetCreatedAt()), lasts(t),
						}
					},
				}.print(c, o)
			})
		},
	}))
}

func tokenRevoke(o *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "End a token; what is connected with it loses its connection within seconds",
		Args:  cli.Args(1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.withTokens(c, false, func(t Tokens) error {
				if _, err := t.RevokeToken(c.Context(), &pawlv1.RevokeTokenRequest{TokenId: args[0]}); err != nil {
					return err
				}
				_, err := fmt.Fprintf(c.ErrOrStderr(), "token %s is revoked\n", args[0])
				return err
			})
		},
	}
}

// allows is what a token is for.
func allows(t *pawlv1.Token) string {
	var parts []string
	switch e, c := t.GetExecutor(), t.GetClient(); {
	case e != nil:
		parts = append(parts, "executor "+e.GetExecutorId())
		if e.GetShared() {
			parts = append(parts, "shared")
		}
		if len(e.GetLabels()) > 0 {
			parts = append(parts, "with "+labels(e.GetLabels(), ", "))
		}
	case c != nil:
		parts = append(parts, strings.ToLower(strings.TrimPrefix(c.GetRole().String(), "ROLE_")))
		parts = append(parts, limitsOf(c)...)
	default:
		return "operator"
	}
	return strings.Join(parts, " ")
}

// limitsOf is what a client is limited to, and what it may beside its role.
func limitsOf(c *pawlv1.Client) (parts []string) {
	if len(c.GetAgents()) > 0 {
		parts = append(parts, "of "+strings.Join(c.GetAgents(), ", "))
	}
	if len(c.GetWorkflows()) > 0 {
		parts = append(parts, "with workflows "+strings.Join(c.GetWorkflows(), ", "))
	}
	if c.GetInstancePrefix() != "" {
		parts = append(parts, "in instances "+c.GetInstancePrefix()+"*")
	}
	if r := c.GetRate(); r != nil {
		parts = append(parts, fmt.Sprintf("at %v/s, %d at once", r.GetRequestsPerSecond(), r.GetBurst()))
	}
	if c.GetMaySpeakForOthers() {
		parts = append(parts, "for others")
	}
	return parts
}

func lasts(t *pawlv1.Token) string {
	switch {
	case t.GetRevoked():
		return "revoked"
	case t.GetExpiresAt() == nil:
		return "does not expire"
	case t.GetExpiresAt().AsTime().Before(time.Now()):
		return "expired " + stamp(t.GetExpiresAt())
	}
	return "expires " + stamp(t.GetExpiresAt())
}

// withTokens opens the tokens, at whichever end they can be had. Only who makes one may do so before the first
// start, and make the database with it.
func (o *connection) withTokens(c *cobra.Command, fresh bool, f func(Tokens) error) (err error) {
	conn, err := o.dial(c.Context())
	if err != nil {
		return err
	}
	var t Tokens
	switch {
	case conn != nil:
		t = &remoteTokens{conn, pawlv1.NewTokenServiceClient(conn)}
	case o.options.Database == nil:
		return unreachable(errors.New("no control plane runs on " + *o.options.Data))
	default:
		if t, err = o.options.Database(c.Context(), fresh); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	return inWords(c.Context(), f(t))
}

// remoteTokens are those of a control plane that runs.
type remoteTokens struct {
	conn   *grpc.ClientConn
	client pawlv1.TokenServiceClient
}

func (r *remoteTokens) CreateToken(
	ctx context.Context, req *pawlv1.CreateTokenRequest,
) (*pawlv1.CreateTokenResponse, error) {
	return r.client.CreateToken(ctx, req)
}

func (r *remoteTokens) ListTokens(
	ctx context.Context, req *pawlv1.ListTokensRequest,
) (*pawlv1.ListTokensResponse, error) {
	return r.client.ListTokens(ctx, req)
}

func (r *remoteTokens) RevokeToken(
	ctx context.Context, req *pawlv1.RevokeTokenRequest,
) (*pawlv1.RevokeTokenResponse, error) {
	return r.client.RevokeToken(ctx, req)
}

func (r *remoteTokens) Close() error { return r.conn.Close() }
