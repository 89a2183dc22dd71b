package crashtest_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
)

// patience bounds every wait. A dead replica's lease alone lasts 15 s.
const patience = time.Minute

// programs builds the two programs once. With the race detector, as the tests are built: that shares their build cache.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pawl-programs")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-race", "-o", dir, "github.com/pawl-dev/pawl/cmd/control", "github.com/pawl-dev/pawl/cmd/executor").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building the programs: %w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := programs(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// process is a program that runs.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  *bytes.Buffer
	done chan struct{}
}

func start(t *testing.T, program string, args ...string) *process {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(filepath.Join(dir, program), args...), log: &bytes.Buffer{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = p.log, p.log, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // how it ended is what the tests are about
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("%s %s said:\n%s", program, strings.Join(args, " "), p.log)
		}
	})
	return p
}

// signal sends a signal and waits until the process has ended.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	_ = p.cmd.Process.Signal(s) // it may have ended
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		p.t.Errorf("%s does not end after %v", p.cmd.Path, s)
		<-p.done
	}
}

// kill ends the process as a power cut would.
func (p *process) kill() { p.t.Helper(); p.signal(syscall.SIGKILL) }

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

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // only its number was wanted
	return l.Addr().String()
}

// plane is a control plane that can be started again at the same place.
type plane struct {
	t               *testing.T
	http, grpc, dir string
	database        string
	process         *process
}

func newPlane(t *testing.T, database string) *plane {
	p := &plane{t: t, http: freeAddr(t), grpc: freeAddr(t), dir: t.TempDir(), database: database}
	if database == "" {
		p.database = "sqlite:" + filepath.Join(p.dir, "pawl.db")
	}
	p.start()
	return p
}

func (p *plane) start() {
	p.t.Helper()
	p.process = start(p.t, "control", "--http", p.http, "--grpc", p.grpc, "--data", p.dir, "--agents", filepath.Join(p.dir, "agents"),
		"--database", p.database, "--advertise", p.grpc, "--executor", "none")
	eventually(p.t, "control to serve", func() bool {
		res, err := http.Get("http://" + p.http + "/healthz")
		if err != nil {
			return false
		}
		return res.Body.Close() == nil && res.StatusCode == http.StatusOK
	})
}

func (p *plane) dial() *grpc.ClientConn {
	p.t.Helper()
	conn, err := grpc.NewClient(p.grpc, append(rpc.DialOptions(), rpc.Security(nil),
		grpc.WithPerRPCCredentials(rpc.Token{Secret: rpc.File(filepath.Join(p.dir, "token")), Plaintext: true}))...)
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
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	got, err := pawlv1.NewSubmissionServiceClient(p.dial()).Submit(ctx, &pawlv1.SubmitRequest{
		Key: &pawlv1.SessionKey{Agent: "shell", Instance: "i"}, Message: message,
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
	got, err := pawlv1.NewSubmissionServiceClient(p.dial()).WaitSubmission(ctx, &pawlv1.WaitSubmissionRequest{SubmissionId: id}, grpc.WaitForReady(true))
	if err != nil {
		p.t.Fatal(err)
	}
	return got.GetSubmission()
}

// machine is a separate executor that can be started again.
type machine struct {
	t         *testing.T
	control   string
	token     string
	root, dir string
	process   *process
}

func newMachine(t *testing.T, p *plane) *machine {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	made, err := pawlv1.NewTokenServiceClient(p.dial()).CreateToken(ctx, &pawlv1.CreateTokenRequest{
		Principal: &pawlv1.CreateTokenRequest_Executor{Executor: &pawlv1.ExecutorPrincipal{ExecutorId: "m1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, control: p.grpc, token: filepath.Join(t.TempDir(), "token"), root: t.TempDir(), dir: t.TempDir()}
	if err := os.WriteFile(m.token, []byte(made.GetSecret()), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	fleet := pawlv1.NewExecutorServiceClient(p.dial())
	eventually(t, "the executor to connect", func() bool {
		got, err := fleet.GetExecutor(ctx, &pawlv1.GetExecutorRequest{ExecutorId: "m1"})
		return err == nil && got.GetExecutor().GetConnected()
	})
	return m
}

func (m *machine) start() {
	m.process = start(m.t, "executor", "--control", m.control, "--token-file", m.token, "--name", "m1", "--root", m.root, "--data", m.dir)
}

// command says that it runs, waits for the test to let it go, and says what it is for.
const command = `echo run >> runs; until [ -e go ]; do sleep 0.05; done; echo end >> runs; echo the true result`

func (m *machine) read(name string) string {
	b, err := os.ReadFile(filepath.Join(m.root, name))
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

// letGo lets the command end.
func (m *machine) letGo() {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.root, "go"), nil, 0o600); err != nil {
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
