package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway"
	"github.com/pawl-dev/pawl/services/control/gateway/transcode"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// caller is somebody who walks over every RPC and every route.
type caller struct {
	secret string
	who    auth.Principal // nobody, if its kind is ""
	// foreign says that what the walk names is not the caller's.
	foreign bool
}

// may reports what auth's table says.
func (c caller) may(r auth.Rule) bool {
	if r.Open() {
		return true
	}
	if c.who.Kind == auth.Client {
		return r.Least != "" && slices.Index(auth.Roles, c.who.Role) >= slices.Index(auth.Roles, r.Least)
	}
	return slices.Contains(r.Kinds, c.who.Kind)
}

// walk is a control plane with callers of every kind.
type walk struct {
	grpc, http string
	tokens     *auth.Service
	conns      map[string]*grpc.ClientConn // by secret
	callers    map[string]caller
}

func startWalk(t *testing.T) *walk {
	t.Helper()
	db, err := control.OpenStore(t.Context(), control.Database{Name: "memory"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return startWalkOn(t, db)
}

func startWalkOn(t *testing.T, db store.Store) *walk {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	other := agent.Shell()
	other.Name = "other"
	hidden := agent.Shell()
	hidden.Name, hidden.Tenants = "hidden", []string{"elsewhere"}
	catalogue, err := agent.Load("", os.LookupEnv, nil, agent.Shell(), other, hidden)
	if err != nil {
		t.Fatal(err)
	}
	models, err := control.NewModels("", os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	var listeners [2]net.Listener
	for i := range listeners {
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- control.Run(ctx, control.Config{
			Store: db, GRPC: listeners[0], HTTP: listeners[1], Agents: catalogue, Models: models, Lookup: os.LookupEnv,
			Workflows: theirs(t),
			TokenFile: filepath.Join(t.TempDir(), "token"), Ready: func() { close(ready) }, Log: log,
		})
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("control did not start: %v", err)
	}
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, db.Close()); err != nil {
			t.Error(err)
		}
	})
	w := &walk{
		grpc: listeners[0].Addr().String(), http: "http://" + listeners[1].Addr().String(),
		conns: map[string]*grpc.ClientConn{}, callers: map[string]caller{},
	}
	w.tokens = auth.NewService(db)
	w.invite(t)
	return w
}

// theirs are the workflows of a walk: one, which waits for ever.
func theirs(t *testing.T) *workflow.Catalogue {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "waits.yaml"), []byte("steps: [{signal: go}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := workflow.Load(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *walk) mint(t *testing.T, like auth.Token, life time.Duration) (string, auth.Token) {
	t.Helper()
	secret, made, err := w.tokens.Mint(t.Context(), like, life)
	if err != nil {
		t.Fatal(err)
	}
	return secret, made
}

// invite makes the callers.
func (w *walk) invite(t *testing.T) {
	t.Helper()
	add := func(name string, like auth.Token, foreign bool) {
		secret, made := w.mint(t, like, 0)
		w.callers[name] = caller{secret, auth.Principal{Kind: made.Kind, Role: made.Role}, foreign}
	}
	for _, role := range auth.Roles {
		add(string(role), auth.Token{Kind: auth.Client, Role: role}, false)
	}
	add("operator", auth.Token{Kind: auth.Operator}, false)
	add("executor", auth.Token{Kind: auth.Executor, Executor: "gpu1"}, false)
	add("another tenant", auth.Token{Kind: auth.Client, Role: auth.Admin, Tenant: "elsewhere"}, true)
	for name, l := range map[string]auth.Limits{
		"another agent":    {Agents: []string{"other"}},
		"another instance": {InstancePrefix: "theirs-"},
	} {
		add(name, auth.Token{Kind: auth.Client, Role: auth.Admin, Limits: l}, true)
	}
	peer, err := w.tokens.Peer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.callers["peer"] = caller{secret: peer, who: auth.Principal{Kind: auth.Peer}}
	other := "x"
	if strings.HasSuffix(peer, other) {
		other = "y"
	}
	w.callers["nobody"], w.callers["a made-up token"] = caller{}, caller{secret: peer[:len(peer)-1] + other}
	expired, _ := w.mint(t, auth.Token{Kind: auth.Operator}, time.Microsecond)
	w.callers["expired"] = caller{secret: expired}
	revoked, made := w.mint(t, auth.Token{Kind: auth.Operator}, 0)
	if err := w.tokens.Revoke(t.Context(), auth.Principal{Kind: auth.Operator}, made.ID); err != nil {
		t.Fatal(err)
	}
	w.callers["revoked"] = caller{secret: revoked}
}

