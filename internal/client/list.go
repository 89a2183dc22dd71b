package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/rpc"
)

// group is a command that only has subcommands.
func (o *connection) group(c *cobra.Command, sub ...*cobra.Command) *cobra.Command {
	c.Args, c.RunE = cli.Args(0), func(c *cobra.Command, _ []string) error { return c.Help() }
	o.flags(c)
	c.AddCommand(sub...)
	return c
}

func agentsCommand(o *connection) *cobra.Command {
	return o.group(&cobra.Command{
		Use: "agents", Short: "List agents, and load their files again",
		Example: "control agents list\ncontrol agents get reviewer -o json\ncontrol agents reload",
	}, o.json(&cobra.Command{
		Use: "list", Short: "List agents", Args: cli.Args(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return o.with(c, func(ctx context.Context, conn *grpc.ClientConn) error {
				agents := pawlv1.NewAgentServiceClient(conn)
				return listing[*pawlv1.Agent]{
					head: "NAME\tMODEL\tTOOLS\tDESCRIPTION",
					page: func(token string) ([]*pawlv1.Agent, string, error) {
						res, err := agents.ListAgents(ctx, &pawlv1.ListAgentsRequest{PageToken: token})
						return res.GetAgents(), res.GetNextPageToken(), err
					},
					row: func(a *pawlv1.Agent) []string {
						return []string{
							a.GetName(),
							a.GetModel(),
							strings.Join(a.GetTools(), ","),
							oneLine(a.GetDescription(), 60),
						}
					},
				}.print(c, o.output)
			})
		},
	}), o.json(&cobra.Command{
		Use: "get NAME", Short: "Show one agent", Args: cli.Args(1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.with(c, func(ctx context.Context, conn *grpc.ClientConn) error {
				res, err := pawlv1.NewAgentServiceClient(conn).GetAgent(ctx, &pawlv1.GetAgentRequest{Agent: args[0]})
				a := res.GetAgent()
				switch {
				case err != nil:
					return err
				case o.output == "json":
					return printJSON(c.OutOrStdout(), a)
				}
				return printFields(c.OutOrStdout(), field{"name", a.GetName()}, field{"model", a.GetModel()},
					field{"description", a.GetDescription()}, field{"tools", strings.Join(a.GetTools(), ", ")},
					field{"expose", strings.Join(a.GetExpose(), ", ")}, field{"digest", a.GetDigest()})
			})
		},
	}), o.json(&cobra.Command{
		Use:   "reload",
		Short: "Read the agent files again",
		Args:  cli.Args(0),
		Long: "Read the agent files again, at the replica that answers; SIGHUP does the same. A file that is " +
			"broken is named, and its " +
			"agent keeps its last good definition. Submissions under way keep the definition that they began with.",
		RunE: func(c *cobra.Command, _ []string) error { return o.with(c, o.reload(c)) },
	}))
}

// errBroken ends a reload that could not take over every file.
var errBroken = errors.New("some files could not be used; what is good in the others is in force")

func (o *connection) reload(c *cobra.Command) func(context.Context, *grpc.ClientConn) error {
	return func(ctx context.Context, conn *grpc.ClientConn) error {
		res, err := pawlv1.NewAgentServiceClient(conn).ReloadAgents(ctx, &pawlv1.ReloadAgentsRequest{})
		if err != nil {
			return err
		}
		if o.output == "json" {
			err = printJSON(c.OutOrStdout(), res)
		} else {
			err = printFields(
				c.OutOrStdout(),
				field{"added", strings.Join(res.GetAdded(), ", ")},
				field{
					"changed",
					strings.Join(res.GetChanged(), ", "),
				},
				field{"removed", strings.Join(res.GetRemoved(), ", ")},
			)
		}
		for _, p := range res.GetProblems() {
			kept := "it cannot be prompted"
			if p.GetKept() {
				kept = "what was there before stays in force"
			}
			fmt.Fprintf(c.ErrOrStderr(), "%s (%s)\n", cli.Visible(p.GetMessage()), kept)
		}
		if err == nil && len(res.GetProblems()) > 0 {
			err = errBroken
		}
		if err == nil && o.output != "json" && len(res.GetAdded())+len(res.GetChanged())+len(res.GetRemoved()) == 0 {
			fmt.Fprintln(c.ErrOrStderr(), "nothing has changed")
		}
		return err
	}
}

