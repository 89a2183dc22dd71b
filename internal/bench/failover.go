package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/proctest"
)

// Whatever dies here dies while it runs a prompt whose command runs on a separate executor; the command is let go at
// that moment, and the time is taken until the submission has settled. It must complete, with the command's true
// result.

// failover kills one of two replicas: the other takes over.
func failover(ctx context.Context, r *run) error {
	one, two, e, err := r.pair(ctx)
	if err != nil {
		return err
	}
	var times []time.Duration
	for n := range r.some(6, 1) {
		w, err := begin(ctx, one, e, n)
		if err != nil {
			return err
		}
		began := time.Now()
		if err := one.End(syscall.SIGKILL, patience); err != nil {
			return err
		}
		if err := w.release(); err != nil {
			return err
		}
		if _, err := w.settled(ctx, two); err != nil {
			return err
		}
		times = append(times, time.Since(began))
		r.progress(fmt.Sprintf("settled %v after the kill", times[n]))
		if err := one.start(ctx); err != nil {
			return err
		}
	}
	r.add(timed(Row{What: "SIGKILL of a replica to settled by another", Goal: most(P50, 16)}, times))
	return nil
}

// handOver ends one of two replicas with SIGTERM: the other goes on. The command is let go only when the first is gone.
func handOver(ctx context.Context, r *run) error {
	one, two, e, err := r.pair(ctx)
	if err != nil {
		return err
	}
	var ends, times []time.Duration
	for n := range r.some(10, 2) {
		w, err := begin(ctx, one, e, n)
		if err != nil {
			return err
		}
		began := time.Now()
		if err := one.End(syscall.SIGTERM, patience); err != nil {
			return err
		}
		ends = append(ends, time.Since(began))
		if err := w.release(); err != nil {
			return err
		}
		s, err := w.settled(ctx, two)
		if err != nil {
			return err
		}
		if s.GetAttempts() > 0 {
			return fmt.Errorf("a drain was charged as %d attempts", s.GetAttempts())
		}
		times = append(times, time.Since(began))
		if err := one.start(ctx); err != nil {
			return err
		}
	}
	r.add(timed(Row{What: "SIGTERM of a replica to its end"}, ends))
	r.add(timed(Row{What: "SIGTERM of a replica to settled by another", Goal: most(P50, 1)}, times))
	return nil
}

// restart kills the only replica, and starts it again at once. It has been up for a while: executors wait longer and
// longer before they try to find one that dies again and again.
func restart(ctx context.Context, r *run) error {
	p, err := r.plane(ctx, "--executor", "none")
	if err != nil {
		return err
	}
	e, err := r.executor(ctx, p)
	if err != nil {
		return err
	}
	var times []time.Duration
	for n := range r.some(10, 2) {
		w, err := begin(ctx, p, e, n)
		if err != nil {
			return err
		}
		if err := wait(ctx, 2*time.Second); err != nil {
			return err
		}
		began := time.Now()
		if err := p.End(syscall.SIGKILL, patience); err != nil {
			return err
		}
		if err := w.release(); err != nil {
			return err
		}
		if err := p.start(ctx); err != nil {
			return err
		}
		if _, err := w.settled(ctx, p); err != nil {
			return err
		}
		times = append(times, time.Since(began))
	}
	r.add(timed(Row{What: "SIGKILL and start again, to settled", Goal: most(P50, 2)}, times))
	return nil
}

// pair starts two replicas of one control plane, and an executor that is connected to the second.
func (r *run) pair(ctx context.Context) (one, two *plane, e *proctest.Executor, err error) {
	if two, err = r.plane(ctx, "--executor", "none"); err != nil {
		return nil, nil, nil, err
	}
	if e, err = r.executor(ctx, two); err != nil {
		return nil, nil, nil, err
	}
	dir, err := r.newDir()
	if err != nil {
		return nil, nil, nil, err
	}
	if one, err = r.replica(dir, two.Database, "--executor", "none"); err != nil {
		return nil, nil, nil, err
	}
	return one, two, e, one.start(ctx)
}

// waiting is a prompt whose command runs until it is let go.
type waiting struct {
	submission string
	file       string
	answer     string
}

// begin prompts p and returns when the command is on its executor.
func begin(ctx context.Context, p *plane, e *proctest.Executor, n int) (*waiting, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	w := &waiting{file: filepath.Join(e.Root, fmt.Sprint("go-", n)), answer: fmt.Sprint("true result ", n)}
	stream, err := pawlv1.NewSubmissionServiceClient(p.conn).Prompt(ctx, &pawlv1.PromptRequest{
		Key:     &pawlv1.SessionKey{Agent: "shell", Instance: fmt.Sprint("waits-", n)},
		Message: fmt.Sprintf("until [ -e go-%d ]; do sleep 0.01; done; echo %s", n, w.answer),
	}, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	for {
		got, err := stream.Recv()
		if err != nil {
			return nil, fmt.Errorf("waiting for the command to run: %w", err)
		}
		if s := got.GetSubmission(); s != nil {
			w.submission = s.GetSubmissionId()
		}
		for _, event := range got.GetEvents() {
			if event.GetToolStarted().GetExecutorId() != "" {
				return w, nil
			}
		}
	}
}

func (w *waiting) release() error { return os.WriteFile(w.file, nil, 0o600) }

// settled waits at p for the submission, which must have completed.
func (w *waiting) settled(ctx context.Context, p *plane) (*pawlv1.Submission, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	got, err := pawlv1.NewSubmissionServiceClient(p.conn).WaitSubmission(ctx,
		&pawlv1.WaitSubmissionRequest{SubmissionId: w.submission}, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	s := got.GetSubmission()
	if s.GetOutcome() != pawlv1.Outcome_OUTCOME_COMPLETED || s.GetResult().GetText() != w.answer {
		return nil, fmt.Errorf("settled %v: %q, %v", s.GetOutcome(), s.GetResult().GetText(), s.GetError())
	}
	return s, nil
}
