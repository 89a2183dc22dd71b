package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
)

const (
	// returnsWithin is how long a control plane that ended may take to come back and tell more.
	returnsWithin = 2 * time.Minute
	returnsEvery  = 200 * time.Millisecond
	// silentFor is how long nothing may be said of what a command waits for.
	silentFor = 700 * time.Millisecond
	// leaveAfter is how long somebody who interrupts has to say that the work should end, too.
	leaveAfter = 3 * time.Second
)

// batch is what a stream brings at once.
type batch struct {
	submission *pawlv1.Submission // what was admitted, in the first batch of a prompt
	events     []*pawlv1.Event
}

// stream reads events.
type stream func() (batch, error)

// follower prints the events of a stream, over the ends of the control planes that it comes from.
type follower struct {
	connect func(context.Context) (*grpc.ClientConn, error)
	// open begins the stream at a control plane, after the last event that the printer has seen.
	open func(context.Context, *grpc.ClientConn) (stream, error)
	p    *printer
	// interrupts are SIGINTs; nil for none. offers is whether the first only offers to abort.
	interrupts <-chan struct{}
	offers     bool
	// alone ends the work at the first interrupt: it does not go on without this command.
	alone bool
	// end asks for the end of what is followed; nil aborts the printer's submission.
	end func(context.Context, *grpc.ClientConn) error

	asked    bool             // the stream was asked for: what became of that may be unknown
	aborting bool             // the abort was asked for, and is again wherever the stream is read
	leave    <-chan time.Time // once it was interrupted
	stops    int              // interrupts so far
}

// errLeft ends a follower whose user has left. The work goes on.
var errLeft = errors.New("interrupted")

// run follows to the end of the stream, which is no error.
func (f *follower) run(ctx context.Context) error {
	conn, err := f.reach(ctx)
	if err != nil {
		return err
	}
	var away time.Time // since when the control plane has told nothing, zero while it is there
	for {
		if conn != nil {
			seen, began := f.p.seq, time.Now()
			err = f.read(ctx, conn)
			_ = conn.Close() // of a connection that is done
			if f.p.seq > seen || time.Since(began) > returnsWithin {
				away = time.Time{}
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errLeft), ctx.Err() != nil, conn != nil && status.Code(err) != codes.Unavailable:
			return err
		case away.IsZero():
			away = time.Now()
			f.p.note(gone(err))
		case time.Since(away) > returnsWithin:
			return unreachable(err)
		}
		select {
		case <-ctx.Done():
		case <-f.interrupts:
			return errLeft
		case <-time.After(returnsEvery):
		}
		conn, err = f.connect(ctx)
	}
}

// gone says why the stream is asked for again.
func gone(err error) string {
	if reason := rpc.Reason(err); reason != "" && reason != rpc.ErrStopping.Reason() {
		return "[" + rpc.FromStatus(err).Error() + "; trying again]"
	}
	return "[the control plane has ended; waiting for it to come back]"
}

// reach connects, and says so when that takes long.
func (f *follower) reach(ctx context.Context) (conn *grpc.ClientConn, err error) {
	done := make(chan struct{})
	go func() { defer close(done); conn, err = f.connect(ctx) }()
	select {
	case <-done:
	case <-time.After(silentFor):
		f.p.note("[connecting to the control plane]")
		<-done
	}
	return conn, err
}

// read prints what a stream brings; io.EOF at its end.
func (f *follower) read(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.asked = true
	recv, err := f.open(ctx, conn)
	if err == nil && f.aborting {
		err = f.abort(ctx, conn)
	}
	if err != nil {
		return err
	}
	got := receive(ctx, recv)
	quiet := time.NewTimer(silentFor)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-got:
			if err := f.take(ctx, conn, m); err != nil {
				return err
			}
			quiet.Reset(silentFor)
		case <-quiet.C:
			f.p.silent()
		case <-f.leave:
			return errLeft
		case <-f.interrupts:
			if err := f.interrupted(ctx, conn); err != nil {
				return err
			}
		}
	}
}