// conn is a connection with a token.
func (w *walk) conn(t *testing.T, secret string) *grpc.ClientConn {
	t.Helper()
	if c := w.conns[secret]; c != nil {
		return c
	}
	opts := append(rpc.DialOptions(), rpc.Security(nil))
	if secret != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(rpc.Token{Secret: rpc.Static(secret), Plaintext: true}))
	}
	c, err := grpc.NewClient(w.grpc, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	w.conns[secret] = c
	return c
}

// things are what requests name.
type things struct {
	*pawlv1.Submission
	token string // its id
	run   string // its id
}

// there is a submission that has settled, of a new session, a token, and a run that was cancelled; absent is what
// nobody has.
func (w *walk) there(t *testing.T) things {
	t.Helper()
	c := pawlv1.NewSubmissionServiceClient(w.conn(t, w.callers["operator"].secret))
	got, err := c.Submit(t.Context(), &pawlv1.SubmitRequest{
		Key: absent().GetKey(), Message: "say: hi",
	})
	if err != nil {
		t.Fatal(err)
	}
	id := got.GetSubmission().GetSubmissionId()
	done, err := c.WaitSubmission(t.Context(), &pawlv1.WaitSubmissionRequest{SubmissionId: id})
	if err != nil {
		t.Fatal(err)
	}
	_, made := w.mint(t, auth.Token{Kind: auth.Client, Limits: auth.Limits{Agents: []string{"shell"}}}, 0)
	return things{done.GetSubmission(), made.ID, w.cancelled(t)}
}

// cancelled is a run that was cancelled.
func (w *walk) cancelled(t *testing.T) string {
	t.Helper()
	c := pawlv1.NewRunServiceClient(w.conn(t, w.callers["operator"].secret))
	got, err := c.StartRun(t.Context(), &pawlv1.StartRunRequest{Workflow: "waits"})
	if err != nil {
		t.Fatal(err)
	}
	id := got.GetRun().GetRunId()
	if _, err := c.CancelRun(t.Context(), &pawlv1.CancelRunRequest{RunId: id}); err != nil {
		t.Fatal(err)
	}
	done, err := c.WaitRun(t.Context(), &pawlv1.WaitRunRequest{RunId: id})
	if err != nil || done.GetRun().GetStatus() != pawlv1.RunStatus_RUN_STATUS_CANCELLED {
		t.Fatalf("%v, %v", done, err)
	}
	return id
}

func absent() things {
	return things{&pawlv1.Submission{SessionId: ident.New(), SubmissionId: ident.New(), Key: &pawlv1.SessionKey{
		Agent: "shell", Instance: "ours-" + ident.New(), Session: session.DefaultName,
	}}, ident.New(), ident.New()}
}

