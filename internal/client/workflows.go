package client

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/ident"
)

func workflowsCommand(o *connection) *cobra.Command {
	list := func(c *cobra.Command, conn *grpc.ClientConn, _ []string) error {
		workflows := pawlv1.NewWorkflowServiceClient(conn)
		return listing[*pawlv1.Workflow]{
			head: "NAME\tSCHEDULES\tEXPOSE\tDESCRIPTION",
			page: func(size int32, token string) ([]*pawlv1.Workflow, string, error) {
				res, err := workflows.ListWorkflows(c.Context(), &pawlv1.ListWorkflowsRequest{
					PageSize: size, PageToken: token,
				})
				return res.GetWorkflows(), res.GetNextPageToken(), err
			},
			row: func(w *pawlv1.Workflow) []string {
				return []string{
					w.GetName(), strings.Join(crons(w), ", "), strings.Join(w.GetExpose(), ","),
					oneLine(w.GetDescription(), 60),
				}
			},
		}.print(c, o)
	}
	return o.group(&cobra.Command{
		Use: "workflows", Short: "List the workflows of a control plane",
		Long: "List the workflows of a control plane. `control run` runs one, `control check` and `control graph` " +
			"are about the files of a project, and `control agents reload` has them read again.",
		Example: "control workflows list\ncontrol workflows get release -o json",
	}, o.limited(o.calls("list", "List workflows", list)), o.calls("get NAME", "Show one workflow", o.getWorkflow))
}

func crons(w *pawlv1.Workflow) (all []string) {
	for _, s := range w.GetSchedules() {
		all = append(all, strings.TrimSpace(s.GetCron()+" "+s.GetTz()))
	}
	return all
}

func (o *connection) getWorkflow(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
	res, err := pawlv1.NewWorkflowServiceClient(conn).GetWorkflow(c.Context(), &pawlv1.GetWorkflowRequest{
		Workflow: args[0],
	})
	if err != nil {
		return err
	}
	w := res.GetWorkflow()
	limit, timeout := "", ""
	if k := w.GetConcurrency(); k != nil {
		limit = fmt.Sprintf("%d of each %s; %s", k.GetLimit(), k.GetKey(), k.GetPolicy())
	}
	if w.GetTimeout() != nil {
		timeout = w.GetTimeout().AsDuration().String()
	}
	return o.show(c, w, field{"name", w.GetName()}, field{"description", w.GetDescription()},
		field{"agent", w.GetAgent()}, field{"timeout", timeout}, field{"concurrency", limit},
		field{"schedules", strings.Join(crons(w), "\n")}, field{"expose", strings.Join(w.GetExpose(), ", ")},
		field{"input", valueText(w.GetInputSchema())}, field{"steps", outline(w.GetSteps(), "")},
		field{"catch", outline(w.GetCatch(), "")}, field{"finally", outline(w.GetFinally(), "")},
		field{"digest", w.GetDigest()})
}

// outline is a list of steps, a line each, with those within them indented.
func outline(steps []*pawlv1.WorkflowStep, indent string) string {
	var b strings.Builder
	for _, s := range steps {
		b.WriteString(indent + strings.TrimPrefix(s.GetId()+": ", ": ") + s.GetKind())
		if s.GetCondition() != "" {
			b.WriteString(" if " + oneLine(s.GetCondition(), 60))
		}
		b.WriteString("\n")
		for _, l := range s.GetLists() {
			if l.GetName() != "do" && l.GetName() != "group" {
				b.WriteString(indent + "  " + l.GetName() + "\n" + outline(l.GetSteps(), indent+"    "))
				continue
			}
			b.WriteString(outline(l.GetSteps(), indent+"  "))
		}
	}
	return b.String()
}

