//go:build full

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/authority"
	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control"
	"github.com/pawl-dev/pawl/services/control/egress"
	"github.com/pawl-dev/pawl/services/control/project"
	"github.com/pawl-dev/pawl/services/control/workflow/workflowtest"
	"github.com/pawl-dev/pawl/services/executor"
)

const (
	flowData = "../../services/control/workflow/testdata"
	// caseTime bounds one run.
	caseTime = 3 * time.Minute
)

// The ten workflows, and the workflows of examples, come to what the tables say: on a control plane and an executor as
// they are served, with either database.
func TestTablesOfRuns(t *testing.T) {
	tables, err := filepath.Glob("../../examples/*/expect.json")
	if err != nil || len(tables) == 0 {
		t.Fatalf("%v, %v", tables, err)
	}
	makers := map[string]func(dir string) error{
		filepath.Join(flowData, "project", "expect.json"): func(dir string) error {
			return workflowtest.Ten(flowData, dir)
		},
	}
	for _, table := range tables {
		makers[table] = func(dir string) error { return workflowtest.Example(filepath.Dir(table), dir) }
	}
	databases := map[string]func(t *testing.T) string{
		"sqlite": func(t *testing.T) string {
			t.Helper()
			return "sqlite:" + filepath.Join(t.TempDir(), "control.db")
		},
		"postgres": func(t *testing.T) string { t.Helper(); return pgtest.URL(t) },
	}
	for name, database := range databases {
		for table, fill := range makers {
			cases, err := workflowtest.Read(table)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range cases {
				t.Run(name+"/"+filepath.Base(filepath.Dir(table))+"/"+c.Name, func(t *testing.T) {
					dir := t.TempDir()
					if err := errors.Join(fill(dir), hasten(dir, time.Duration(c.Passes)), c.Prepare(dir)); err != nil {
						t.Fatal(err)
					}
					runCase(t, c, dir, database(t))
				})
			}
		}
	}
}

var times = regexp.MustCompile(`(?m)^( *(?:- )?(?:timeout|every): )(\d+)([smhd])$`)

