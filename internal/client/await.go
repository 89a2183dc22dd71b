package client

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
)

// accepting has a submission accepted. Asked again, after an answer that was lost, it is the same submission.
type accepting func(context.Context, *grpc.ClientConn) (*pawlv1.Submission, error)

// await has a submission of session s accepted, and returns it once it has settled. It says what the submission waits
// for, and outlives the ends of the control planes that it asks. works says what is done while nothing is waited for.
func (o *connection) await(
	c *cobra.Command, s *pawlv1.Session, works string, accept accepting,
) (done *pawlv1.Submission, err error) {
	p := newPrinter(c.OutOrStdout(), c.ErrOrStderr())
	p.mute, p.works, p.seq = true, works, s.GetEventHead()
	interrupts, release := cli.TakeInterrupts(c.Context())
	defer release()
	f := &follower{connect: o.connect, p: p, interrupts: interrupts, offers: p.notes.is}
	f.open = func(ctx context.Context, conn *grpc.ClientConn) (stream, error) {
		accepted, err := accept(ctx, conn)
		if err != nil {
			return nil, err
		}
		return waits(ctx, conn, accepted, p.seq)
	}
	err = f.run(c.Context())
	p.end()
	switch {
	case err != nil && p.submission == "":
		return nil, f.unknown(c.Context(), s.GetKey(), err)
	case err != nil:
		return nil, fmt.Errorf("%w; submission %s is on record and goes on: `control wait %[2]s`",
			inWords(c.Context(), err), p.submission)
	}
	return done, o.with(c, func(ctx context.Context, conn *grpc.ClientConn) error {
		res, err := pawlv1.NewSubmissionServiceClient(conn).
			GetSubmission(ctx, &pawlv1.GetSubmissionRequest{SubmissionId: p.submission})
		done = res.GetSubmission()
		return err
	})
}

// waits is the stream of what a submission waits for, from after a seq to its end. It needs two calls: a submission
// that ends before it has begun leaves no event.
func waits(ctx context.Context, conn *grpc.ClientConn, s *pawlv1.Submission, after int64) (stream, error) {
	id := s.GetSubmissionId()
	watch, err := pawlv1.NewSessionServiceClient(conn).
		WatchSession(ctx, &pawlv1.WatchSessionRequest{SessionId: s.GetSessionId(), After: after})
	if err != nil {
		return nil, err
	}
	got := make(chan received)
	send := func(b batch, err error) {
		select {
		case got <- received{b, err}:
		case <-ctx.Done():
		}
	}
	go func() {
		for {
			m, err := watch.Recv()
			send(batch{events: m.GetEvents()}, err)
			if err != nil {
				return
			}
		}
	}()
	go func() {
		res, err := pawlv1.NewSubmissionServiceClient(conn).
			WaitSubmission(ctx, &pawlv1.WaitSubmissionRequest{SubmissionId: id})
		if settled := res.GetSubmission(); err != nil || settled.GetStartedAt() == nil {
			send(batch{events: []*pawlv1.Event{{
				SubmissionId: id,
				Event:        &pawlv1.Event_Settled{Settled: &pawlv1.SubmissionSettled{Submission: settled}},
			}}}, err)
		}
	}()
	first, settled := true, false
	return func() (batch, error) {
		switch {
		case first:
			first = false
			return batch{submission: s}, nil
		case settled:
			return batch{}, io.EOF
		}
		select {
		case <-ctx.Done():
			return batch{}, ctx.Err()
		case r := <-got:
			r.events = tellingOfWaits(r.events, id)
			for _, e := range r.events {
				settled = settled || e.GetSettled() != nil
			}
			return r.batch, r.err
		}
	}, nil
}

// tellingOfWaits are the events that tell what a submission waits for, and its end.
func tellingOfWaits(events []*pawlv1.Event, id string) (telling []*pawlv1.Event) {
	for _, e := range events {
		if e.GetSubmissionId() != id || e.GetTask() != nil {
			continue
		}
		switch e.GetEvent().(type) {
		case *pawlv1.Event_Started, *pawlv1.Event_ToolWaiting, *pawlv1.Event_ModelWaiting,
			*pawlv1.Event_ApprovalRequested, *pawlv1.Event_ApprovalDecided, *pawlv1.Event_CompactionStarted,
			*pawlv1.Event_Settled:
			telling = append(telling, e)
		}
	}
	return telling
}
