package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
)

func runsCommand(o *connection) *cobra.Command {
	return o.group(&cobra.Command{
		Use: "runs", Short: "Show runs of workflows, and cancel, signal, retry and fork them",
		Example: "control runs list --workflow release --status active\ncontrol runs get 0199c2…\n" +
			"control runs logs 0199c2… --follow\ncontrol runs signal 0199c2… approve --body '{\"by\": \"ada\"}'\n" +
			"control runs retry 0199c2… --from publish",
	}, o.listRuns(), o.calls("get RUN", "Show one run", o.getRun), o.listSteps(), o.logsCommand(),
		o.calls("cancel RUN", "Ask that a run end", o.cancelRun), o.signalCommand(), o.retryCommand(),
		o.forkRunCommand())
}

func runState(r *pawlv1.Run) string { return statusText(r.GetStatus()) }

func statusText(s pawlv1.RunStatus) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "RUN_STATUS_"))
}

// runStanding is a run's status with what it waits for.
func runStanding(r *pawlv1.Run) string {
	text := runState(r)
	switch {
	case r.GetBlocked():
		text += ", waits for its concurrency key"
	case r.GetResting():
		text += ", resting"
	}
	if r.GetCancelRequested() && r.GetEndedAt() == nil {
		text += ", to be cancelled"
	}
	return text
}

func (o *connection) listRuns() *cobra.Command {
	req := &pawlv1.ListRunsRequest{}
	var statuses []string
	list := func(c *cobra.Command, conn *grpc.ClientConn, _ []string) error {
		req.Statuses = nil
		for _, s := range statuses {
			n, ok := pawlv1.RunStatus_value["RUN_STATUS_"+strings.ToUpper(s)]
			if !ok || n == 0 {
				return cli.Misused(c, fmt.Errorf("--status is queued, active, completed, failed, cancelled, expired "+
					"or interrupted, not %q", s))
			}
			req.Statuses = append(req.Statuses, pawlv1.RunStatus(n))
		}
		runs := pawlv1.NewRunServiceClient(conn)
		return listing[*pawlv1.Run]{
			head: "ID\tWORKFLOW\tSTATUS\tATTEMPT\tCREATED\tTOOK\tWHY",
			page: func(size int32, token string) ([]*pawlv1.Run, string, error) {
				req.PageSize, req.PageToken = size, token
				res, err := runs.ListRuns(c.Context(), req)
				return res.GetRuns(), res.GetNextPageToken(), err
			},
			row: func(r *pawlv1.Run) []string {
				why := ""
				if e := r.GetError(); e != nil {
					why = oneLine(e.GetReason()+": "+e.GetMessage(), 60)
				}
				return []string{
					r.GetRunId(), r.GetWorkflow(), runStanding(r), strconv.Itoa(int(r.GetAttempt())),
					stamp(r.GetCreatedAt()), runTook(r), why,
				}
			},
		}.print(c, o)
	}
	c := o.limited(o.calls("list", "List runs, newest first", list))
	f := c.Flags()
	f.StringSliceVar(&req.Workflows, "workflow", nil, "`WORKFLOW`: of this workflow only; may be repeated")
	f.StringSliceVar(&statuses, "status", nil, "`STATUS`: queued, active, completed, failed, cancelled, expired or "+
		"interrupted; may be repeated")
	f.StringVar(&req.ParentRunId, "parent", "", "`RUN`: those that this run has started")
	f.StringVar(&req.ConcurrencyKey, "concurrency-key", "", "`KEY`: those of this key of the --workflow")
	return c
}

// runTook is how long a run took from its first beginning, "" while it goes on.
func runTook(r *pawlv1.Run) string {
	if r.GetStartedAt() == nil || r.GetEndedAt() == nil {
		return ""
	}
	return r.GetEndedAt().AsTime().Sub(r.GetStartedAt().AsTime()).Round(time.Millisecond).String()
}

func (o *connection) getRun(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
	res, err := pawlv1.NewRunServiceClient(conn).GetRun(c.Context(), &pawlv1.GetRunRequest{RunId: args[0]})
	if err != nil {
		return err
	}
	return o.showRun(c, res.GetRun())
}