func executorsCommand(o *connection) *cobra.Command {
	return o.group(&cobra.Command{
		Use: "executors", Short: "List executors",
		Example: "control executors list\ncontrol executors get gpu1 -o json",
	}, o.json(&cobra.Command{
		Use: "list", Short: "List executors, connected or not", Args: cli.Args(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return o.with(c, func(ctx context.Context, conn *grpc.ClientConn) error {
				executors := pawlv1.NewExecutorServiceClient(conn)
				return listing[*pawlv1.Executor]{
					head: "ID\tSTATE\tCALLS\tLABELS\tLAST SEEN",
					page: func(token string) ([]*pawlv1.Executor, string, error) {
						res, err := executors.ListExecutors(ctx, &pawlv1.ListExecutorsRequest{PageToken: token})
						return res.GetExecutors(), res.GetNextPageToken(), err
					},
					row: func(x *pawlv1.Executor) []string {
						return []string{
							x.GetExecutorId(),
							stateOf(x),
							fmt.Sprintf("%d/%d", x.GetRunning(), x.GetSlots()),
							labels(x.GetLabels(), ","),
							stamp(x.GetLastSeen()),
						}
					},
				}.print(c, o.output)
			})
		},
	}), o.json(&cobra.Command{
		Use: "get ID", Short: "Show one executor", Args: cli.Args(1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.with(c, func(ctx context.Context, conn *grpc.ClientConn) error {
				res, err := pawlv1.NewExecutorServiceClient(conn).
					GetExecutor(ctx, &pawlv1.GetExecutorRequest{ExecutorId: args[0]})
				x := res.GetExecutor()
				switch {
				case err != nil:
					return err
				case o.output == "json":
					return printJSON(c.OutOrStdout(), x)
				}
				return printFields(
					c.OutOrStdout(),
					field{"id", x.GetExecutorId()},
					field{"state", stateOf(x)},
					field{
						"calls",
						fmt.Sprintf("%d of %d", x.GetRunning(), x.GetSlots()),
					},
					field{"labels", labels(x.GetLabels(), ",")},
					field{"root", x.GetRoot()},
					field{"version", x.GetVersion()},
					field{"isolation", x.GetIsolation()},
					field{"replica", x.GetReplicaId()},
					field{"last seen", stamp(x.GetLastSeen())},
				)
			})
		},
	}))
}

func stateOf(x *pawlv1.Executor) string {
	switch {
	case !x.GetConnected():
		return "away"
	case x.GetDraining():
		return "draining"
	}
	return "connected"
}

func labels(m map[string]string, between string) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, k+"="+m[k])
	}
	return strings.Join(all, between)
}

// sessionForm is how a session is named on a command line.
const sessionForm = "AGENT/INSTANCE, AGENT/INSTANCE/SESSION or a session's id"

// sessionName reads the name of a session: a key or an id.
func sessionName(name string) (*pawlv1.GetSessionRequest, error) {
	if ident.IsUUID(name) {
		return &pawlv1.GetSessionRequest{Session: &pawlv1.GetSessionRequest_SessionId{SessionId: name}}, nil
	}
	parts := strings.SplitN(name, "/", 3)
	if len(parts) < 2 || slices.Contains(parts, "") {
		return nil, cli.WithCode(fmt.Errorf("%q is no session: use %s", name, sessionForm), cli.Usage)
	}
	key := &pawlv1.SessionKey{Agent: parts[0], Instance: parts[1]}
	if len(parts) == 3 {
		key.Session = parts[2]
	}
	return &pawlv1.GetSessionRequest{Session: &pawlv1.GetSessionRequest_Key{Key: key}}, nil
}

// withSession connects for what needs a session, whose name is checked first.
func (o *connection) withSession(
	c *cobra.Command,
	name string,
	f func(context.Context, *grpc.ClientConn, *pawlv1.Session) error,
) error {
	req, err := sessionName(name)
	if err != nil {
		return err
	}
	return o.with(c, func(ctx context.Context, conn *grpc.ClientConn) error {
		res, err := pawlv1.NewSessionServiceClient(conn).GetSession(ctx, req)
		if err != nil {
			return err
		}
		return f(ctx, conn, res.GetSession())
	})
}

