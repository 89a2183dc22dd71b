package client

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
)

func tenantsCommand(o *connection) *cobra.Command {
	list := func(c *cobra.Command, conn *grpc.ClientConn, _ []string) error {
		tenants := pawlv1.NewTenantServiceClient(conn)
		return listing[*pawlv1.Tenant]{
			head: "TENANT\tCREATED\tSUSPENDED\tDELETED",
			page: func(size int32, token string) ([]*pawlv1.Tenant, string, error) {
				res, err := tenants.ListTenants(c.Context(), &pawlv1.ListTenantsRequest{
					PageSize: size, PageToken: token,
				})
				return res.GetTenants(), res.GetNextPageToken(), err
			},
			row: func(t *pawlv1.Tenant) []string {
				deleted := stamp(t.GetDeletedAt())
				if t.GetDeletedAt() == nil && t.GetDeletingAt() != nil {
					deleted = "under way"
				}
				return []string{t.GetName(), stamp(t.GetCreatedAt()), stamp(t.GetSuspendedAt()), deleted}
			},
		}.print(c, o)
	}
	create := func(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
		res, err := pawlv1.NewTenantServiceClient(conn).CreateTenant(c.Context(), &pawlv1.CreateTenantRequest{
			Name: args[0],
		})
		return o.tenant(c, res.GetTenant(), "is made", err)
	}
	suspend := func(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
		res, err := pawlv1.NewTenantServiceClient(conn).SuspendTenant(c.Context(), &pawlv1.SuspendTenantRequest{
			Tenant: args[0],
		})
		return o.tenant(c, res.GetTenant(), "is suspended", err)
	}
	resume := func(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
		res, err := pawlv1.NewTenantServiceClient(conn).ResumeTenant(c.Context(), &pawlv1.ResumeTenantRequest{
			Tenant: args[0],
		})
		return o.tenant(c, res.GetTenant(), "is active", err)
	}
	return o.group(&cobra.Command{
		Use: "tenants", Short: "Make, list, suspend and delete tenants",
		Long: "Make, list, suspend and delete tenants. A tenant has sessions, tokens and executors of its own, and " +
			"sees nothing of another's. The clients of a suspended one are refused; what it has begun goes on to its " +
			"end. Of a deleted one nothing is left but the audit log and its name, which no other tenant gets.",
		Example: "control tenants create acme\ncontrol token create --role user --tenant acme\n" +
			"control tenants suspend acme\ncontrol tenants delete acme",
	}, o.calls("create NAME", "Make a tenant", create), o.limited(o.calls("list", "List tenants", list)),
		o.calls("suspend NAME", "Refuse a tenant's tokens", suspend),
		o.calls("resume NAME", "Take a tenant's tokens again", resume), o.deleteTenant())
}

// deleteTenant makes the command that deletes a tenant. Whoever does not say --yes types the name once more.
func (o *connection) deleteTenant() *cobra.Command {
	yes := false
	command := o.calls("delete NAME", "Delete a tenant with all that it has",
		func(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
			if !yes {
				if err := confirm(c, args[0]); err != nil {
					return err
				}
			}
			res, err := pawlv1.NewTenantServiceClient(conn).DeleteTenant(c.Context(), &pawlv1.DeleteTenantRequest{
				Tenant: args[0],
			})
			what := "is being deleted; `control tenants list` tells when nothing of it is left"
			if res.GetTenant().GetDeletedAt() != nil {
				what = "is deleted"
			}
			return o.tenant(c, res.GetTenant(), what, err)
		})
	command.Long = "Delete a tenant with all that it has: sessions, transcripts, events, tokens and executors. Its " +
		"clients are refused at once, and what runs is aborted. There is no way back."
	command.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return command
}

// confirm asks for the name of what is to go for good.
func confirm(c *cobra.Command, name string) error {
	if _, err := fmt.Fprintf(c.ErrOrStderr(), "Everything that tenant %s has will be deleted, for good. "+
		"Type its name to go on: ", name); err != nil {
		return err
	}
	line, err := bufio.NewReader(io.LimitReader(c.InOrStdin(), 256)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if strings.TrimSpace(line) != name {
		return cli.WithCode(fmt.Errorf("nothing is deleted: the answer is not %s (--yes asks nothing)", name),
			cli.Usage)
	}
	return nil
}

// tenant tells what has become of a tenant.
func (o *connection) tenant(c *cobra.Command, t *pawlv1.Tenant, what string, err error) error {
	switch {
	case err != nil:
		return err
	case o.output == "json":
		return printJSON(c.OutOrStdout(), t)
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "tenant %s %s\n", t.GetName(), what)
	return err
}
