package client

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
)

// approvalStates are the words for states, by their numbers.
var approvalStates = []string{"all", "open", "approved", "denied", "expired", "withdrawn"}

func approvalsCommand(o *connection) *cobra.Command {
	return o.group(&cobra.Command{
		Use: "approvals", Short: "Show and decide what waits for approval",
		Long: "Show and decide what waits for approval. The rules of an agent (approve, in its file) say which of " +
			"its tool calls wait. It takes a token with the role approver to decide, or a higher one if the rule " +
			"says so.",
		Example: "control approvals list\ncontrol approvals show 0199c2…\ncontrol approvals approve 0199c2…\n" +
			"control approvals deny 0199c2… --comment 'not on a Friday'\ncontrol approvals grants",
	}, o.listApprovals(), o.calls("show ID", "Show what waits for a decision", o.showApproval), o.approve(), o.deny(),
		o.listGrants(), o.calls("revoke GRANT", "End what an approval has allowed for a session", o.revoke))
}

func (o *connection) listApprovals() *cobra.Command {
	state, session, agent := "open", "", ""
	list := func(c *cobra.Command, conn *grpc.ClientConn, _ []string) error {
		id, err := optionalSession(c.Context(), conn, session)
		if err != nil {
			return err
		}
		n := slices.Index(approvalStates, state)
		approvals := pawlv1.NewApprovalServiceClient(conn)
		return listing[*pawlv1.Approval]{
			head: "ID\tSTATE\tSESSION\tTOOL\tASKED\tEXPIRES\tWHAT",
			page: func(size int32, token string) ([]*pawlv1.Approval, string, error) {
				res, err := approvals.ListApprovals(c.Context(), &pawlv1.ListApprovalsRequest{
					State: pawlv1.ApprovalState(n), SessionId: id, Agent: agent, PageSize: size, PageToken: token,
				})
				return res.GetApprovals(), res.GetNextPageToken(), err
			},
			row: func(a *pawlv1.Approval) []string {
				return []string{
					a.GetApprovalId(), approvalState(a), keyText(a.GetKey()), a.GetTool(), stamp(a.GetAskedAt()),
					stamp(a.GetExpiresAt()), oneLine(what(a.GetArguments()), 60),
				}
			},
		}.print(c, o)
	}
	command := o.limited(o.calls("list", "List approvals, newest first", list))
	command.PreRunE = func(c *cobra.Command, _ []string) error {
		if !slices.Contains(approvalStates, state) {
			return cli.Misused(c, fmt.Errorf("--state is one of %s, not %q", strings.Join(approvalStates, ", "), state))
		}
		return nil
	}
	command.Flags().StringVar(&state, "state", state, "`STATE`: "+strings.Join(approvalStates, ", "))
	command.Flags().StringVar(&session, "session", "", "`SESSION`: of this session only")
	command.Flags().StringVar(&agent, "agent", "", "`NAME`: of sessions of this agent only")
	return command
}

func approvalState(a *pawlv1.Approval) string {
	return approvalStates[int(a.GetState())%len(approvalStates)]
}

// what is what a call is about, in short: its command, its path, or all of its arguments.
func what(args *structpb.Struct) string {
	fields := args.GetFields()
	for _, name := range []string{"command", "path", "url", "prompt"} {
		if s := fields[name].GetStringValue(); s != "" {
			return s
		}
	}
	text, err := protojson.Marshal(args)
	if err != nil {
		return ""
	}
	return string(text)
}

func (o *connection) showApproval(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
	res, err := pawlv1.NewApprovalServiceClient(conn).GetApproval(c.Context(), &pawlv1.GetApprovalRequest{
		ApprovalId: args[0],
	})
	if err != nil {
		return err
	}
	return o.printApproval(c, res.GetApproval())
}

