package crashtest_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/proctest"
)

// patience bounds every wait. A dead replica's lease alone lasts 15 s.
const patience = time.Minute

// built is where the two programs are, built once. With the race detector, as the tests are: that shares their build
// cache.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pawl-programs")
	if err != nil {
		return "", err
	}
	return dir, proctest.Programs(context.Background(), dir, proctest.Build{Race: true}, "control", "executor")
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := built(); dir != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// watch ends a process with the test, and tells what it said if that failed.
func watch(t *testing.T, p *proctest.Process, said *proctest.Log) {
	t.Helper()
	t.Cleanup(func() {
		end(t, p, syscall.SIGTERM)
		if t.Failed() {
			t.Logf("process %d said:\n%s", p.Pid(), said)
		}
	})
}

func end(t *testing.T, p *proctest.Process, s syscall.Signal) {
	t.Helper()
	if err := p.End(s, patience); err != nil {
		t.Error(err)
	}
}

// eventually waits for what tells nobody that it happened.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick, late := time.NewTicker(10*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waiting for %s", what)
		}
	}
}

// plane is a control plane that can be started again at the same place.
type plane struct {
	t *testing.T
	*proctest.Control
}

func newPlane(t *testing.T, database string) *plane {
	t.Helper()
	programs, err := built()
	if err != nil {
		t.Fatal(err)
	}
	c, err := proctest.NewControl(programs, t.TempDir(), database, "--executor", "none")
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{t: t, Control: c}
	p.start()
	return p
}

func (p *plane) start() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	err := p.Control.Start(ctx)
	if p.Process != nil {
		watch(p.t, p.Process, p.Log)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// kill ends it as a power cut would.
func (p *plane) kill() { p.t.Helper(); end(p.t, p.Process, syscall.SIGKILL) }

func (p *plane) dial() *grpc.ClientConn {
	p.t.Helper()
	conn, err := p.Dial()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			p.t.Error(err)
		}
	})
	return conn
}

func (p *plane) submit(message string) *pawlv1.Submission {
	p.t.Helper()
	return p.submitTo("i", message)
}

func (p *plane) submitTo(instance, message string) *pawlv1.Submission {
	p.t.Helper()
	return p.submitAs("shell", instance, message)
}

func (p *plane) submitAs(agent, instance, message string) *pawlv1.Submission {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	got, err := pawlv1.NewSubmissionServiceClient(p.dial()).Submit(ctx, &pawlv1.SubmitRequest{
		Key: &pawlv1.SessionKey{Agent: agent, Instance: instance}, Message: message,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return got.GetSubmission()
}

func (p *plane) wait(id string) *pawlv1.Submission {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	got, err := pawlv1.NewSubmissionServiceClient(p.dial()).WaitSubmission(ctx,
		&pawlv1.WaitSubmissionRequest{SubmissionId: id}, grpc.WaitForReady(true))
	if err != nil {
		p.t.Fatal(err)
	}
	return got.GetSubmission()
}

// machine is a separate executor that can be started again.
type machine struct {
	t *testing.T
	*proctest.Executor
}

func newMachine(t *testing.T, p *plane) *machine { t.Helper(); return newMachineAt(t, p, p.GRPC) }

// newMachineAt is a machine that dials control at an address.
func newMachineAt(t *testing.T, p *plane, addr string) *machine {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	e, err := p.NewExecutor(ctx, p.dial(), "m1", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	e.Control = addr
	m := &machine{t: t, Executor: e}
	m.start()
	return m
}

func (m *machine) start() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	err := m.Executor.Start(ctx)
	if m.Process != nil {
		watch(m.t, m.Process, m.Log)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// kill ends the daemon as a power cut would.
func (m *machine) kill() { m.t.Helper(); end(m.t, m.Process, syscall.SIGKILL) }

// command says that it runs, waits for the test to let it go, and says what it is for.
const command = `echo run >> runs; until [ -e go ]; do sleep 0.05; done; echo end >> runs; echo the true result`

func (m *machine) read(name string) string {
	b, err := os.ReadFile(filepath.Join(m.Root, name))
	if err != nil {
		return ""
	}
	return string(b)
}

// awaitRunning waits until the command has begun.
func (m *machine) awaitRunning() {
	m.t.Helper()
	eventually(m.t, "the command to run", func() bool { return m.read("runs") == "run\n" })
}

// release lets the command end.
func (m *machine) release() {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.Root, "go"), nil, 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// awaitEnd waits until the command has done what it does.
func (m *machine) awaitEnd() {
	m.t.Helper()
	eventually(m.t, "the command to end", func() bool { return m.read("runs") == "run\nend\n" })
}

// once checks that the submission completed with the command's true result, and that the command ran once.
func (m *machine) once(got *pawlv1.Submission) {
	m.t.Helper()
	if got.GetOutcome() != pawlv1.Outcome_OUTCOME_COMPLETED || got.GetResult().GetText() != "the true result" {
		m.t.Errorf("settled %v: %q %v", got.GetOutcome(), got.GetResult().GetText(), got.GetError())
	}
	if runs := m.read("runs"); runs != "run\nend\n" {
		m.t.Errorf("the command left %q", runs)
	}
}
