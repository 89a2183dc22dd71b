package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
)

func watchCommand(o *connection) *cobra.Command {
	var after int64
	var verbose bool
	var children string
	c := o.json(&cobra.Command{
		Use:   "watch SESSION",
		Short: "Print what happens in a session, as it happens",
		Args:  cli.Args(1),
		Long: "Print what happens in a session, as it happens, until Ctrl-C. A session is named by " + sessionForm +
			". With -o json each event is a line.",
		Example: "control watch reviewer/42\ncontrol watch reviewer/42 --after 0 -o json",
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.checkOutput(c); err != nil {
				return err
			}
			req, err := sessionName(args[0])
			if err != nil {
				return err
			}
			watch := &pawlv1.WatchSessionRequest{}
			var ok bool
			if watch.Children, ok = childEvents[children]; !ok {
				return cli.Misused(c, fmt.Errorf("--children is none, entries or all, not %q", children))
			}
			return o.watch(c, req, watch, after, verbose)
		},
	})
	o.flags(c)
	c.Flags().
		Int64Var(&after, "after", -1, "`SEQ`: events after the one with this seq; 0 is from the beginning "+
			"(default: from now on)")
	c.Flags().BoolVar(&verbose, "verbose", false, "show all that commands print")
	c.Flags().StringVar(&children, "children", "entries",
		"`EVENTS` of sub-agents: none, entries, or all, with what they say and print as it comes")
	return c
}

// childEvents are the values of --children.
var childEvents = map[string]pawlv1.ChildEvents{
	"none": pawlv1.ChildEvents_CHILD_EVENTS_NONE, "entries": pawlv1.ChildEvents_CHILD_EVENTS_ENTRIES,
	"all": pawlv1.ChildEvents_CHILD_EVENTS_ALL,
}

func (o *connection) watch(
	c *cobra.Command, req *pawlv1.GetSessionRequest, watch *pawlv1.WatchSessionRequest, after int64, verbose bool,
) error {
	p := newPrinter(c.OutOrStdout(), c.ErrOrStderr())
	p.verbose, p.inputs = verbose, true
	interrupts, release := cli.TakeInterrupts(c.Context())
	defer release()
	f := &follower{connect: o.connect, p: p, interrupts: interrupts}
	f.open = func(ctx context.Context, conn *grpc.ClientConn) (stream, error) {
		if watch.GetSessionId() == "" {
			found, err := findSession(ctx, conn, req)
			if err != nil {
				return nil, err
			}
			watch.SessionId = found.GetSessionId()
			if p.seq = after; after < 0 {
				p.seq = found.GetEventHead()
			}
		}
		watch.After = p.seq
		s, err := pawlv1.NewSessionServiceClient(conn).WatchSession(ctx, watch)
		return func() (batch, error) {
			m, err := s.Recv()
			if err != nil || o.output != "json" {
				return batch{events: m.GetEvents()}, err
			}
			return batch{}, o.lines(c, p, m.GetEvents())
		}, err
	}
	err := f.run(c.Context())
	p.end()
	if errors.Is(err, errLeft) || c.Context().Err() != nil { // the way to end it
		return nil
	}
	return inWords(c.Context(), err)
}