// received is what a stream brought, or why it ended.
type received struct {
	batch
	err error
}

// receive reads the stream until that, or ctx, ends.
func receive(ctx context.Context, recv stream) <-chan received {
	got := make(chan received)
	go func() {
		for {
			b, err := recv()
			select {
			case got <- received{b, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return got
}

// take prints what came; it returns the end of the stream.
func (f *follower) take(ctx context.Context, conn *grpc.ClientConn, m received) error {
	if errors.Is(m.err, io.EOF) && !f.p.done && !f.p.inputs {
		return status.Error(codes.Unavailable, "the stream ended before the prompt had settled")
	}
	if m.err != nil {
		return m.err
	}
	if m.submission != nil {
		f.p.admitted(m.submission)
		f.queued(ctx, conn, m.submission)
	}
	for _, e := range m.events {
		f.p.event(e)
	}
	return f.p.lost
}

// interrupted offers to abort, aborts, or leaves, in this order.
func (f *follower) interrupted(ctx context.Context, conn *grpc.ClientConn) error {
	f.stops++
	f.p.echoed()
	switch {
	case !f.offers || f.p.submission == "" || f.stops > 2 || f.alone && f.stops > 1:
		return errLeft
	case f.stops == 1 && !f.alone:
		f.leave = time.After(leaveAfter)
		f.p.note(fmt.Sprintf(
			"[Ctrl-C again aborts the work; without it this command leaves in %s, and the work goes on]", leaveAfter))
		return nil
	}
	f.leave, f.aborting = nil, true
	f.p.note("[aborting; Ctrl-C once more leaves at once]")
	return f.abort(ctx, conn)
}

// abort asks for the end of what was admitted. To ask again changes nothing.
func (f *follower) abort(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if f.end != nil {
		return f.end(ctx, conn)
	}
	_, err := pawlv1.NewSubmissionServiceClient(conn).
		AbortSubmission(ctx, &pawlv1.AbortSubmissionRequest{SubmissionId: f.p.submission})
	return err
}

// queued says what a submission that does not run yet waits for.
func (f *follower) queued(ctx context.Context, conn *grpc.ClientConn, s *pawlv1.Submission) {
	if s.GetStatus() != pawlv1.Submission_STATUS_QUEUED {
		return
	}
	f.p.heard = true // what it waits for is said here
	if s.GetHostSubmissionId() != "" {
		return // admitted has said it: this joins what runs, or ends it
	}
	text, something := ahead(ctx, conn, s)
	if something {
		f.p.note(text)
	} else { // so that it begins at once, as a rule
		f.p.heard, f.p.awaits = false, text
	}
}

// ahead says what a queued submission waits for, and whether that is another submission.
func ahead(ctx context.Context, conn *grpc.ClientConn, s *pawlv1.Submission) (text string, something bool) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	res, err := pawlv1.NewSubmissionServiceClient(conn).ListSubmissions(ctx,
		&pawlv1.ListSubmissionsRequest{SessionId: s.GetSessionId(), Before: s.GetSeq()})
	if err != nil {
		return "[queued]", true // by what, the control plane does not tell
	}
	return behind(res.GetSubmissions(), s)
}

// behind says what is ahead of a queued submission. before is the submissions of its session that came earlier,
// newest first.
func behind(before []*pawlv1.Submission, s *pawlv1.Submission) (text string, something bool) {
	waiting := 0
	var head *pawlv1.Submission
	for _, b := range before {
		if b.GetStatus() != pawlv1.Submission_STATUS_SETTLED {
			waiting++
			head = b
		}
	}
	if head == nil {
		return "[queued: nothing of this session is ahead; it runs as soon as a replica takes it]", false
	}
	state := "is first"
	if at := head.GetStartedAt(); at != nil {
		state = "runs since " + at.AsTime().Local().Format(time.TimeOnly)
	}
	return fmt.Sprintf("[queued behind %d of session %s: submission %s %s; `control abort %[3]s` ends that one]",
		waiting, keyText(s.GetKey()), head.GetSubmissionId(), state), true
}
