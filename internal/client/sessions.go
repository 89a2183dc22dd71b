package client

import (
	"context"
	"fmt"
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

// sessionForm is how a session is named on a command line.
const sessionForm = "AGENT/INSTANCE, AGENT/INSTANCE/SESSION or a session's id"

// slashForm is said in help of an instance in such a name.
const slashForm = "In INSTANCE, %2F stands for / and %25 for %."

// escapedInstance and unescapedInstance are for an instance between slashes.
var (
	escapedInstance   = strings.NewReplacer("%", "%25", "/", "%2F")
	unescapedInstance = strings.NewReplacer("%2F", "/", "%2f", "/", "%25", "%")
)

// sessionKey reads AGENT/INSTANCE or AGENT/INSTANCE/SESSION; nil for anything else. keyText writes it.
func sessionKey(name string) *pawlv1.SessionKey {
	parts := strings.SplitN(name, "/", 3)
	if len(parts) < 2 || slices.Contains(parts, "") {
		return nil
	}
	key := &pawlv1.SessionKey{Agent: parts[0], Instance: unescapedInstance.Replace(parts[1])}
	if len(parts) == 3 {
		key.Session = parts[2]
	}
	return key
}

// sessionName reads the name of a session: a key or an id.
func sessionName(name string) (*pawlv1.GetSessionRequest, error) {
	if ident.IsUUID(name) {
		return &pawlv1.GetSessionRequest{Session: &pawlv1.GetSessionRequest_SessionId{SessionId: name}}, nil
	}
	key := sessionKey(name)
	if key == nil {
		return nil, cli.WithCode(fmt.Errorf("%q is no session: use %s", name, sessionForm), cli.Usage)
	}
	return &pawlv1.GetSessionRequest{Session: &pawlv1.GetSessionRequest_Key{Key: key}}, nil
}

// ofSession makes a command of a call with the session that the first argument names, which is checked before anything
// is dialled.
func (o *connection) ofSession(
	use, short string, f func(c *cobra.Command, conn *grpc.ClientConn, s *pawlv1.Session, args []string) error,
) *cobra.Command {
	command := o.calls(use, short, nil)
	command.RunE = func(c *cobra.Command, args []string) error {
		req, err := sessionName(args[0])
		if err != nil {
			return err
		}
		return o.with(c, func(ctx context.Context, conn *grpc.ClientConn) error {
			s, err := findSession(ctx, conn, req)
			if err != nil {
				return err
			}
			return f(c, conn, s, args)
		})
	}
	return command
}

func findSession(ctx context.Context, conn *grpc.ClientConn, req *pawlv1.GetSessionRequest) (*pawlv1.Session, error) {
	res, err := pawlv1.NewSessionServiceClient(conn).GetSession(ctx, req)
	return res.GetSession(), err
}

// optionalSession is the id of a session that a flag names, "" for none.
func optionalSession(ctx context.Context, conn *grpc.ClientConn, name string) (id string, err error) {
	if name == "" {
		return "", nil
	}
	req, err := sessionName(name)
	if err != nil {
		return "", err
	}
	s, err := findSession(ctx, conn, req)
	return s.GetSessionId(), err
}

func keyText(k *pawlv1.SessionKey) string {
	text := k.GetAgent() + "/" + escapedInstance.Replace(k.GetInstance())
	if s := k.GetSession(); s != "" && s != "default" {
		text += "/" + s
	}
	return text
}

func sessionsCommand(o *connection) *cobra.Command {
	req, parent := &pawlv1.ListSessionsRequest{}, ""
	read := func(c *cobra.Command, conn *grpc.ClientConn, _ []string) error {
		sessions := pawlv1.NewSessionServiceClient(conn)
		var err error
		if req.ParentSessionId, err = optionalSession(c.Context(), conn, parent); err != nil {
			return err
		}
		return listing[*pawlv1.Session]{
			head: "SESSION\tID\tPENDING\tEXECUTOR\tCREATED",
			page: func(size int32, token string) ([]*pawlv1.Session, string, error) {
				req.PageSize, req.PageToken = size, token
				res, err := sessions.ListSessions(c.Context(), req)
				return res.GetSessions(), res.GetNextPageToken(), err
			},
			row: func(s *pawlv1.Session) []string {
				return []string{
					keyText(s.GetKey()), s.GetSessionId(), fmt.Sprint(s.GetPending()), s.GetExecutorId(),
					stamp(s.GetCreatedAt()),
				}
			},
		}.print(c, o)
	}
	list := o.limited(o.calls("list", "List sessions, newest first", read))
	list.Long = "List sessions, newest first. The conversations of sub-agents are listed with --children-of only."
	list.Flags().StringVar(&parent, "children-of", "", "`SESSION`: the conversations of this session's sub-agents")
	list.Flags().StringToStringVar(&req.Labels, "label", nil,
		"`KEY=VALUE`: only sessions with this label; several are all")
	list.Flags().StringVar(&req.Agent, "agent", "", "`AGENT`: only sessions of this agent")
	list.Flags().StringVar(&req.Instance, "instance", "", "`INSTANCE`: only sessions of this instance")
	rebind := o.ofSession("rebind SESSION EXECUTOR", "Move a session to another executor", o.rebind)
	rebind.Long = "Move a session to another executor: its next tool calls run there. It is for a session whose " +
		"executor is lost for good. No file is copied: the session finds the files of the other executor."
	return o.group(&cobra.Command{
		Use: "sessions", Short: "List, make, fork and delete sessions",
		Long: "List, make, fork and delete sessions. A session is named by " + sessionForm + ". " + slashForm,
		Example: "control sessions list --agent reviewer\ncontrol sessions list --children-of reviewer/42\n" +
			"control sessions get reviewer/42 -o json\n" +
			"control sessions compact reviewer/42\n" +
			"control sessions rebind reviewer/42 other-host\ncontrol sessions delete reviewer/42",
	}, list, rebind, compactCommand(o), o.deleteSessionCommand(), o.createCommand(), o.labelCommand(), o.forkCommand(),
		o.rewindCommand(), o.shellCommand(), o.exportCommand(),
		o.calls("delete-instance AGENT INSTANCE", "Delete all sessions of an instance", o.deleteInstance),
		o.ofSession("get SESSION", "Show one session", o.getSession))
}

// getSession shows one session.
func (o *connection) getSession(c *cobra.Command, _ *grpc.ClientConn, s *pawlv1.Session, _ []string) error {
	return o.show(c, s, field{"session", keyText(s.GetKey())}, field{"id", s.GetSessionId()},
		field{"parent", parentText(s)}, field{"pending", fmt.Sprint(s.GetPending())},
		field{"executor", s.GetExecutorId()},
		field{"entries", fmt.Sprint(s.GetEntryHead())}, field{"events", fmt.Sprint(s.GetEventHead())},
		field{"created", stamp(s.GetCreatedAt())}, field{"labels", labels(s.GetLabels(), ",")},
		field{"metadata", metadataText(s)}, field{"forked from", forkText(s)},
		field{"rewound to", s.GetRewoundToSessionId()})
}

// parentText is who a sub-agent's conversation works for, "" of a session that is prompted.
func parentText(s *pawlv1.Session) string {
	if s.GetParentSessionId() == "" {
		return ""
	}
	return s.GetParentSessionId() + ", whose call " + s.GetParentCallId() + " it answers"
}

func (o *connection) rebind(c *cobra.Command, conn *grpc.ClientConn, s *pawlv1.Session, args []string) error {
	res, err := pawlv1.NewSessionServiceClient(conn).RebindSession(c.Context(), &pawlv1.RebindSessionRequest{
		SessionId: s.GetSessionId(), ExecutorId: args[1],
	})
	moved := res.GetSession()
	switch {
	case err != nil:
		return err
	case o.output == "json":
		return printJSON(c.OutOrStdout(), moved)
	}
	fmt.Fprintf(c.OutOrStdout(), "session %s is with executor %s now\n", keyText(moved.GetKey()), moved.GetExecutorId())
	at, err := pawlv1.NewExecutorServiceClient(conn).GetExecutor(c.Context(), &pawlv1.GetExecutorRequest{
		ExecutorId: moved.GetExecutorId(),
	})
	if err == nil && !at.GetExecutor().GetConnected() {
		fmt.Fprintf(c.ErrOrStderr(), "executor %s is not connected: calls of the session wait for it, and fail if it "+
			"does not come\n", moved.GetExecutorId())
	}
	return err
}

func compactCommand(o *connection) *cobra.Command {
	c := o.ofSession("compact SESSION", "Summarise a session's older entries", o.compact)
	c.Long = "Summarise a session's older entries, and show the summary. Models are told the summary instead of " +
		"them from then on; the entries stay. It waits its turn behind what the session does. Whoever leaves does " +
		"not stop it."
	return c
}

func (o *connection) compact(c *cobra.Command, _ *grpc.ClientConn, s *pawlv1.Session, _ []string) error {
	req := &pawlv1.CompactSessionRequest{SessionId: s.GetSessionId(), IdempotencyKey: ident.New()}
	done, err := o.await(c, s, "waiting for the model",
		func(ctx context.Context, conn *grpc.ClientConn) (*pawlv1.Submission, error) {
			res, err := pawlv1.NewSessionServiceClient(conn).CompactSession(ctx, req)
			return res.GetSubmission(), err
		})
	switch {
	case err != nil:
		return err
	case o.output == "json":
		err = printJSON(c.OutOrStdout(), done)
	case done.GetResult().GetText() != "":
		fmt.Fprintln(c.OutOrStdout(), cli.Visible(done.GetResult().GetText()))
	case done.GetOutcome() == pawlv1.Outcome_OUTCOME_COMPLETED:
		fmt.Fprintln(c.OutOrStdout(), "nothing to compact: the conversation is too short for a summary to be of use")
	}
	if err == nil && done.GetOutcome() != pawlv1.Outcome_OUTCOME_COMPLETED {
		err = fmt.Errorf("%s: %s", done.GetError().GetReason(), done.GetError().GetMessage())
	}
	return err
}

func submissionsCommand(o *connection) *cobra.Command {
	list := func(c *cobra.Command, conn *grpc.ClientConn, s *pawlv1.Session, _ []string) error {
		submissions := pawlv1.NewSubmissionServiceClient(conn)
		return listing[*pawlv1.Submission]{
			head: "ID\tSTATE\tACCEPTED\tTURNS\tANSWER",
			page: func(size int32, token string) ([]*pawlv1.Submission, string, error) {
				res, err := submissions.ListSubmissions(c.Context(), &pawlv1.ListSubmissionsRequest{
					SessionId: s.GetSessionId(), PageSize: size, PageToken: token,
				})
				return res.GetSubmissions(), res.GetNextPageToken(), err
			},
			row: func(s *pawlv1.Submission) []string {
				return []string{
					s.GetSubmissionId(), submissionState(s), stamp(s.GetAcceptedAt()), fmt.Sprint(s.GetTurn()),
					oneLine(said(s), 50),
				}
			},
		}.print(c, o)
	}
	get := func(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
		submissions := pawlv1.NewSubmissionServiceClient(conn)
		res, err := submissions.GetSubmission(c.Context(), &pawlv1.GetSubmissionRequest{SubmissionId: args[0]})
		if err != nil {
			return err
		}
		return o.submission(c, res.GetSubmission())
	}
	return o.group(&cobra.Command{
		Use: "submissions", Short: "List what was submitted to a session",
		Long:    "List what was submitted to a session. A session is named by " + sessionForm + ". " + slashForm,
		Example: "control submissions list reviewer/42\ncontrol submissions get 0199c2… -o json",
	}, o.limited(o.ofSession("list SESSION", "List a session's submissions, newest first", list)),
		o.calls("get ID", "Show one submission", get))
}

// submission writes one submission.
func (o *connection) submission(c *cobra.Command, s *pawlv1.Submission) error {
	took, reason := "", ""
	if s.GetSettledAt() != nil && s.GetStartedAt() != nil {
		took = s.GetSettledAt().AsTime().Sub(s.GetStartedAt().AsTime()).Round(time.Millisecond).String()
	}
	if s.GetError() != nil {
		reason = said(s)
	}
	data := ""
	if d := s.GetResult().GetData(); d != nil {
		body, err := marshal(d, "")
		if err != nil {
			return err
		}
		data = string(body)
	}
	return o.show(c, s, field{"id", s.GetSubmissionId()}, field{"session", keyText(s.GetKey())},
		field{"state", submissionState(s)}, field{"accepted", stamp(s.GetAcceptedAt())},
		field{"started", stamp(s.GetStartedAt())}, field{"settled", stamp(s.GetSettledAt())}, field{"ran for", took},
		field{"turns", fmt.Sprint(s.GetTurn())}, field{"error", reason}, field{"answer", s.GetResult().GetText()},
		field{"result", data})
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
