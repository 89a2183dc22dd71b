package crashtest_test

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"
)

// SIGTERM drains an executor: it ends well, its command goes on without it, and the next start brings the result.
func TestExecutorDrains(t *testing.T) {
	t.Parallel()
	p := newPlane(t, "")
	m := newMachine(t, p)
	sub := p.submit(command)
	m.awaitRunning()
	end(t, m.Process, syscall.SIGTERM)
	if code := m.ExitCode(); code != 0 || !strings.Contains(m.Log.String(), "draining") {
		t.Errorf("it ended with %d", code)
	}
	m.release()
	m.awaitEnd()
	m.start()
	m.once(p.wait(sub.GetSubmissionId()))
}

// A second signal ends an executor at once, whatever it waits for: here to be rid of what a control plane that stands
// still does not take.
func TestSecondSignalEndsTheExecutor(t *testing.T) {
	t.Parallel()
	p := newPlane(t, "")
	m := newMachine(t, p)
	p.submit(`echo run >> runs; until [ -e go ]; do sleep 0.05; done; seq 200000; echo end >> runs`)
	m.awaitRunning()
	p.Signal(syscall.SIGSTOP)
	t.Cleanup(func() { p.Signal(syscall.SIGCONT) })
	m.release()
	m.awaitEnd()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m.Signal(syscall.SIGTERM)
	if err := m.Log.Await(ctx, m.Process, "draining"); err != nil {
		t.Fatal(err)
	}
	again := time.NewTicker(10 * time.Millisecond) // it says so a moment before it is ready for the second one
	defer again.Stop()
	for {
		select {
		case <-again.C:
			m.Signal(syscall.SIGTERM)
			continue
		case <-m.Done():
		}
		break
	}
	if code := m.ExitCode(); code != -1 {
		t.Errorf("it ended with %d, not of the signal", code)
	}
}
