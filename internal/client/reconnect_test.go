package client

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/rpc"
)

// unsteady is a control plane whose prompts and aborts a test answers, each told how many came before it.
type unsteady struct {
	pawlv1.UnimplementedSubmissionServiceServer
	prompt func(n int, s grpc.ServerStreamingServer[pawlv1.PromptResponse]) error
	abort  func(n int) error
	wait   func() error

	prompts, aborts atomic.Int32
	aborted         chan struct{} // closed by an abort that succeeds
}

var errGone = status.Error(codes.Unavailable, "gone")

func (u *unsteady) Prompt(_ *pawlv1.PromptRequest, s grpc.ServerStreamingServer[pawlv1.PromptResponse]) error {
	return u.prompt(int(u.prompts.Add(1))-1, s)
}

func (u *unsteady) AbortSubmission(
	context.Context,
	*pawlv1.AbortSubmissionRequest,
) (*pawlv1.AbortSubmissionResponse, error) {
	if err := u.abort(int(u.aborts.Add(1)) - 1); err != nil {
		return nil, err
	}
	close(u.aborted)
	return &pawlv1.AbortSubmissionResponse{}, nil
}

func (u *unsteady) WaitSubmission(
	context.Context,
	*pawlv1.WaitSubmissionRequest,
) (*pawlv1.WaitSubmissionResponse, error) {
	if err := u.wait(); err != nil {
		return nil, err
	}
	return &pawlv1.WaitSubmissionResponse{
		Submission: &pawlv1.Submission{SubmissionId: "s1", Status: pawlv1.Submission_STATUS_SETTLED},
	}, nil
}

// admit is the first answer to a prompt.
func admit(s grpc.ServerStreamingServer[pawlv1.PromptResponse]) error {
	return s.Send(&pawlv1.PromptResponse{
		Submission: &pawlv1.Submission{SubmissionId: "s1", Status: pawlv1.Submission_STATUS_RUNNING},
	})
}

// settle is the last event of a prompt.
func settle(s grpc.ServerStreamingServer[pawlv1.PromptResponse]) error {
	return s.Send(&pawlv1.PromptResponse{Events: []*pawlv1.Event{{
		Seq: 1, Event: &pawlv1.Event_Settled{Settled: &pawlv1.SubmissionSettled{Submission: &pawlv1.Submission{
			Outcome: pawlv1.Outcome_OUTCOME_COMPLETED, Result: &pawlv1.PromptResult{Text: "done"},
		}}},
	}}})
}

// dialer connects to the control plane in memory.
func (u *unsteady) dialer(t *testing.T) func(context.Context) (*grpc.ClientConn, error) {
	t.Helper()
	u.aborted = make(chan struct{})
	l := bufconn.Listen(1 << 16)
	server := grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second}))
	pawlv1.RegisterSubmissionServiceServer(server, u)
	go server.Serve(l) //nolint:errcheck // ends with the test
	t.Cleanup(server.Stop)
	return func(context.Context) (*grpc.ClientConn, error) {
		return grpc.NewClient("passthrough:///p", append(
			rpc.DialOptions(),
			rpc.Security(nil),
			grpc.WithContextDialer(
				func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) },
			),
		)...)
	}
}

// A connection that is lost before the answer comes says nothing of whether the prompt was accepted. Asking again
// under the same key is the way to know.
func TestPromptIsAskedAgainBeforeItsAdmissionIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &unsteady{prompt: func(n int, s grpc.ServerStreamingServer[pawlv1.PromptResponse]) error {
			if n == 0 {
				return errGone
			}
			return errors.Join(admit(s), settle(s))
		}}
		f := followAt(t, u.dialer(t))
		if err := <-f.done; err != nil || u.prompts.Load() != 2 || f.p.submission != "s1" {
			t.Errorf("%v after %d requests: %s", err, u.prompts.Load(), f.notes)
		}
	})
}

// A stream that ends before the prompt has settled is asked for again: its end is no answer.
func TestEndOfAStreamIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &unsteady{prompt: func(n int, s grpc.ServerStreamingServer[pawlv1.PromptResponse]) error {
			if n == 0 {
				return admit(s)
			}
			return errors.Join(admit(s), settle(s))
		}}
		f := followAt(t, u.dialer(t))
		if err := <-f.done; err != nil || u.prompts.Load() != 2 || f.p.seq != 1 {
			t.Errorf("%v after %d requests: %s", err, u.prompts.Load(), f.notes)
		}
	})
}

