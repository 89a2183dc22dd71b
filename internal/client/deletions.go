package client

import (
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// deleteSessionCommand deletes a session.
func (o *connection) deleteSessionCommand() *cobra.Command {
	var abort bool
	del := func(c *cobra.Command, conn *grpc.ClientConn, s *pawlv1.Session, _ []string) error {
		res, err := pawlv1.NewDeletionServiceClient(conn).DeleteSession(c.Context(), &pawlv1.DeleteSessionRequest{
			Session: &pawlv1.DeleteSessionRequest_SessionId{SessionId: s.GetSessionId()}, Abort: abort,
		})
		if err != nil {
			return err
		}
		return o.deleting(c, res.GetDeletion())
	}
	c := o.ofSession("delete SESSION", "Delete a session and all that it has", del)
	c.Flags().BoolVar(&abort, "abort", false, "abort what runs and what is queued; without it a busy session stays")
	return c
}

func (o *connection) deleteInstance(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
	res, err := pawlv1.NewDeletionServiceClient(conn).DeleteInstance(c.Context(), &pawlv1.DeleteInstanceRequest{
		Agent: args[0], Instance: args[1],
	})
	if err != nil {
		return err
	}
	return o.deleting(c, res.GetDeletion())
}

// deleting tells of a deletion that is accepted.
func (o *connection) deleting(c *cobra.Command, d *pawlv1.Deletion) error {
	if o.output == "json" {
		return printJSON(c.OutOrStdout(), d)
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s is being deleted; `control deletions get %s` tells how far that is\n",
		deletedText(d), d.GetDeletionId())
	return err
}

func deletionsCommand(o *connection) *cobra.Command {
	list := func(c *cobra.Command, conn *grpc.ClientConn, _ []string) error {
		deletions := pawlv1.NewDeletionServiceClient(conn)
		return listing[*pawlv1.Deletion]{
			head: "ID\tWHAT\tASKED\tDONE\tWAITS FOR",
			page: func(size int32, token string) ([]*pawlv1.Deletion, string, error) {
				res, err := deletions.ListDeletions(c.Context(), &pawlv1.ListDeletionsRequest{
					PageSize: size, PageToken: token,
				})
				return res.GetDeletions(), res.GetNextPageToken(), err
			},
			row: func(d *pawlv1.Deletion) []string {
				return []string{
					d.GetDeletionId(), deletedText(d), stamp(d.GetAskedAt()), stamp(d.GetDoneAt()),
					oneLine(d.GetWaitsFor(), 50),
				}
			},
		}.print(c, o)
	}
	get := func(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
		res, err := pawlv1.NewDeletionServiceClient(conn).GetDeletion(c.Context(), &pawlv1.GetDeletionRequest{
			DeletionId: args[0],
		})
		if err != nil {
			return err
		}
		d := res.GetDeletion()
		return o.show(c, d, field{"id", d.GetDeletionId()}, field{"what", deletedText(d)},
			field{"asked", stamp(d.GetAskedAt())}, field{"done", stamp(d.GetDoneAt())},
			field{"waits for", d.GetWaitsFor()})
	}
	return o.group(&cobra.Command{
		Use: "deletions", Short: "Show what is being deleted, and what was",
		Example: "control deletions list\ncontrol deletions get 0199c2…",
	}, o.limited(o.calls("list", "List deletions, newest first", list)), o.calls("get ID", "Show one deletion", get))
}

// deletedText names what is deleted. Of what is gone, the name is not known any more.
func deletedText(d *pawlv1.Deletion) string {
	if s := d.GetSession(); s != nil {
		if s.GetInstance() == "" {
			return "session " + s.GetSessionId() + " of " + s.GetAgent() + ", whose name is deleted too"
		}
		return "session " + keyText(&pawlv1.SessionKey{
			Agent: s.GetAgent(), Instance: s.GetInstance(), Session: s.GetSession(),
		})
	}
	if t := d.GetTenant(); t != nil {
		return "tenant " + t.GetTenant()
	}
	return "instance " + d.GetInstance().GetAgent() + "/" + d.GetInstance().GetInstance()
}