func findSession(ctx context.Context, conn *grpc.ClientConn, req *pawlv1.GetSessionRequest) (*pawlv1.Session, error) {
	res, err := pawlv1.NewSessionServiceClient(conn).GetSession(ctx, req)
	return res.GetSession(), err
}

func keyText(k *pawlv1.SessionKey) string {
	text := k.GetAgent() + "/" + k.GetInstance()
	if s := k.GetSession(); s != "" && s != "default" {
		text += "/" + s
	}
	return text
}

func sessionsCommand(o *connection) *cobra.Command {
	req := &pawlv1.ListSessionsRequest{}
	list := o.json(&cobra.Command{
		Use: "list", Short: "List sessions, newest first", Args: cli.Args(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return o.with(c, func(ctx context.Context, conn *grpc.ClientConn) error {
				sessions := pawlv1.NewSessionServiceClient(conn)
				return listing[*pawlv1.Session]{
					head: "SESSION\tID\tPENDING\tEXECUTOR\tCREATED",
					page: func(token string) ([]*pawlv1.Session, string, error) {
						req.PageToken = token
						res, err := sessions.ListSessions(ctx, req)
						return res.GetSessions(), res.GetNextPageToken(), err
					},
					row: func(s *pawlv1.Session) []string {
						return []string{
							keyText(
								s.GetKey(),
							),
							s.GetSessionId(),
							fmt.Sprint(s.GetPending()),
							s.GetExecutorId(),
							stamp(s.GetCreatedAt()),
						}
					},
				}.print(c, o.output)
			})
		},
	})
	list.Flags().StringVar(&req.Agent, "agent", "", "`AGENT`: only sessions of this agent")
	list.Flags().StringVar(&req.Instance, "instance", "", "`INSTANCE`: only sessions of this instance")
	return o.group(&cobra.Command{
		Use: "sessions", Short: "List sessions",
		Long: "List sessions. A session is named by " + sessionForm + ".",
		Example: "control sessions list --agent reviewer\ncontrol sessions get reviewer/42 -o json\n" +
			"control sessions rebind reviewer/42 other-host",
	}, list, o.rebindCommand(), o.json(&cobra.Command{
		Use: "get SESSION", Short: "Show one session", Args: cli.Args(1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.withSession(c, args[0], func(_ context.Context, _ *grpc.ClientConn, s *pawlv1.Session) error {
				if o.output == "json" {
					return printJSON(c.OutOrStdout(), s)
				}
				return printFields(
					c.OutOrStdout(),
					field{"session", keyText(s.GetKey())},
					field{"id", s.GetSessionId()},
					field{"pending", fmt.Sprint(s.GetPending())},
					field{"executor", s.GetExecutorId()},
					field{"entries", fmt.Sprint(s.GetEntryHead())},
					field{"events", fmt.Sprint(s.GetEventHead())},
					field{"created", stamp(s.GetCreatedAt())},
				)
			})
		},
	}))
}

func (o *connection) rebindCommand() *cobra.Command {
	return o.json(&cobra.Command{
		Use: "rebind SESSION EXECUTOR", Short: "Move a session to another executor", Args: cli.Args(2),
		Long: "Move a session to another executor: its next tool calls run there. It is for a session whose executor " +
			"is " +
			"lost for good. No file is copied: the session finds the files of the other executor.",
		RunE: func(c *cobra.Command, args []string) error {
			return o.withSession(c, args[0], func(ctx context.Context, conn *grpc.ClientConn, s *pawlv1.Session) error {
				res, err := pawlv1.NewSessionServiceClient(conn).RebindSession(ctx, &pawlv1.RebindSessionRequest{
					SessionId: s.GetSessionId(), ExecutorId: args[1],
				})
				switch {
				case err != nil:
					return err
				case o.output == "json":
					return printJSON(c.OutOrStdout(), res.GetSession())
				}
				_, err = fmt.Fprintf(c.OutOrStdout(), "session %s is with executor %s now\n",
					keyText(res.GetSession().GetKey()), res.GetSession().GetExecutorId())
				return err
			})
		},
	})
}