// printApproval shows what is asked so that a person can decide: the command as it is, an edit as a diff.
func (o *connection) printApproval(c *cobra.Command, a *pawlv1.Approval) error {
	var path, rules, by []string
	for _, s := range a.GetPath() {
		text := s.GetAgent()
		if d := s.GetDescription(); d != "" {
			text += " (" + oneLine(d, 60) + ")"
		}
		path = append(path, text)
	}
	for _, r := range a.GetRules() {
		text := fmt.Sprintf("rule %d of %s: %s; %s may decide", r.GetNumber(), r.GetAgent(), r.GetText(), r.GetTo())
		if r.GetOther() {
			text += ", but not who has asked for it"
		}
		if r.GetFailed() != "" {
			text += " (" + r.GetFailed() + ")"
		}
		rules = append(rules, text)
	}
	for _, s := range a.GetRequesters() {
		text := s.GetName()
		if s.GetOnBehalfOf() != "" {
			text += " for " + s.GetOnBehalfOf()
		}
		by = append(by, text)
	}
	fields := []field{
		{"id", a.GetApprovalId()},
		{"state", approvalState(a)},
		{"session", keyText(a.GetKey())},
		{"agent", strings.Join(path, " → ")},
		{"asked by", strings.Join(by, ", ")},
		{"because of", strings.Join(rules, "\n")},
		{"asked", stamp(a.GetAskedAt())},
		{"expires", stamp(a.GetExpiresAt())},
		{"decided", stamp(a.GetDecidedAt())},
		{"decided by", a.GetDecidedBy().GetName()},
		{"comment", a.GetComment()},
		{"tool", a.GetTool()},
		{"cwd", a.GetCwd()},
	}
	for _, name := range argumentNames(a) {
		fields = append(fields, field{"  " + name, argument(a, name)})
	}
	fields = append(fields, field{"diff", a.GetDiff()})
	if a.GetCut() {
		fields = append(fields, field{"note", "some of this is cut; the session's transcript has all of it"})
	}
	return o.show(c, a, append(fields, field{"digest", a.GetDigest()})...)
}