// lines writes events as lines of JSON.
func (o *connection) lines(c *cobra.Command, p *printer, events []*pawlv1.Event) error {
	for _, e := range events {
		p.seq = e.GetSeq()
		body, err := marshal(e, "")
		if err == nil {
			_, err = c.OutOrStdout().Write(append(body, '\n'))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// waitEvery is for how long the control plane is asked to wait at once.
const waitEvery = 20 * time.Second

func waitCommand(o *connection) *cobra.Command {
	var timeout time.Duration
	c := o.json(&cobra.Command{
		Use: "wait SUBMISSION", Short: "Wait until a submission has settled, and show it", Args: cli.Args(1),
		Long:    "Wait until a submission has settled, and show it. The exit code is 0 if it has completed, else 1.",
		Example: "control wait 0199c2… --timeout 10m -o json",
		RunE: func(c *cobra.Command, args []string) error {
			return o.with(c, func(ctx context.Context, conn *grpc.ClientConn) error {
				w := &waiter{connection: o, id: args[0], timeout: timeout, p: newPrinter(io.Discard, c.ErrOrStderr())}
				s, err := w.wait(ctx, conn)
				if err != nil {
					return err
				}
				if err := o.submission(c, s); err != nil {
					return err
				}
				switch {
				case s.GetStatus() != pawlv1.Submission_STATUS_SETTLED:
					return fmt.Errorf("submission %s has not settled within %s; it goes on", args[0], timeout)
				case s.GetOutcome() != pawlv1.Outcome_OUTCOME_COMPLETED:
					return fmt.Errorf("%s: %s", s.GetError().GetReason(), s.GetError().GetMessage())
				}
				return nil
			})
		},
	})
	o.flags(c)
	c.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait (default: until it has settled)")
	return c
}

// waiter waits for a submission.
type waiter struct {
	*connection
	id      string
	timeout time.Duration // 0 for none
	p       *printer      // says what the submission waits for, once
	told    bool
}

// wait asks again and again, also while the control plane is away for a moment. The submission is as it was last seen.
// The timeout ends it in either case.
func (w *waiter) wait(ctx context.Context, conn *grpc.ClientConn) (*pawlv1.Submission, error) {
	began := time.Now()
	heard := began
	var own *grpc.ClientConn // to the control plane that came back, perhaps elsewhere
	defer func() { closeIf(own) }()
	for {
		next := waitEvery
		if !w.told {
			next = silentFor
		}
		if w.timeout > 0 {
			next = min(next, max(w.timeout-time.Since(began), 0))
		}
		res, err := pawlv1.NewSubmissionServiceClient(conn).WaitSubmission(ctx,
			&pawlv1.WaitSubmissionRequest{SubmissionId: w.id, Timeout: durationpb.New(next)})
		over := w.timeout > 0 && time.Since(began) >= w.timeout
		switch {
		case err == nil && (over || res.GetSubmission().GetStatus() == pawlv1.Submission_STATUS_SETTLED):
			return res.GetSubmission(), nil
		case err == nil:
			heard = time.Now()
			w.tell(ctx, conn, res.GetSubmission())
			continue
		case ctx.Err() != nil, status.Code(err) != codes.Unavailable, over, time.Since(heard) > returnsWithin:
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(returnsEvery):
		}
		if again, err := w.dial(ctx); err == nil && again != nil {
			closeIf(own)
			own, conn = again, again
		}
	}
}

// tell says what a submission waits for.
func (w *waiter) tell(ctx context.Context, conn *grpc.ClientConn, s *pawlv1.Submission) {
	if w.told {
		return
	}
	w.told = true
	if host := s.GetHostSubmissionId(); s.GetStatus() == pawlv1.Submission_STATUS_QUEUED {
		if host == "" || s.GetWhenBusy() != pawlv1.WhenBusy_WHEN_BUSY_STEER {
			text, _ := ahead(ctx, conn, s)
			w.p.note(text)
		} else {
			w.p.note("[it joins submission " + host + " at the end of its turn]")
		}
		return
	}
	open, err := pawlv1.NewApprovalServiceClient(conn).ListApprovals(ctx, &pawlv1.ListApprovalsRequest{
		State: pawlv1.ApprovalState_APPROVAL_STATE_OPEN, SessionId: s.GetSessionId(),
	})
	asks := false
	for _, a := range open.GetApprovals() { // none after an error, which the next request meets too
		if err == nil && a.GetSubmissionId() == s.GetSubmissionId() {
			asks = true
			w.p.asks(a.GetTool(), what(a.GetArguments()), a.GetApprovalId())
		}
	}
	if !asks {
		w.p.note(fmt.Sprintf("[it runs since %s; `control watch %s` shows what it does]",
			clock(s.GetStartedAt().AsTime()), s.GetSessionId()))
	}
}

// closeIf closes a connection that there may not be.
func closeIf(conn *grpc.ClientConn) {
	if conn != nil {
		_ = conn.Close() // nothing was written over it
	}
}

func abortCommand(o *connection) *cobra.Command {
	c := o.json(&cobra.Command{
		Use:   "abort SUBMISSION|SESSION",
		Short: "Abort a submission, or all of a session",
		Args:  cli.Args(1),
		Long: "Abort a submission, or all that a session has not settled. A submission is named by its id, a " +
			"session by " + sessionForm + ". " +
			"One that runs settles once its calls have ended: `control wait` tells.",
		Example: "control abort 0199c2…\ncontrol abort reviewer/42",
		RunE: func(c *cobra.Command, args []string) error {
			req, err := sessionName(args[0])
			if err != nil {
				return err
			}
			return o.with(c, func(_ context.Context, conn *grpc.ClientConn) error { return o.abort(c, conn, req) })
		},
	})
	o.flags(c)
	return c
}

// abort aborts what an id or a key names: an id may be of a submission or of a session.
func (o *connection) abort(c *cobra.Command, conn *grpc.ClientConn, req *pawlv1.GetSessionRequest) error {
	ctx := c.Context()
	submissions, id := pawlv1.NewSubmissionServiceClient(conn), req.GetSessionId()
	if id != "" {
		res, err := submissions.AbortSubmission(ctx, &pawlv1.AbortSubmissionRequest{SubmissionId: id})
		if err == nil {
			return o.submission(c, res.GetSubmission())
		}
		if !notFound(err, "SUBMISSION_NOT_FOUND") {
			return err
		}
	}
	s, err := findSession(ctx, conn, req)
	if id != "" && notFound(err, "SESSION_NOT_FOUND") {
		return fmt.Errorf("%s is neither a submission nor a session", id)
	}
	if err != nil {
		return err
	}
	res, err := submissions.AbortSession(ctx, &pawlv1.AbortSessionRequest{SessionId: s.GetSessionId()})
	if err != nil {
		return err
	}
	running := "none"
	if r := res.GetRunning(); r != nil {
		running = r.GetSubmissionId() + " (" + submissionState(r) + ")"
	}
	return o.show(c, res, field{"queued ones settled", fmt.Sprint(res.GetSettled())}, field{"running", running})
}