// showRun writes one run.
func (o *connection) showRun(c *cobra.Command, r *pawlv1.Run) error {
	fields := []field{
		{"id", r.GetRunId()},
		{"workflow", r.GetWorkflow()},
		{"status", runStanding(r)},
		{"attempt", strconv.Itoa(int(r.GetAttempt()))},
		{"concurrency key", r.GetConcurrencyKey()},
		{"parent", strings.TrimSpace(r.GetParentRunId() + " " + r.GetParentPath())},
		{"fork of", r.GetForkedFromRunId()},
		{"created", stamp(r.GetCreatedAt())},
		{"started", stamp(r.GetStartedAt())},
		{"ended", stamp(r.GetEndedAt())},
		{"took", runTook(r)},
		{"input", valueText(r.GetInput())},
		{"output", valueText(r.GetOutput())},
	}
	if r.GetSchedule() > 0 {
		fields = append(fields, field{
			"schedule", fmt.Sprintf("%d, due %s", r.GetSchedule(), stamp(r.GetScheduledFor())),
		})
	}
	if e := r.GetError(); e != nil {
		fields = append(fields, field{"error", e.GetReason() + ": " + e.GetMessage()})
	}
	if x := r.GetCancellation(); x != nil && !x.GetConfirmed() {
		fields = append(fields, field{"note", fmt.Sprintf("%d of its calls may still run",
			len(x.GetUnconfirmed())+int(x.GetMore()))})
	}
	return o.show(c, r, fields...)
}

// valueText is a value for people, "" for none.
func valueText(v *structpb.Value) string {
	if v == nil {
		return ""
	}
	text, err := marshal(v, "  ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (o *connection) listSteps() *cobra.Command {
	list := func(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
		runs := pawlv1.NewRunServiceClient(conn)
		return listing[*pawlv1.RunStep]{
			head: "STEP\tKIND\tSTATE\tTRIES\tTOOK\tOUTPUT",
			page: func(size int32, token string) ([]*pawlv1.RunStep, string, error) {
				after, _ := strconv.Atoi(token) // "" is from the first
				res, err := runs.ListRunSteps(c.Context(), &pawlv1.ListRunStepsRequest{
					RunId: args[0], After: int32(after), PageSize: size,
				})
				next := ""
				if n := len(res.GetSteps()); n > 0 {
					next = strconv.Itoa(int(res.GetSteps()[n-1].GetOrdinal()))
				}
				return res.GetSteps(), next, err
			},
			row: func(s *pawlv1.RunStep) []string {
				what := oneLine(what(s.GetOutput().GetStructValue()), 80)
				if s.GetFailure() != nil {
					what = oneLine(failureText(s.GetFailure()), 80)
				}
				if s.GetOutput() == nil && s.GetFailure() == nil {
					what = ""
				}
				return []string{
					s.GetPath(), s.GetKind(), s.GetState(), strconv.Itoa(int(s.GetTry())),
					round(s.GetDuration().AsDuration()).String(), what,
				}
			},
		}.print(c, o)
	}
	return o.limited(o.calls("steps RUN", "List what the steps of a run have come to", list))
}

func (o *connection) logsCommand() *cobra.Command {
	var follow, all bool
	c := o.json(&cobra.Command{
		Use: "logs RUN", Short: "Print what has happened in a run", Args: cli.Args(1),
		Long: "Print what has happened in a run, and with --follow what happens until it has ended: the ends of its " +
			"steps and the lines of its log, and with --verbose what commands print and what agents do. With -o json " +
			"each event is a line. Events are kept for a week, unless the server is configured otherwise.",
		Example: "control runs logs 0199c2… --follow",
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.checkOutput(c); err != nil {
				return err
			}
			return o.logs(c, &pawlv1.WatchRunRequest{RunId: args[0], PastOnly: !follow}, all)
		},
	})
	c.Flags().BoolVar(&follow, "follow", false, "go on until the run has ended")
	c.Flags().BoolVar(&all, "verbose", false, "show what commands print and what agents do")
	return c
}

