package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/ident"
)

// told is what a command line says of a session.
type told struct {
	labels   map[string]string
	metadata string
}

func (d *told) flags(f *pflag.FlagSet) {
	f.StringToStringVar(&d.labels, "label", nil, "`KEY=VALUE`: a label; may be given several times")
	f.StringVar(&d.metadata, "metadata", "", "`JSON`: an object of at most 16 KiB, which Pawl does not look at")
}

// object is the metadata, nil for none.
func (d *told) object() (*structpb.Struct, error) {
	if d.metadata == "" {
		return nil, nil
	}
	s := &structpb.Struct{}
	if err := protojson.Unmarshal([]byte(d.metadata), s); err != nil {
		return nil, cli.WithCode(errors.New("--metadata is no JSON object"), cli.Usage)
	}
	return s, nil
}

func metadataText(s *pawlv1.Session) string {
	if s.GetMetadata() == nil {
		return ""
	}
	b, err := marshal(s.GetMetadata(), "")
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func forkText(s *pawlv1.Session) string {
	f := s.GetForkedFrom()
	if f == nil {
		return ""
	}
	return fmt.Sprintf("%s, at entry %d", f.GetSessionId(), f.GetEntrySeq())
}

func (o *connection) createCommand() *cobra.Command {
	var say told
	c := o.json(&cobra.Command{
		Use: "create AGENT/INSTANCE[/SESSION]", Short: "Make a session before its first prompt", Args: cli.Args(1),
		Long: "Make a session before its first prompt. Made again with the same labels and metadata, it is the same " +
			"session.",
		Example: `control sessions create reviewer/42 --label team=core --metadata '{"id": 7}'`,
	})
	c.RunE = func(c *cobra.Command, args []string) error {
		key := sessionKey(args[0])
		if key == nil {
			return cli.WithCode(fmt.Errorf("%q is no name of a session: use AGENT/INSTANCE or AGENT/INSTANCE/SESSION",
				args[0]), cli.Usage)
		}
		meta, err := say.object()
		if err != nil {
			return err
		}
		return o.with(c, func(ctx context.Context, conn *grpc.ClientConn) error {
			res, err := pawlv1.NewSessionServiceClient(conn).CreateSession(ctx, &pawlv1.CreateSessionRequest{
				Key: key, Labels: say.labels, Metadata: meta,
			})
			if notFound(err, "SESSION_EXISTS") {
				return fmt.Errorf("session %s is there with other labels or metadata: `control sessions label %[1]s` "+
					"changes them", args[0])
			}
			if err != nil {
				return err
			}
			return o.made(c, res.GetSession(), map[bool]string{true: "made", false: "there already"}[res.GetCreated()])
		})
	}
	say.flags(c.Flags())
	return c
}

// made tells of a session that a command has made, or changed.
func (o *connection) made(c *cobra.Command, s *pawlv1.Session, how string) error {
	if o.output == "json" {
		return printJSON(c.OutOrStdout(), s)
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "session %s, id %s, is %s\n", keyText(s.GetKey()), s.GetSessionId(), how)
	return err
}

func (o *connection) labelCommand() *cobra.Command {
	var say told
	var remove []string
	c := o.ofSession("label SESSION", "Change the labels and the metadata of a session",
		func(c *cobra.Command, conn *grpc.ClientConn, s *pawlv1.Session, _ []string) error {
			meta, err := say.object()
			if err != nil {
				return err
			}
			res, err := pawlv1.NewSessionServiceClient(conn).UpdateSession(c.Context(), &pawlv1.UpdateSessionRequest{
				SessionId: s.GetSessionId(), SetLabels: say.labels, RemoveLabels: remove, Metadata: meta,
			})
			if err != nil {
				return err
			}
			how := "without labels"
			if all := labels(res.GetSession().GetLabels(), ","); all != "" {
				how = "labelled " + all
			}
			return o.made(c, res.GetSession(), how)
		})
	c.PreRunE = func(c *cobra.Command, _ []string) error {
		if len(say.labels)+len(remove) == 0 && say.metadata == "" {
			return cli.Misused(c, errors.New("give --label KEY=VALUE, --remove KEY or --metadata JSON"))
		}
		return nil
	}
	say.flags(c.Flags())
	c.Flags().StringSliceVar(&remove, "remove", nil, "`KEY`: a label to remove; may be given several times")
	return c
}

// cut tells of a session that was cut from another one.
func (o *connection) cut(c *cobra.Command, s *pawlv1.Session, moved bool) error {
	at := s.GetForkedFrom().GetEntrySeq()
	if moved {
		fmt.Fprintf(c.ErrOrStderr(), "the cut was moved back to entry %d: what comes after it has no answer, or calls "+
			"without their results\n", at)
	}
	return o.made(c, s, fmt.Sprintf("a fork at entry %d", at))
}

func (o *connection) forkCommand() *cobra.Command {
	var say told
	var at int64
	var instance string
	c := o.ofSession("fork SESSION NAME", "Make a session that begins as another one did",
		func(c *cobra.Command, conn *grpc.ClientConn, s *pawlv1.Session, args []string) error {
			meta, err := say.object()
			if err != nil {
				return err
			}
			res, err := pawlv1.NewSessionServiceClient(conn).ForkSession(c.Context(), &pawlv1.ForkSessionRequest{
				SessionId: s.GetSessionId(), At: at, Instance: instance, Name: args[1],
				Labels: say.labels, Metadata: meta,
			})
			if err != nil {
				return err
			}
			return o.cut(c, res.GetSession(), res.GetMoved())
		})
	c.Long = "Make a session that begins as another one did: both share the entries up to the cut, and go on apart."
	c.Example = "control sessions fork reviewer/42 other-way --at 12"
	say.flags(c.Flags())
	c.Flags().Int64Var(&at, "at", 0, "`N`: the last entry that both share (default: all that there are)")
	c.Flags().StringVar(&instance, "instance", "", "`INSTANCE`: that the fork is of (default: the same)")
	return c
}

func (o *connection) rewindCommand() *cobra.Command {
	c := o.ofSession("rewind SESSION ENTRY", "Take a session back to an earlier entry",
		func(c *cobra.Command, conn *grpc.ClientConn, s *pawlv1.Session, args []string) error {
			at, err := strconv.ParseInt(args[1], 10, 64)
			if err != nil || at < 0 {
				return cli.WithCode(fmt.Errorf("%q is no number of an entry", args[1]), cli.Usage)
			}
			res, err := pawlv1.NewSessionServiceClient(conn).RewindSession(c.Context(), &pawlv1.RewindSessionRequest{
				SessionId: s.GetSessionId(), At: proto.Int64(at),
			})
			if err != nil {
				return err
			}
			return o.cut(c, res.GetSession(), res.GetMoved())
		})
	c.Long = "Take a session back to an earlier entry, 0 for its beginning. What came after it is not lost: the " +
		"session as it was keeps its id."
	return c
}

func (o *connection) shellCommand() *cobra.Command {
	var cwd string
	var timeout time.Duration
	c := o.ofSession("shell SESSION COMMAND", "Run a command and make it part of the conversation",
		func(c *cobra.Command, _ *grpc.ClientConn, s *pawlv1.Session, args []string) error {
			req := &pawlv1.ShellRequest{
				SessionId: s.GetSessionId(), Command: args[1], Cwd: cwd, IdempotencyKey: ident.New(),
			}
			if timeout != 0 {
				req.Timeout = durationpb.New(timeout)
			}
			done, err := o.await(c, s, "the command runs",
				func(ctx context.Context, conn *grpc.ClientConn) (*pawlv1.Submission, error) {
					res, err := pawlv1.NewSubmissionServiceClient(conn).Shell(ctx, req)
					return res.GetSubmission(), err
				})
			if err != nil {
				return err
			}
			return o.ran(c, done)
		})
	c.Long = "Run a command in the workspace of a session, once what runs has ended, and make it part of the " +
		"conversation: the model will know of it. No model is asked. Ctrl-C offers to abort; whoever leaves does not " +
		"stop the command."
	c.Example = `control sessions shell reviewer/42 "git status"`
	c.Flags().StringVar(&cwd, "cwd", "", "`DIR`: to run in, relative to that of the agent")
	c.Flags().DurationVar(&timeout, "timeout", 0, "when the command is ended, such as 10m (default: never)")
	return c
}

// ran writes what a command came to.
func (o *connection) ran(c *cobra.Command, s *pawlv1.Submission) error {
	var err error
	if o.output == "json" {
		err = printJSON(c.OutOrStdout(), s)
	} else {
		_, err = io.WriteString(c.OutOrStdout(), cli.Visible(s.GetResult().GetText())+"\n")
	}
	if err == nil && s.GetOutcome() != pawlv1.Outcome_OUTCOME_COMPLETED {
		err = errors.New(said(s))
	}
	return err
}

func (o *connection) exportCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "export SESSION", Short: "Write a session as JSON Lines", Args: cli.Args(1),
		Long: "Write a session as JSON Lines: the session, its entries with their images, its tool calls, its " +
			"submissions, and the same of its sub-agents.",
		Example: "control sessions export reviewer/42 > session.jsonl",
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		req, err := sessionName(args[0])
		if err != nil {
			return err
		}
		return o.with(c, func(ctx context.Context, conn *grpc.ClientConn) error {
			s, err := findSession(ctx, conn, req)
			if err != nil {
				return err
			}
			stream, err := pawlv1.NewSessionServiceClient(conn).ExportSession(ctx, &pawlv1.ExportSessionRequest{
				SessionId: s.GetSessionId(),
			})
			if err != nil {
				return err
			}
			out := bufio.NewWriter(c.OutOrStdout())
			for {
				item, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					return out.Flush()
				}
				if err != nil {
					return err
				}
				line, err := marshal(item, "")
				if err == nil {
					_, err = out.Write(append(line, '\n'))
				}
				if err != nil {
					return err
				}
			}
		})
	}
	return c
}