// hasten makes the times that pass in a case short: each of at most so long becomes a second. The system's clock cannot
// be set for a program that a test starts.
func hasten(dir string, passes time.Duration) error {
	files, err := filepath.Glob(filepath.Join(dir, "workflows", "*.yaml"))
	if err != nil || passes == 0 {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		short := times.ReplaceAllStringFunc(string(text), func(line string) string {
			m := times.FindStringSubmatch(line)
			d, err := time.ParseDuration(strings.Replace(m[2]+m[3], "d", "h", 1))
			if m[3] == "d" {
				d *= 24
			}
			if err != nil || d > passes {
				return line
			}
			return m[1] + "1s"
		})
		if err := os.WriteFile(file, []byte(short), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// runCase runs a case in its folder.
func runCase(t *testing.T, c workflowtest.Case, dir, database string) {
	ctx, cancel := context.WithTimeout(t.Context(), caseTime)
	defer cancel()
	hosts := c.Hosts()
	conn := serveCase(t, c, dir, database, hosts)
	runs := pawlv1.NewRunServiceClient(conn)
	input := &structpb.Value{}
	if err := protojson.Unmarshal(c.Input, input); err != nil {
		t.Fatal(err)
	}
	started, err := runs.StartRun(ctx, &pawlv1.StartRunRequest{Workflow: c.Workflow, Input: input})
	if err != nil {
		t.Fatal(err)
	}
	id := started.GetRun().GetRunId()
	for _, s := range c.Signals {
		body := &structpb.Value{}
		if err := protojson.Unmarshal(s.Body, body); err != nil {
			t.Fatal(err)
		}
		if _, err := runs.SignalRun(ctx, &pawlv1.SignalRunRequest{RunId: id, Signal: s.Name, Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range c.Decisions {
		decide(ctx, t, conn, d)
	}
	got, err := runs.WaitRun(ctx, &pawlv1.WaitRunRequest{RunId: id})
	if err != nil {
		t.Fatalf("%v, its steps: %s", err, stepsOf(t, runs, id))
	}
	run := got.GetRun()
	ended := workflowtest.Ended{
		Status: strings.ToLower(strings.TrimPrefix(run.GetStatus().String(), "RUN_STATUS_")),
		Reason: run.GetError().GetReason(), Message: run.GetError().GetMessage(), Logged: logged(ctx, t, runs, id),
	}
	if run.GetOutput() != nil {
		if ended.Output, err = protojson.Marshal(run.GetOutput()); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(c.Compare(ended, dir), hosts.Check()); err != nil {
		t.Errorf("%v\nits error: %v\nits steps: %s", err, run.GetError(), stepsOf(t, runs, id))
	}
}

// stepsOf is the steps of a run, to be shown.
func stepsOf(t *testing.T, runs pawlv1.RunServiceClient, id string) string {
	t.Helper()
	got, err := runs.ListRunSteps(t.Context(), &pawlv1.ListRunStepsRequest{RunId: id})
	if err != nil {
		return err.Error()
	}
	var all strings.Builder
	for _, s := range got.GetSteps() {
		all.WriteString("\n" + s.GetPath() + " " + s.GetState() + " " + s.GetFailure().String())
	}
	return all.String()
}

// decide waits until a step asks, and decides.
func decide(ctx context.Context, t *testing.T, conn *grpc.ClientConn, d workflowtest.Decision) {
	t.Helper()
	approvals := pawlv1.NewApprovalServiceClient(conn)
	verdict := pawlv1.DecideApprovalRequest_VERDICT_APPROVE
	if d.Decision == "deny" {
		verdict = pawlv1.DecideApprovalRequest_VERDICT_DENY
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ; ctx.Err() == nil; <-tick.C {
		got, err := approvals.ListApprovals(ctx, &pawlv1.ListApprovalsRequest{
			State: pawlv1.ApprovalState_APPROVAL_STATE_OPEN,
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range got.GetApprovals() {
			if a.GetPath()[0].GetDescription() != d.Step {
				continue
			}
			if _, err := approvals.DecideApproval(ctx, &pawlv1.DecideApprovalRequest{
				ApprovalId: a.GetApprovalId(), Digest: a.GetDigest(), Verdict: verdict, Comment: d.Comment,
			}); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("step %s does not ask", d.Step)
}

// logged is the log of a run that has ended.
func logged(ctx context.Context, t *testing.T, runs pawlv1.RunServiceClient, id string) (lines []string) {
	t.Helper()
	events, err := runs.WatchRun(ctx, &pawlv1.WatchRunRequest{RunId: id, PastOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	for {
		got, err := events.Recv()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range got.GetEvents() {
			if l := e.GetLog(); l != nil {
				lines = append(lines, l.GetText())
			}
		}
	}
}

// serveCase serves the project of a folder until the test ends. Its executor works in the folder, and all hosts of the
// case are hosts.
func serveCase(t *testing.T, c workflowtest.Case, dir, database string, hosts *workflowtest.Hosts) *grpc.ClientConn {
	t.Helper()
	cfg := caseConfig(t, c, dir, database, hosts)
	ready, connected, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	cfg.Ready = func() { close(ready) }
	exec := executor.Config{
		ID: "builtin", Labels: c.Labels, Root: dir, DataDir: t.TempDir(), Logger: cfg.Log,
		Connected: sync.OnceFunc(func() { close(connected) }),
	}
	if len(c.Labels) == 0 { // the built-in executor has none
		cfg.BuiltinID = exec.ID
		cfg.Builtin = func(ctx context.Context, dial func(context.Context) (*grpc.ClientConn, error)) error {
			exec.Dial = dial
			return executor.Run(ctx, exec)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() { done <- control.Run(ctx, cfg) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, cfg.Store.Close()); err != nil {
			t.Error(err)
		}
	})
	begun := func(met chan struct{}) {
		t.Helper()
		select {
		case <-met:
		case err := <-done:
			done <- err
			t.Fatalf("control did not start: %v", err)
		case <-time.After(caseTime):
			t.Fatal("no executor connects")
		}
	}
	begun(ready)
	conn, err := grpc.NewClient(cfg.GRPC.Addr().String(), append(rpc.DialOptions(), rpc.Security(nil))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if len(c.Labels) > 0 {
		exec.ID, exec.Targets = "labelled", []string{cfg.GRPC.Addr().String()}
		startLabelled(t, conn, exec)
	}
	begun(connected)
	return conn
}

// caseConfig is a control plane of the project of a folder, without an executor.
func caseConfig(
	t *testing.T, c workflowtest.Case, dir, database string, hosts *workflowtest.Hosts,
) control.Config {
	t.Helper()
	p, err := project.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg := control.Config{
		Agents: p.Agents, Workflows: p.Workflows, Open: true, Log: slog.New(slog.DiscardHandler),
		Lookup: func(name string) (string, bool) { v, ok := c.Env[name]; return v, ok },
	}
	cfg.HTTPHosts, cfg.Egress = wayOut(t, c, hosts)
	if cfg.Models, err = control.NewModels("", cfg.Lookup); err != nil {
		t.Fatal(err)
	}
	if cfg.Store, err = control.OpenStore(t.Context(), control.Database{Name: database}, cfg.Log); err != nil {
		t.Fatal(err)
	}
	if cfg.GRPC, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// startLabelled runs an executor with a token of its own, which allows its labels, until the test ends.
func startLabelled(t *testing.T, conn *grpc.ClientConn, cfg executor.Config) {
	t.Helper()
	made, err := pawlv1.NewTokenServiceClient(conn).CreateToken(t.Context(), &pawlv1.CreateTokenRequest{
		Principal: &pawlv1.CreateTokenRequest_Executor{Executor: &pawlv1.ExecutorPrincipal{
			ExecutorId: cfg.ID, Labels: cfg.Labels,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Token = func(context.Context) (string, error) { return made.GetSecret(), nil }
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- executor.Run(ctx, cfg) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// wayOut lets the hosts of a case be asked, and leads to h whichever is. Only its dialer, which is below the check of
// addresses, is not the program's.
func wayOut(t *testing.T, c workflowtest.Case, h http.Handler) (egress.Hosts, egress.Client) {
	t.Helper()
	plain, secure := httptest.NewServer(h), httptest.NewUnstartedServer(h)
	secure.TLS = trusted(t)
	secure.StartTLS()
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	var names []string
	for name := range c.Names() {
		names = append(names, name)
	}
	hosts, err := egress.ParseHosts(names)
	if err != nil {
		t.Fatal(err)
	}
	return hosts, egress.Client{
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("8.8.8.8")}, nil
		},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			to := plain
			if strings.HasSuffix(address, ":443") {
				to = secure
			}
			return (&net.Dialer{}).DialContext(ctx, network, to.Listener.Addr().String())
		},
	}
}

// trusted are certificates of hosts that tables name. This process trusts nobody else from then on.
func trusted(t *testing.T) *tls.Config {
	t.Helper()
	dir := t.TempDir()
	trustOnce.Do(func() {
		_, trustErr = authority.Init(dir, []string{"*.example.com", "*.github.com", "*.internal"}, time.Now())
		if trustErr != nil {
			return
		}
		var ca []byte
		if ca, trustErr = os.ReadFile(filepath.Join(dir, "trust", "ca.pem")); trustErr != nil {
			return
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca)
		t.Setenv("GODEBUG", "x509usefallbackroots=1")
		x509.SetFallbackRoots(pool)
		trustCert, trustErr = tls.LoadX509KeyPair(filepath.Join(dir, "server", "cert.pem"),
			filepath.Join(dir, "server", "key.pem"))
	})
	if trustErr != nil {
		t.Fatal(trustErr)
	}
	return &tls.Config{Certificates: []tls.Certificate{trustCert}} //nolint:gosec // the newest version that there is
}

var (
	trustOnce sync.Once
	trustCert tls.Certificate
	trustErr  error
)