// random is what differs from answer to answer: ids, among them those that the request had, tickets, and times.
var random = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|pawl_t_\w+|\d{4}-\d\d-\d\dT[0-9:.]+Z`)

func like(answer string) string { return random.ReplaceAllString(answer, "") }

// request is the message of an RPC that names what a submission has.
func request(t *testing.T, m protoreflect.MessageDescriptor, of things) *dynamicpb.Message {
	t.Helper()
	req := dynamicpb.NewMessage(m)
	for name, value := range map[protoreflect.Name]string{
		"session_id": of.GetSessionId(), "submission_id": of.GetSubmissionId(), "executor_id": "gpu1",
		"agent":    of.GetKey().GetAgent(),
		"token_id": of.token, "list_services": "*", "path": "f", "command": "true", "run_id": of.run,
		"workflow": "waits", "signal": "go",
	} {
		if f := m.Fields().ByName(name); f != nil && f.Kind() == protoreflect.StringKind {
			req.Set(f, protoreflect.ValueOfString(value))
		}
	}
	target := &pawlv1.FileTarget{Target: &pawlv1.FileTarget_Session{Session: of.GetKey()}}
	for name, value := range map[protoreflect.Name]proto.Message{
		"key": of.GetKey(), "target": target, "start": &pawlv1.WriteFileRequest_Start{Target: target, Path: "f"},
	} {
		f := m.Fields().ByName(name)
		if f == nil || f.Message() == nil || f.Message().FullName() != value.ProtoReflect().Descriptor().FullName() ||
			name == "key" && f.ContainingOneof() != nil {
			continue
		}
		b, err := proto.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		part := dynamicpb.NewMessage(f.Message())
		if err := proto.Unmarshal(b, part); err != nil {
			t.Fatal(err)
		}
		req.Set(f, protoreflect.ValueOfMessage(part))
	}
	return req
}

// call makes a call and returns its error, or that of the first message of a stream, and what was answered.
func (w *walk) call(
	t *testing.T, c caller, m protoreflect.MethodDescriptor, of things,
) (answer string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	full := "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
	req, res := request(t, m.Input(), of), dynamicpb.NewMessage(m.Output())
	conn := w.conn(t, c.secret)
	if !m.IsStreamingClient() && !m.IsStreamingServer() {
		err := conn.Invoke(ctx, full, req, res)
		return res.String(), err
	}
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: m.IsStreamingClient()}
	stream, err := conn.NewStream(ctx, desc, full)
	if err != nil {
		return "", err
	}
	if err := stream.SendMsg(req); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if !m.IsStreamingClient() || !m.IsStreamingServer() {
		if err := stream.CloseSend(); err != nil {
			return "", err
		}
	}
	if err := stream.RecvMsg(res); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return res.String(), nil
}

// methods are all RPCs that the server has, by full name.
func (w *walk) methods(t *testing.T) map[string]protoreflect.MethodDescriptor {
	t.Helper()
	c := reflectionv1.NewServerReflectionClient(w.conn(t, w.callers["operator"].secret))
	stream, err := c.ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := reflectionv1.ServerReflectionRequest_ListServices{ListServices: "*"}
	if err := stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &ask}); err != nil {
		t.Fatal(err)
	}
	res, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]protoreflect.MethodDescriptor{}
	for _, s := range res.GetListServicesResponse().GetService() {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(s.GetName()))
		if err != nil {
			t.Fatal(err)
		}
		service, ok := d.(protoreflect.ServiceDescriptor)
		if !ok {
			t.Fatalf("%s is no service", s.GetName())
		}
		for i := range service.Methods().Len() {
			m := service.Methods().Get(i)
			all[s.GetName()+"/"+string(m.Name())] = m
		}
	}
	return all
}

// admits are the verbs that make what they name: to another tenant, a session that is not there is its own to begin.
var admits = []auth.Verb{auth.Prompt, auth.MakeSessions, auth.UseFiles, auth.ChangeFiles, auth.RunCommands}

// Every RPC, with every caller, is as the table says. What is foreign is not found, in the words for what is not there.
func TestEveryRPC(t *testing.T) { everyRPC(t, startWalk(t)) }

func everyRPC(t *testing.T, w *walk) {
	t.Helper()
	seen := map[string]bool{}
	for full, m := range w.methods(t) {
		rule, ok := auth.RuleOf(full)
		if !ok {
			t.Errorf("auth's table does not say who may call %s", full)
			continue
		}
		seen[full] = true
		for name, c := range w.callers {
			of := w.there(t) // a verb may have deleted the last one
			answer, err := w.call(t, c, m, of)
			w.check(t, full+" by "+name, c, rule, outcome{status.Code(err), rpc.Reason(err)})
			if !c.foreign || !c.may(rule) {
				continue
			}
			tells := func(id string) bool { return strings.Contains(answer, id) }
			if tells(of.run) || tells(of.GetSessionId()) || tells(of.GetSubmissionId()) {
				t.Errorf("%s by %s tells %s", full, name, answer)
			}
			if _, gone := w.call(t, c, m, absent()); name != "another tenant" || !slices.Contains(admits, rule.Verb) {
				if like(fmt.Sprint(gone)) != like(fmt.Sprint(err)) {
					t.Errorf("%s by %s: %v, and of what is not there: %v", full, name, err, gone)
				}
			}
		}
	}
	for _, r := range auth.Rules() {
		for _, m := range r.Methods {
			if !strings.Contains(m, " ") && !seen[m] && !strings.HasPrefix(m, "pawl.peer.") {
				t.Errorf("auth's table names %s, which is not there", m)
			}
		}
	}
}

// outcome is how a call ended.
type outcome struct {
	code   codes.Code
	reason string
}

func (w *walk) check(t *testing.T, what string, c caller, r auth.Rule, got outcome) {
	t.Helper()
	refused := got.code == codes.PermissionDenied && got.reason == "FORBIDDEN"
	switch {
	case r.Open():
		if got.code != codes.OK {
			t.Errorf("%s: %v, and it is open", what, got)
		}
	case c.who.Kind == "":
		if got.code != codes.Unauthenticated || got.reason != "UNAUTHENTICATED" {
			t.Errorf("%s: %v, want UNAUTHENTICATED", what, got)
		}
	case !c.may(r):
		if !refused {
			t.Errorf("%s: %v, want FORBIDDEN", what, got)
		}
	case got.code == codes.Unauthenticated, got.code == codes.Internal, got.code == codes.Unknown,
		refused && !c.foreign && r.Verb != auth.ManageTokens:
		t.Errorf("%s: %v, and the table allows it", what, got)
	}
}

// Every route over HTTP, with every caller, is as the table says, and as foreign as its RPC.
func TestEveryRoute(t *testing.T) { everyRoute(t, startWalk(t)) }

func everyRoute(t *testing.T, w *walk) {
	t.Helper()
	for _, r := range transcode.Routes() {
		full := string(r.RPC.Parent().FullName()) + "/" + string(r.RPC.Name())
		rule, ok := auth.RuleOf(full)
		if !ok {
			t.Errorf("auth's table does not say who may call %s", full)
			continue
		}
		if strings.Contains(r.Path, "{target.executor_id}") {
			rule = ruleOf(t, auth.UseExecutors)
		}
		for name, c := range w.callers {
			of := w.there(t)
			what := fmt.Sprintf("%s %s by %s", r.Method, r.Path, name)
			code, body := w.send(t, c, httpRequest(t, r, of))
			w.checkHTTP(t, what, c, rule, code, body)
			if !c.foreign || !c.may(rule) || name == "another tenant" && slices.Contains(admits, rule.Verb) {
				continue
			}
			gone, other := w.send(t, c, httpRequest(t, r, absent()))
			if gone != code || like(other) != like(body) {
				t.Errorf("%s: %d %s, and of what is not there: %d %s", what, code, body, gone, other)
			}
		}
	}
}

func ruleOf(t *testing.T, v auth.Verb) auth.Rule {
	t.Helper()
	all := auth.Rules()
	i := slices.IndexFunc(all, func(r auth.Rule) bool { return r.Verb == v })
	if i < 0 {
		t.Fatalf("auth's table has no verb %q", v)
	}
	return all[i]
}

// Every path of files, in every method, with every caller, is as the table says of the RPC behind it.
func TestEveryPathOfFiles(t *testing.T) { everyPathOfFiles(t, startWalk(t)) }

func everyPathOfFiles(t *testing.T, w *walk) {
	t.Helper()
	behind := map[string]auth.Verb{
		"GET": auth.UseFiles, "HEAD": auth.UseFiles, "PUT": auth.ChangeFiles, "DELETE": auth.ChangeFiles,
	}
	for _, path := range transcode.FilePaths {
		for _, method := range transcode.FileMethods {
			rule := ruleOf(t, behind[method])
			if strings.Contains(path, "{executor_id}") {
				rule = ruleOf(t, auth.UseExecutors)
			}
			for name, c := range w.callers {
				what := fmt.Sprintf("%s %s by %s", method, path, name)
				code, body := w.send(t, c, fileRequest(t, method, path, w.there(t)))
				w.checkHTTP(t, what, c, rule, code, body)
				if !c.foreign || !c.may(rule) {
					continue
				}
				gone, other := w.send(t, c, fileRequest(t, method, path, absent()))
				if gone != code || like(other) != like(body) || code != http.StatusNotFound {
					t.Errorf("%s: %d %s, and of what is not there: %d %s", what, code, body, gone, other)
				}
			}
		}
	}
}

func fileRequest(t *testing.T, method, path string, of things) *http.Request {
	t.Helper()
	names := strings.NewReplacer("{session_id}", of.GetSessionId(), "{executor_id}", "gpu1", "{path}", "d/f")
	path = names.Replace(path)
	r, err := http.NewRequestWithContext(t.Context(), method, path, strings.NewReader("content"))
	if err != nil {
		t.Fatal(err)
	}
	if method != http.MethodPut {
		r.Body, r.ContentLength = nil, 0
	}
	return r
}

func (w *walk) checkHTTP(t *testing.T, what string, c caller, r auth.Rule, code int, body string) {
	t.Helper()
	switch {
	case r.Open():
		if code != http.StatusOK {
			t.Errorf("%s: %d %s, and it is open", what, code, body)
		}
	case c.who.Kind == "":
		if code != http.StatusUnauthorized {
			t.Errorf("%s: %d %s, want 401", what, code, body)
		}
	case !c.may(r):
		if code != http.StatusForbidden {
			t.Errorf("%s: %d %s, want 403", what, code, body)
		}
	case code == http.StatusUnauthorized, code == http.StatusInternalServerError,
		code == http.StatusForbidden && !c.foreign && r.Verb != auth.ManageTokens:
		t.Errorf("%s: %d %s, and the table allows it", what, code, body)
	}
}

// httpRequest is a request for a route that names what a submission has.
func httpRequest(t *testing.T, r transcode.Route, of things) *http.Request {
	t.Helper()
	path := r.Path
	for name, value := range map[string]string{
		"session_id": of.GetSessionId(), "submission_id": of.GetSubmissionId(),
		"agent": of.GetKey().GetAgent(), "key.agent": of.GetKey().GetAgent(),
		"target.session_id": of.GetSessionId(), "target.executor_id": "gpu1",
		"key.instance": of.GetKey().GetInstance(), "key.session": of.GetKey().GetSession(), "executor_id": "gpu1",
		"token_id": of.token, "run_id": of.run, "workflow": "waits", "schedule": "1",
	} {
		path = strings.ReplaceAll(path, "{"+name+"}", value)
	}
	if strings.Contains(path, "{") {
		path = regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(path, ident.New())
	}
	var body []byte
	if r.Method != http.MethodGet && r.Method != http.MethodDelete {
		var err error
		in := request(t, r.RPC.Input(), of)
		if strings.Contains(r.Path, "{target.") { // the path says it
			in.Clear(r.RPC.Input().Fields().ByName("target"))
		}
		if body, err = protojson.Marshal(in); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), r.Method, path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

// send sends a request with a caller's token. Of a stream the first piece is the answer.
func (w *walk) send(t *testing.T, c caller, r *http.Request) (code int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	u, err := r.URL.Parse(w.http + r.URL.RequestURI())
	if err != nil {
		t.Fatal(err)
	}
	r = r.WithContext(ctx)
	if r.URL = u; c.secret != "" {
		r.Header.Set("Authorization", "Bearer "+c.secret)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	defer res.Body.Close() //nolint:errcheck // it was read as far as it matters
	if res.StatusCode == http.StatusSwitchingProtocols ||
		res.StatusCode == http.StatusOK && !strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") {
		return res.StatusCode, ""
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	return res.StatusCode, string(b)
}

// Every other path, in every method that the table has for it, is as the table says.
func TestEveryOtherRoute(t *testing.T) { everyOtherRoute(t, startWalk(t)) }

func everyOtherRoute(t *testing.T, w *walk) {
	t.Helper()
	patterns := gateway.Patterns()
	for _, pattern := range patterns {
		methods := auth.MethodsOf(pattern)
		if len(methods) == 0 {
			t.Errorf("auth's table does not say who may call %s", pattern)
		}
		for _, method := range methods {
			rule, _ := auth.RuleOf(method + " " + pattern)
			for name, c := range w.callers {
				code, body := w.send(t, c, otherRequest(t, method, pattern))
				if code == http.StatusSwitchingProtocols {
					code = http.StatusOK
				}
				w.checkHTTP(t, fmt.Sprintf("%s %s by %s", method, pattern, name), c, rule, code, body)
				if name == "another agent" && strings.Contains(pattern, "{agent}") && code != http.StatusNotFound {
					t.Errorf("%s %s of a foreign agent: %d %s", method, pattern, code, body)
				}
			}
		}
	}
	for _, r := range auth.Rules() {
		for _, m := range r.Methods {
			if _, path, route := strings.Cut(m, " "); route && !slices.Contains(patterns, path) {
				t.Errorf("auth's table names %s, which is not there", m)
			}
		}
	}
}

func otherRequest(t *testing.T, method, pattern string) *http.Request {
	t.Helper()
	path := strings.NewReplacer("{agent}", "shell", "{instance}", "ours-1").Replace(pattern)
	path = regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(path, ident.New())
	var body io.Reader = http.NoBody
	if method == http.MethodPost {
		b, err := json.Marshal(map[string]string{"message": "say: hi"})
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	verb := strings.Replace(method, "WS", http.MethodGet, 1)
	r, err := http.NewRequestWithContext(t.Context(), verb, path, body)
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	if method == "WS" {
		for name, value := range map[string]string{
			"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
			"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
		} {
			r.Header.Set(name, value)
		}
	}
	return r
}

// A ticket lets one socket in, at once, and nothing else in the URL of any request lets anybody in.
func TestTicketsAreForSockets(t *testing.T) {
	w := startWalk(t)
	user := w.callers["user"]
	ticket := func() string {
		made, err := pawlv1.NewTokenServiceClient(w.conn(t, user.secret)).CreateTicket(t.Context(),
			&pawlv1.CreateTicketRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return made.GetTicket()
	}
	for _, path := range []string{"/v1/watch", "/agents/shell/i"} {
		one := ticket()
		for _, want := range []int{http.StatusSwitchingProtocols, http.StatusUnauthorized} {
			r := otherRequest(t, "WS", path)
			r.URL.RawQuery = "ticket=" + one
			if code, body := w.send(t, caller{}, r); code != want {
				t.Errorf("a socket at %s: %d %s, want %d", path, code, body, want)
			}
		}
	}
	c, _, err := websocket.Dial(t.Context(), w.http+"/v1/watch?ticket="+ticket(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow() //nolint:errcheck // of a test
	call := `{"id":"1","call":"listAgents","request":{}}`
	if err := c.Write(t.Context(), websocket.MessageText, []byte(call)); err != nil {
		t.Fatal(err)
	}
	if _, answer, err := c.Read(t.Context()); err != nil || !strings.Contains(string(answer), `"name":"shell"`) {
		t.Errorf("%s, %v", answer, err)
	}
	for _, pattern := range append(gateway.Patterns(), "/v1/agents", "/v1/sessions", "/v1/tickets", "/nowhere") {
		for _, method := range []string{http.MethodGet, http.MethodPost, "WS"} {
			for _, query := range []string{
				"ticket=" + user.secret, "token=" + user.secret, user.secret, "ticket=" + ticket(),
				"x=" + strings.Replace(user.secret, "_", "%5f", 1),
			} {
				r := otherRequest(t, method, pattern)
				if r.URL.RawQuery = query; strings.HasPrefix(query, "ticket=pawl_t_") && method == "WS" &&
					auth.MethodsOf(pattern) != nil && slices.Contains(auth.MethodsOf(pattern), "WS") {
					continue
				}
				code, body := w.send(t, user, r)
				if code != http.StatusBadRequest || !strings.Contains(body, "does not belong in a URL") {
					t.Errorf("%s %s?%s: %d %s", method, pattern, query, code, body)
				}
			}
		}
	}
}

// The header says for whom a prompt is, on every way in over HTTP.
func TestOnBehalfOfOverHTTP(t *testing.T) {
	w := startWalk(t)
	secret, _ := w.mint(t, auth.Token{Kind: auth.Client, Limits: auth.Limits{ForOthers: true}}, 0)
	for _, path := range []string{"/agents/shell/ours-1", "/v1/agents/shell/instances/ours-1:dispatch"} {
		for who, code := range map[string]int{secret: http.StatusOK, w.callers["user"].secret: http.StatusForbidden} {
			r := otherRequest(t, http.MethodPost, path)
			r.Header.Set(transcode.OnBehalfOfHeader, "ada")
			if got, body := w.send(t, caller{secret: who}, r); got != code {
				t.Errorf("%s: %d %s, want %d", path, got, body, code)
			}
		}
	}
	c := pawlv1.NewSessionServiceClient(w.conn(t, w.callers["viewer"].secret))
	s, err := c.ListSessions(t.Context(), &pawlv1.ListSessionsRequest{Instance: "ours-1"})
	if err != nil || len(s.GetSessions()) != 1 {
		t.Fatalf("%v, %v", s, err)
	}
	all, err := pawlv1.NewSubmissionServiceClient(w.conn(t, w.callers["viewer"].secret)).ListSubmissions(t.Context(),
		&pawlv1.ListSubmissionsRequest{SessionId: s.GetSessions()[0].GetSessionId()})
	if err != nil || len(all.GetSubmissions()) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	for _, one := range all.GetSubmissions() {
		if one.GetAskedBy().GetOnBehalfOf() != "ada" {
			t.Errorf("%v", one.GetAskedBy())
		}
	}
}
