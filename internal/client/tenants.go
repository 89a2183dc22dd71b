package client

import (
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

func tenantsCommand(o *connection) *cobra.Command {
	list := func(c *cobra.Command, conn *grpc.ClientConn, _ []string) error {
		tenants := pawlv1.NewTenantServiceClient(conn)
		return listing[*pawlv1.Tenant]{
			head: "TENANT\tCREATED\tSUSPENDED",
			page: func(size int32, token string) ([]*pawlv1.Tenant, string, error) {
				res, err := tenants.ListTenants(c.Context(), &pawlv1.ListTenantsRequest{
					PageSize: size, PageToken: token,
				})
				return res.GetTenants(), res.GetNextPageToken(), err
			},
			row: func(t *pawlv1.Tenant) []string {
				return []string{t.GetName(), stamp(t.GetCreatedAt()), stamp(t.GetSuspendedAt())}
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
		Use: "tenants", Short: "Make, list and suspend tenants",
		Long: "Make, list and suspend tenants. A tenant has sessions, tokens and executors of its own, and sees " +
			"nothing of another's. The tokens of a suspended one are refused; what it has begun goes on to its end.",
		Example: "control tenants create acme\ncontrol token create --client --tenant acme\n" +
			"control tenants suspend acme",
	}, o.calls("create NAME", "Make a tenant", create), o.limited(o.calls("list", "List tenants", list)),
		o.calls("suspend NAME", "Refuse a tenant's tokens", suspend),
		o.calls("resume NAME", "Take a tenant's tokens again", resume))
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
