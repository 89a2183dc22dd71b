package client

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
)

// plane is a control plane that admits a prompt and settles it when it is aborted.
type plane struct {
	pawlv1.UnimplementedSubmissionServiceServer
	status  pawlv1.Submission_Status
	before  []*pawlv1.Submission
	aborted chan struct{}

	whenBusy pawlv1.WhenBusy
	host     string
}

func (p *plane) Prompt(_ *pawlv1.PromptRequest, s grpc.ServerStreamingServer[pawlv1.PromptResponse]) error {
	sub := &pawlv1.Submission{
		SubmissionId: "s1",
		Seq:          3,
		Status:       p.status,
		WhenBusy:     p.whenBusy, HostSubmissionId: p.host,
		Key: &pawlv1.SessionKey{Agent: "a", Instance: "i"},
	}
	if err := s.Send(&pawlv1.PromptResponse{Submission: sub}); err != nil {
		return err
	}
	select {
	case <-s.Context().Done():
		return s.Context().Err()
	case <-p.aborted:
	}
	return s.Send(
		&pawlv1.PromptResponse{
			Events: []*pawlv1.Event{{Seq: 1, Event: &pawlv1.Event_Settled{Settled: &pawlv1.SubmissionSettled{
				Submission: &pawlv1.Submission{
					Outcome: pawlv1.Outcome_OUTCOME_ABORTED,
					Error:   &pawlv1.Error{Reason: "ABORTED", Message: "asked for"},
				},
			}}}},
		},
	)
}

func (p *plane) AbortSubmission(
	context.Context,
	*pawlv1.AbortSubmissionRequest,
) (*pawlv1.AbortSubmissionResponse, error) {
	close(p.aborted)
	return &pawlv1.AbortSubmissionResponse{}, nil
}

func (p *plane) ListSubmissions(
	context.Context,
	*pawlv1.ListSubmissionsRequest,
) (*pawlv1.ListSubmissionsResponse, error) {
	return &pawlv1.ListSubmissionsResponse{Submissions: p.before}, nil
}

// following is a prompt that a test follows on fake time.
type following struct {
	*follower
	notes     *bytes.Buffer
	interrupt chan struct{}
	done      chan error
}

func follow(t *testing.T, p *plane) *following {
	t.Helper()
	p.aborted = make(chan struct{})
	l := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	pawlv1.RegisterSubmissionServiceServer(server, p)
	go server.Serve(l) //nolint:errcheck // ends with the test
	t.Cleanup(server.Stop)
	return followAt(t, func(context.Context) (*grpc.ClientConn, error) {
		return grpc.NewClient("passthrough:///p", append(
			rpc.DialOptions(),
			rpc.Security(nil),
			grpc.WithContextDialer(
				func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) },
			),
		)...)
	})
}

// followAt follows a prompt at the control plane that connect leads to.
func followAt(t *testing.T, connect func(context.Context) (*grpc.ClientConn, error)) *following {
	t.Helper()
	f := newFollowing(t, connect)
	go func() { f.done <- f.run(t.Context()) }()
	synctest.Wait()
	return f
}

func newFollowing(t *testing.T, connect func(context.Context) (*grpc.ClientConn, error)) *following {
	t.Helper()
	f := &following{notes: &bytes.Buffer{}, interrupt: make(chan struct{}), done: make(chan error, 1)}
	f.follower = &follower{
		p: newPrinter(&bytes.Buffer{}, f.notes), interrupts: f.interrupt, offers: true, connect: connect,
		open: func(ctx context.Context, conn *grpc.ClientConn) (stream, error) {
			s, err := pawlv1.NewSubmissionServiceClient(conn).Prompt(ctx, &pawlv1.PromptRequest{})
			return func() (batch, error) {
				m, err := s.Recv()
				return batch{m.GetSubmission(), m.GetEvents()}, err
			}, err
		},
	}
	return f
}

// The first Ctrl-C offers to abort and leaves after a while, the second aborts.
func TestInterruptsOfAPrompt(t *testing.T) {
	t.Run("one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &plane{status: pawlv1.Submission_STATUS_RUNNING}
			f := follow(t, p)
			began := time.Now()
			f.interrupt <- struct{}{}
			if err := <-f.done; !errors.Is(err, errLeft) || time.Since(began) != leaveAfter {
				t.Errorf("%v after %s", err, time.Since(began))
			}
			if !strings.Contains(f.notes.String(), "[Ctrl-C again aborts the work; ") {
				t.Errorf("%s", f.notes)
			}
			select {
			case <-p.aborted:
				t.Error("it was aborted")
			default:
			}
		})
	})
	t.Run("two", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &plane{status: pawlv1.Submission_STATUS_RUNNING}
			f := follow(t, p)
			f.interrupt <- struct{}{}
			f.interrupt <- struct{}{}
			if err := <-f.done; err != nil || f.p.failure == nil || !strings.HasPrefix(f.p.failure.Error(), "ABORTED") {
				t.Errorf("%v, %v", err, f.p.failure)
			}
			<-p.aborted
		})
	})
}

// Within a second there is a word about what is waited for.
func TestSilenceIsExplained(t *testing.T) {
	running := &pawlv1.Submission{
		SubmissionId: "s0",
		Status:       pawlv1.Submission_STATUS_RUNNING,
		StartedAt:    timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)),
	}
	queued := &pawlv1.Submission{SubmissionId: "s2", Status: pawlv1.Submission_STATUS_QUEUED}
	settled := &pawlv1.Submission{Status: pawlv1.Submission_STATUS_SETTLED}
	steer := &plane{
		status: pawlv1.Submission_STATUS_QUEUED, before: []*pawlv1.Submission{running},
		whenBusy: pawlv1.WhenBusy_WHEN_BUSY_STEER, host: "s0",
	}
	for want, p := range map[string]*plane{
		"[the session is busy: this joins submission s0 at the end of its turn]\n": steer,
		"[waiting for the session to begin: what its agent can use is gathered]\n": {
			status: pawlv1.Submission_STATUS_RUNNING,
		},
		"[queued behind 2 of session a/i: submission s0 runs since 03:04:05; `control abort s0` ends that one]\n": {
			status: pawlv1.Submission_STATUS_QUEUED, before: []*pawlv1.Submission{queued, running, settled},
		},
		"[queued: nothing of this session is ahead; it runs as soon as a replica takes it]\n": {
			status: pawlv1.Submission_STATUS_QUEUED, before: []*pawlv1.Submission{settled},
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := follow(t, p)
			time.Sleep(time.Second)
			synctest.Wait()
			if got := f.notes.String(); got != want {
				t.Errorf("%q, want %q", got, want)
			}
			f.offers = false
			f.interrupt <- struct{}{}
			<-f.done
		})
	}
}