func schedulesCommand(o *connection) *cobra.Command {
	workflow := ""
	list := func(c *cobra.Command, conn *grpc.ClientConn, _ []string) error {
		runs := pawlv1.NewRunServiceClient(conn)
		return listing[*pawlv1.Schedule]{
			head: "WORKFLOW\tNUMBER\tCRON\tTZ\tNEXT\tLAST\tLAST RUN\tPROBLEM",
			page: func(size int32, token string) ([]*pawlv1.Schedule, string, error) {
				res, err := runs.ListSchedules(c.Context(), &pawlv1.ListSchedulesRequest{
					Workflow: workflow, PageSize: size, PageToken: token,
				})
				return res.GetSchedules(), res.GetNextPageToken(), err
			},
			row: func(s *pawlv1.Schedule) []string {
				return []string{
					s.GetWorkflow(), strconv.Itoa(int(s.GetSchedule())), s.GetCron(), s.GetTz(), due(s),
					stamp(s.GetLast()), s.GetLastRunId(), oneLine(s.GetProblem().GetMessage(), 60),
				}
			},
		}.print(c, o)
	}
	all := o.limited(o.calls("list", "List schedules, and when they are due next", list))
	all.Flags().StringVar(&workflow, "workflow", "", "`WORKFLOW`: of this workflow only")
	return o.group(&cobra.Command{
		Use: "schedules", Short: "Show when workflows are run, and pause and trigger that",
		Long: "Show when workflows are run, and pause and trigger that. A schedule is named by its workflow and its " +
			"number there, from 1.",
		Example: "control schedules list\ncontrol schedules pause nightly 1\ncontrol schedules trigger nightly 1",
	}, all, o.calls("pause WORKFLOW NUMBER", "Have a schedule start no runs until it is resumed", o.pauseSchedule),
		o.calls("resume WORKFLOW NUMBER", "Have a schedule go on, with its first instant from now on",
			o.resumeSchedule),
		o.calls("trigger WORKFLOW NUMBER", "Start a run as a schedule would now", o.triggerSchedule))
}

// due is when a schedule starts a run next.
func due(s *pawlv1.Schedule) string {
	switch {
	case s.GetPaused():
		return "paused"
	case len(s.GetUpcoming()) == 0:
		return ""
	}
	return stamp(s.GetUpcoming()[0])
}

// number is that of a schedule.
func number(text string) (int32, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		return 0, cli.WithCode(fmt.Errorf("a schedule has a number in its workflow, from 1, and %q is none", text),
			cli.Usage)
	}
	return int32(n), nil
}

func (o *connection) showSchedule(c *cobra.Command, s *pawlv1.Schedule) error {
	return o.show(c, s, field{"workflow", s.GetWorkflow()}, field{"number", strconv.Itoa(int(s.GetSchedule()))},
		field{"cron", s.GetCron()}, field{"tz", s.GetTz()}, field{"next", due(s)}, field{"last", stamp(s.GetLast())},
		field{"last run", s.GetLastRunId()}, field{"problem", s.GetProblem().GetMessage()})
}

func (o *connection) pauseSchedule(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
	n, err := number(args[1])
	if err != nil {
		return err
	}
	res, err := pawlv1.NewRunServiceClient(conn).PauseSchedule(c.Context(), &pawlv1.PauseScheduleRequest{
		Workflow: args[0], Schedule: n,
	})
	if err != nil {
		return err
	}
	return o.showSchedule(c, res.GetSchedule())
}

func (o *connection) resumeSchedule(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
	n, err := number(args[1])
	if err != nil {
		return err
	}
	res, err := pawlv1.NewRunServiceClient(conn).ResumeSchedule(c.Context(), &pawlv1.ResumeScheduleRequest{
		Workflow: args[0], Schedule: n,
	})
	if err != nil {
		return err
	}
	return o.showSchedule(c, res.GetSchedule())
}

func (o *connection) triggerSchedule(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
	n, err := number(args[1])
	if err != nil {
		return err
	}
	res, err := pawlv1.NewRunServiceClient(conn).TriggerSchedule(c.Context(), &pawlv1.TriggerScheduleRequest{
		Workflow: args[0], Schedule: n, IdempotencyKey: ident.New(),
	})
	if err != nil {
		return err
	}
	return o.showRun(c, res.GetRun())
}