// Each outage has its own time: what was long ago does not shorten it, though nothing was heard in between.
func TestEachOutageHasItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &unsteady{prompt: func(n int, s grpc.ServerStreamingServer[pawlv1.PromptResponse]) error {
			if err := admit(s); err != nil {
				return err
			}
			if n < 2 {
				select { // a call that prints nothing
				case <-s.Context().Done():
					return s.Context().Err()
				case <-time.After(time.Hour):
					return errGone
				}
			}
			return settle(s)
		}}
		f := followAt(t, u.dialer(t))
		if err := <-f.done; err != nil || u.prompts.Load() != 3 {
			t.Errorf("%v after %d requests: %s", err, u.prompts.Load(), f.notes)
		}
	})
}

// A control plane that answers and tells nothing is given up, too.
func TestControlPlaneThatTellsNothingIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &unsteady{prompt: func(int, grpc.ServerStreamingServer[pawlv1.PromptResponse]) error { return errGone }}
		f := followAt(t, u.dialer(t))
		began := time.Now()
		err := <-f.done
		if took := time.Since(began); cli.Code(err) != cli.Unreachable || took < returnsWithin ||
			took > 2*returnsWithin {
			t.Errorf("%v after %s", err, took)
		}
		if n := strings.Count(f.notes.String(), "\n"); n != 1 {
			t.Errorf("%d lines:\n%s", n, f.notes)
		}
		key := &pawlv1.SessionKey{Agent: "a", Instance: "i"}
		if err := f.unknown(t.Context(), key, err); cli.Code(err) != cli.Unreachable ||
			!strings.HasSuffix(err.Error(), "is not known: `control submissions list a/i` tells") {
			t.Error(err)
		}
		refused := status.Error(codes.InvalidArgument, "the prompt is empty")
		if err := f.unknown(t.Context(), key, refused); err.Error() != "the prompt is empty" {
			t.Error(err)
		}
	})
}

// An abort that did not arrive is asked for again, at the control plane that comes back.
func TestAbortIsAskedForUntilItArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &unsteady{abort: func(n int) error {
			if n == 0 {
				return errGone
			}
			return nil
		}}
		u.prompt = func(_ int, s grpc.ServerStreamingServer[pawlv1.PromptResponse]) error {
			if err := admit(s); err != nil {
				return err
			}
			select {
			case <-s.Context().Done():
				return s.Context().Err()
			case <-u.aborted:
				return settle(s)
			}
		}
		f := followAt(t, u.dialer(t))
		f.interrupt <- struct{}{}
		f.interrupt <- struct{}{}
		select {
		case err := <-f.done:
			if err != nil || u.aborts.Load() != 2 {
				t.Errorf("%v after %d requests to abort: %s", err, u.aborts.Load(), f.notes)
			}
		case <-time.After(time.Minute):
			t.Errorf("%d requests to abort: %s", u.aborts.Load(), f.notes)
			f.interrupt <- struct{}{}
			<-f.done
		}
	})
}

// full is a disk without space.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// An answer that could not be written is no success.
func TestAnswerThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &unsteady{prompt: func(_ int, s grpc.ServerStreamingServer[pawlv1.PromptResponse]) error {
			return errors.Join(admit(s), settle(s))
		}}
		f := newFollowing(t, u.dialer(t))
		f.p.out = full{}
		go func() { f.done <- f.run(t.Context()) }()
		if err := <-f.done; err == nil || !strings.Contains(err.Error(), "no space left on device") {
			t.Errorf("%v", err)
		}
	})
}

// wait ends when its time is over, wherever the control plane is.
func TestWaitEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &unsteady{wait: func() error { return errGone }}
		o, began := &connection{}, time.Now()
		connect := u.dialer(t)
		conn, err := connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // of a test
		_, err = (&waiter{connection: o, id: "s1", timeout: 5 * time.Second}).wait(t.Context(), conn)
		if took := time.Since(began); err == nil || took < 5*time.Second || took > 6*time.Second {
			t.Errorf("%v after %s", err, took)
		}
	})
}

// A control plane that comes back may be at another address, which its data directory tells.
func TestWaitFollowsItsControlPlane(t *testing.T) {
	data := t.TempDir()
	if err := os.WriteFile(TokenFile(data), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := func(u *unsteady) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer()
		pawlv1.RegisterSubmissionServiceServer(server, u)
		grpc_health_v1.RegisterHealthServer(server, health.NewServer())
		go server.Serve(l) //nolint:errcheck // ends with the test
		t.Cleanup(server.Stop)
		if err := (Addresses{GRPC: l.Addr().String()}).Write(data); err != nil {
			t.Fatal(err)
		}
	}
	serve(&unsteady{wait: func() error {
		serve(&unsteady{wait: func() error { return nil }})
		return errGone
	}})
	o := &connection{options: Options{Data: &data}}
	conn, err := o.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // of a test
	w := &waiter{connection: o, id: "s1", timeout: time.Minute}
	if s, err := w.wait(t.Context(), conn); err != nil || s.GetSubmissionId() != "s1" {
		t.Errorf("%v, %v", s, err)
	}
}