// argumentNames are those that are shown. What a diff shows is not shown again.
func argumentNames(a *pawlv1.Approval) (names []string) {
	for name := range a.GetArguments().GetFields() {
		if a.GetDiff() == "" || name != "oldText" && name != "newText" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func argument(a *pawlv1.Approval, name string) string {
	v := a.GetArguments().GetFields()[name]
	if s := v.GetStringValue(); s != "" {
		return s
	}
	text, err := protojson.Marshal(v)
	if err != nil || string(text) == `""` {
		return ""
	}
	return string(text)
}

func (o *connection) approve() *cobra.Command {
	comment, digest, session := "", "", false
	command := o.calls("approve ID", "Let a call be made",
		func(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
			req := &pawlv1.DecideApprovalRequest{
				ApprovalId: args[0], Digest: digest, Comment: comment,
				Verdict: pawlv1.DecideApprovalRequest_VERDICT_APPROVE,
			}
			if session {
				req.Scope = pawlv1.ApprovalScope_APPROVAL_SCOPE_SESSION
			}
			return o.decide(c, conn, req)
		})
	command.Long = "Let a call be made. Without --digest it is shown, and approved as it is shown."
	command.Flags().BoolVar(&session, "for-session", false,
		"approve also what the same rules ask about the same tool in this session from now on")
	decisionFlags(command, &comment, &digest)
	return command
}

func (o *connection) deny() *cobra.Command {
	comment, digest := "", ""
	command := o.calls("deny ID", "Keep a call from being made",
		func(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
			return o.decide(c, conn, &pawlv1.DecideApprovalRequest{
				ApprovalId: args[0], Digest: digest, Comment: comment,
				Verdict: pawlv1.DecideApprovalRequest_VERDICT_DENY,
			})
		})
	decisionFlags(command, &comment, &digest)
	return command
}

func decisionFlags(command *cobra.Command, comment, digest *string) {
	command.Flags().StringVar(comment, "comment", "", "`TEXT`: why; the model is told with a denial")
	command.Flags().StringVar(digest, "digest", "", "`HEX`: of what was shown; decide about nothing else")
}

// decide decides about what is shown.
func (o *connection) decide(c *cobra.Command, conn *grpc.ClientConn, req *pawlv1.DecideApprovalRequest) error {
	approvals := pawlv1.NewApprovalServiceClient(conn)
	if req.GetDigest() == "" {
		res, err := approvals.GetApproval(c.Context(), &pawlv1.GetApprovalRequest{ApprovalId: req.GetApprovalId()})
		if err != nil {
			return err
		}
		if req.Digest = res.GetApproval().GetDigest(); o.output != "json" {
			if err := o.printApproval(c, res.GetApproval()); err != nil {
				return err
			}
		}
	}
	res, err := approvals.DecideApproval(c.Context(), req)
	if err != nil {
		return err
	}
	if o.output == "json" {
		return printJSON(c.OutOrStdout(), res.GetApproval())
	}
	_, err = fmt.Fprintln(c.OutOrStdout(), cli.Visible(approvalState(res.GetApproval())))
	return err
}

func (o *connection) listGrants() *cobra.Command {
	session, agent, revoked := "", "", false
	list := func(c *cobra.Command, conn *grpc.ClientConn, _ []string) error {
		id, err := optionalSession(c.Context(), conn, session)
		if err != nil {
			return err
		}
		approvals := pawlv1.NewApprovalServiceClient(conn)
		return listing[*pawlv1.Grant]{
			head: "ID\tSESSION\tTOOL\tRULE\tBY\tSINCE\tREVOKED",
			page: func(size int32, token string) ([]*pawlv1.Grant, string, error) {
				res, err := approvals.ListGrants(c.Context(), &pawlv1.ListGrantsRequest{
					SessionId: id, Agent: agent, Revoked: revoked, PageSize: size, PageToken: token,
				})
				return res.GetGrants(), res.GetNextPageToken(), err
			},
			row: func(g *pawlv1.Grant) []string {
				return []string{
					g.GetGrantId(), keyText(g.GetKey()), g.GetTool(), oneLine(g.GetRule(), 60),
					g.GetGrantedBy().GetName(), stamp(g.GetCreatedAt()), stamp(g.GetRevokedAt()),
				}
			},
		}.print(c, o)
	}
	command := o.limited(o.calls("grants", "List what approvals have allowed for sessions, newest first", list))
	command.Flags().StringVar(&session, "session", "", "`SESSION`: of this session only")
	command.Flags().StringVar(&agent, "agent", "", "`NAME`: of sessions of this agent only")
	command.Flags().BoolVar(&revoked, "revoked", false, "revoked ones too")
	return command
}

func (o *connection) revoke(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
	res, err := pawlv1.NewApprovalServiceClient(conn).RevokeGrant(c.Context(), &pawlv1.RevokeGrantRequest{
		GrantId: args[0],
	})
	if err != nil {
		return err
	}
	if o.output == "json" {
		return printJSON(c.OutOrStdout(), res.GetGrant())
	}
	_, err = fmt.Fprintln(c.OutOrStdout(), "revoked")
	return err
}

// approval tells of what waits for a decision, or was decided.
func (p *printer) approval(e *pawlv1.Event) {
	if d := e.GetApprovalDecided(); d != nil {
		p.decided(d)
		return
	}
	p.requested(e.GetApprovalRequested())
}

// requested says that a call waits for somebody to decide, and how that is done.
func (p *printer) requested(r *pawlv1.ApprovalRequested) {
	if c := p.calls[r.GetCallId()]; c != nil {
		p.went(c)
	}
	text := r.GetArguments() // JSON, unless it was too long and is cut
	if args := new(structpb.Struct); protojson.Unmarshal([]byte(text), args) == nil {
		text = what(args)
	}
	p.asks(r.GetName(), text, r.GetApprovalId())
	text = "  " + r.GetTo() + " may decide"
	if r.GetUntil() != nil {
		text += ", until " + clock(r.GetUntil().AsTime())
	}
	p.note(text)
}

// asks says that a call of a tool waits for an approval. A line of its own fits into 80 columns, and can be copied.
func (p *printer) asks(tool, about, id string) {
	p.note(fmt.Sprintf("[%s waits for an approval] %s", tool, oneLine(about, p.lineWidth())))
	p.note("  `control approvals approve " + id + "`, or show, or deny")
}

// decided says what became of an approval.
func (p *printer) decided(d *pawlv1.ApprovalDecided) {
	text := "[" + d.GetName() + ": " + d.GetState()
	if by := d.GetDecidedBy(); by != "" {
		text += " by " + by
	}
	if d.GetComment() != "" {
		text += ": " + oneLine(d.GetComment(), p.lineWidth())
	}
	p.note(text + "]")
}
