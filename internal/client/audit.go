package client

import (
	"cmp"
	"errors"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
)

var errSince = errors.New("--since is a time that has passed, such as 24h")

func auditCommand(o *connection) *cobra.Command {
	var want pawlv1.ListAuditEventsRequest
	var since time.Duration
	list := func(c *cobra.Command, conn *grpc.ClientConn, _ []string) error {
		if since < 0 {
			return cli.WithCode(errSince, cli.Usage)
		}
		if since > 0 {
			want.From = timestamppb.New(time.Now().Add(-since))
		}
		audit := pawlv1.NewAuditServiceClient(conn)
		return listing[*pawlv1.AuditEvent]{
			head: "TIME\tWHO\tFROM\tRESULT\tMETHOD\tRESOURCE",
			page: func(size int32, token string) ([]*pawlv1.AuditEvent, string, error) {
				want.PageSize, want.PageToken = size, token
				res, err := audit.ListAuditEvents(c.Context(), &want)
				return res.GetEvents(), res.GetNextPageToken(), err
			},
			row: func(e *pawlv1.AuditEvent) []string {
				who := cmp.Or(e.GetName(), e.GetTokenId(), e.GetKind())
				if e.GetOnBehalfOf() != "" {
					who += " for " + e.GetOnBehalfOf()
				}
				result := "refused"
				if e.GetAllowed() {
					result = cmp.Or(e.GetReason(), "allowed")
				}
				resource := oneLine(e.GetResource(), 60)
				return []string{stamp(e.GetTime()), who, e.GetSource(), result, e.GetMethod(), resource}
			},
		}.print(c, o)
	}
	c := o.limited(o.calls("list", "List who did what, newest first", list))
	f := c.Flags()
	f.StringVar(&want.TokenId, "token-id", "", "`ID`: only what was done with this token")
	f.StringVar(&want.Verb, "verb", "", "`VERB`: only what was asked for with this verb, such as \"prompt an agent\"; "+
		"a wrong one has the verbs listed")
	f.StringVar(&want.Tenant, "tenant", "", "`TENANT`: only this tenant's (default: all that the caller may read)")
	f.DurationVar(&since, "since", 0, "only what is not older, such as 24h (default: all)")
	return o.group(&cobra.Command{
		Use: "audit", Short: "Read the audit log",
		Example: "control audit list --since 24h\ncontrol audit list --token-id ID -o json",
	}, c)
}