func submissionsCommand(o *connection) *cobra.Command {
	return o.group(&cobra.Command{
		Use: "submissions", Short: "List what was submitted to a session",
		Long:    "List what was submitted to a session. A session is named by " + sessionForm + ".",
		Example: "control submissions list reviewer/42\ncontrol submissions get 0199c2… -o json",
	}, o.json(&cobra.Command{
		Use: "list SESSION", Short: "List a session's submissions, newest first", Args: cli.Args(1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.withSession(c, args[0], func(ctx context.Context, conn *grpc.ClientConn, s *pawlv1.Session) error {
				return listing[*pawlv1.Submission]{
					head: "ID\tSTATE\tACCEPTED\tTURNS\tANSWER",
					page: pagesOfSubmissions(ctx, conn, s.GetSessionId()),
					row: func(s *pawlv1.Submission) []string {
						return []string{
							s.GetSubmissionId(),
							submissionState(s),
							stamp(s.GetAcceptedAt()),
							fmt.Sprint(s.GetTurn()),
							oneLine(said(s), 50),
						}
					},
				}.print(c, o.output)
			})
		},
	}), o.json(&cobra.Command{
		Use: "get ID", Short: "Show one submission", Args: cli.Args(1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.with(c, func(ctx context.Context, conn *grpc.ClientConn) error {
				res, err := pawlv1.NewSubmissionServiceClient(conn).
					GetSubmission(ctx, &pawlv1.GetSubmissionRequest{SubmissionId: args[0]})
				if err != nil {
					return err
				}
				return o.submission(c, res.GetSubmission())
			})
		},
	}))
}

// pagesOfSubmissions pages by seq, which the API does for submissions.
func pagesOfSubmissions(
	ctx context.Context,
	conn *grpc.ClientConn,
	session string,
) func(string) ([]*pawlv1.Submission, string, error) {
	submissions, before := pawlv1.NewSubmissionServiceClient(conn), int64(0)
	return func(string) ([]*pawlv1.Submission, string, error) {
		res, err := submissions.ListSubmissions(ctx, &pawlv1.ListSubmissionsRequest{SessionId: session, Before: before})
		page := res.GetSubmissions()
		if err != nil || len(page) == 0 {
			return nil, "", err
		}
		before = page[len(page)-1].GetSeq()
		return page, "more", nil
	}
}

// submission writes one submission.
func (o *connection) submission(c *cobra.Command, s *pawlv1.Submission) error {
	if o.output == "json" {
		return printJSON(c.OutOrStdout(), s)
	}
	took := ""
	if s.GetSettledAt() != nil && s.GetStartedAt() != nil {
		took = s.GetSettledAt().AsTime().Sub(s.GetStartedAt().AsTime()).Round(time.Millisecond).String()
	}
	reason := ""
	if e := s.GetError(); e != nil {
		reason = e.GetReason() + ": " + e.GetMessage()
	}
	return printFields(
		c.OutOrStdout(),
		field{"id", s.GetSubmissionId()},
		field{"session", keyText(s.GetKey())},
		field{
			"state",
			submissionState(s),
		},
		field{"accepted", stamp(s.GetAcceptedAt())},
		field{"started", stamp(s.GetStartedAt())},
		field{"settled", stamp(s.GetSettledAt())},
		field{"ran for", took},
		field{"turns", fmt.Sprint(s.GetTurn())},
		field{"error", reason},
		field{"answer", s.GetResult().GetText()},
	)
}

// submissionState is the outcome of a submission that has settled, else its status.
func submissionState(s *pawlv1.Submission) string {
	if s.GetStatus() == pawlv1.Submission_STATUS_SETTLED {
		return outcomeText(s.GetOutcome())
	}
	state := strings.ToLower(strings.TrimPrefix(s.GetStatus().String(), "STATUS_"))
	if s.GetAbortRequested() {
		state += ", to be aborted"
	}
	return state
}

// said is what a submission came to, in a few words.
func said(s *pawlv1.Submission) string {
	if e := s.GetError(); e != nil {
		return e.GetReason() + ": " + e.GetMessage()
	}
	return s.GetResult().GetText()
}

// notFound reports whether a call failed because there is no such thing.
func notFound(err error, reason string) bool { return rpc.Reason(err) == reason }