// logs prints the events of a run to standard output: they are what was asked for.
func (o *connection) logs(c *cobra.Command, req *pawlv1.WatchRunRequest, all bool) error {
	p := newPrinter(c.OutOrStdout(), c.OutOrStdout())
	p.mute, p.run = true, &shownRun{all: all}
	interrupts, release := cli.TakeInterrupts(c.Context())
	defer release()
	f := &follower{connect: o.connect, p: p, interrupts: interrupts}
	f.open = func(ctx context.Context, conn *grpc.ClientConn) (stream, error) {
		req.After = p.seq
		s, err := pawlv1.NewRunServiceClient(conn).WatchRun(ctx, req)
		return func() (batch, error) {
			m, err := s.Recv()
			p.done = p.done || err != nil
			if err != nil || o.output != "json" {
				return batch{events: m.GetEvents()}, err
			}
			return batch{}, o.lines(c, p, m.GetEvents())
		}, err
	}
	err := f.run(c.Context())
	if errors.Is(err, errLeft) || c.Context().Err() != nil { // the way to end it
		return nil
	}
	return inWords(c.Context(), err)
}

func (o *connection) cancelRun(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
	res, err := pawlv1.NewRunServiceClient(conn).CancelRun(c.Context(), &pawlv1.CancelRunRequest{RunId: args[0]})
	if err != nil {
		return err
	}
	return o.showRun(c, res.GetRun())
}

func (o *connection) signalCommand() *cobra.Command {
	body, id := "", ""
	c := o.calls("signal RUN NAME", "Give a run a signal",
		func(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
			value, err := jsonValue(c, "--body", body)
			if err != nil {
				return err
			}
			res, err := pawlv1.NewRunServiceClient(conn).SignalRun(c.Context(), &pawlv1.SignalRunRequest{
				RunId: args[0], Signal: args[1], Body: value, MessageId: id,
			})
			if err != nil {
				return err
			}
			said := "accepted"
			if res.GetReplayed() {
				said = "accepted before"
			}
			return o.show(c, res, field{"signal", said}, field{"message id", res.GetMessageId()})
		})
	c.Long = "Give a run a signal, which one step receives, once, now or later."
	c.Example = "control runs signal 0199c2… approve --body '{\"by\": \"ada\"}'"
	c.Flags().StringVar(&body, "body", "", "`JSON`: what the signal brings, or @FILE for a file that holds it")
	c.Flags().StringVar(&id, "message-id", "", "`ID`: given again under this id, it is the same signal")
	return c
}

func (o *connection) retryCommand() *cobra.Command {
	req := &pawlv1.RetryRunRequest{}
	c := o.calls("retry RUN", "Have a run that has ended go on from a step",
		func(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
			req.RunId = args[0]
			res, err := pawlv1.NewRunServiceClient(conn).RetryRun(c.Context(), req)
			if err != nil {
				return err
			}
			return o.showRun(c, res.GetRun())
		})
	c.Long = "Begin another attempt of a run that has ended. What was completed before the step that it goes on from " +
		"is not done again."
	c.Flags().StringVar(&req.From, "from", "", "`STEP`: path of the step to go on from (default: the first one that "+
		"has failed)")
	c.Flags().Int32Var(&req.Attempt, "attempt", 0, "`N`: the attempt to follow on; the same again changes nothing "+
		"(default: the last one)")
	return c
}

func (o *connection) forkRunCommand() *cobra.Command {
	req := &pawlv1.ForkRunRequest{}
	input := ""
	c := o.calls("fork RUN", "Start a run that begins with what another one has done",
		func(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
			v, err := jsonValue(c, "--input", input)
			if err == nil && v != nil && v.GetStructValue() == nil {
				err = cli.Misused(c, errors.New("--input is an object, whose properties take the place of those "+
					"of the run"))
			}
			if err != nil {
				return err
			}
			req.RunId, req.Input = args[0], v.GetStructValue()
			res, err := pawlv1.NewRunServiceClient(conn).ForkRun(c.Context(), req)
			if err != nil {
				return err
			}
			return o.showRun(c, res.GetRun())
		})
	c.Long = "Start a run with the definition and the input of another one. It begins with the records of what that " +
		"has completed before a step. The other run is left as it is."
	c.Flags().StringVar(&req.From, "from", "", "`STEP`: path of the step to go on from (default: the first one that "+
		"has failed)")
	c.Flags().StringVar(&input, "input", "", "`JSON`: properties that take the place of those of the input, or @FILE")
	c.Flags().StringVar(&req.IdempotencyKey, "idempotency-key", "", "`KEY`: forked again under this key, it is the "+
		"same run")
	return c
}
