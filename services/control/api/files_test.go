package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/link/files"
)

// fileVerbs stands for the executors: it answers every verb, and remembers what was asked for.
type fileVerbs struct {
	mu      sync.Mutex
	asked   []string
	content []byte
	names   [][]byte
	err     error
}

// Do implements api.Files.
func (v *fileVerbs) Do(_ context.Context, f *files.Request) (*pawlv1.Result, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked = append(v.asked, fmt.Sprintf("%s %q %v", f.Executor, f.Verb.GetCwd(),
		f.Verb.ProtoReflect().WhichOneof(f.Verb.ProtoReflect().Descriptor().Oneofs().ByName("verb")).Name()))
	if v.err != nil {
		return nil, v.err
	}
	switch f.Verb.GetVerb().(type) {
	case *pawlv1.Execute_ReadFile:
		size := int64(len(v.content))
		err := errors.Join(f.Opened(files.Facts{Size: &size}), f.Take(pawlv1.Stream_STREAM_FILE, v.content))
		if err != nil {
			return nil, err
		}
		return v.digest(), nil
	case *pawlv1.Execute_WriteFile:
		v.content = nil
		for {
			in, err := f.Next()
			if err != nil {
				return nil, err
			}
			v.content = append(v.content, in.GetData()...)
			if in.GetLast() {
				return v.digest(), nil
			}
		}
	case *pawlv1.Execute_Stat:
		return &pawlv1.Result{Outcome: &pawlv1.Result_Stat{Stat: &pawlv1.StatResult{
			IsFile: true, Size: 7, Mode: 0o644,
			LinkTarget: "x",
		}}}, nil
	case *pawlv1.Execute_ReadDir:
		return &pawlv1.Result{Outcome: &pawlv1.Result_Names{Names: &pawlv1.NamesResult{Names: v.names}}}, nil
	case *pawlv1.Execute_Exists:
		return &pawlv1.Result{Outcome: &pawlv1.Result_Exists{Exists: &pawlv1.ExistsResult{Exists: true}}}, nil
	}
	return &pawlv1.Result{Outcome: &pawlv1.Result_Done{Done: &pawlv1.DoneResult{}}}, nil
}

func (v *fileVerbs) digest() *pawlv1.Result {
	sum := sha256.Sum256(v.content)
	return &pawlv1.Result{Outcome: &pawlv1.Result_File{File: &pawlv1.FileResult{
		Size:   int64(len(v.content)),
		Sha256: sum[:],
	}}}
}

func (v *fileVerbs) take() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	got := strings.Join(v.asked, ", ")
	v.asked = nil
	return got
}

// rows is the table of a fleet of one.
type rows struct{ fleet.Store }

func (rows) GetExecutor(ctx context.Context, id string) (fleet.Executor, error) {
	return executors{}.GetExecutor(ctx, id)
}

func (rows) ListExecutors(ctx context.Context) ([]fleet.Executor, error) {
	return executors{}.ListExecutors(ctx)
}

// put writes a file in the given messages.
func put(
	ctx context.Context, c pawlv1.FileServiceClient, parts ...*pawlv1.WriteFileRequest,
) (*pawlv1.WriteFileResponse, error) {
	stream, err := c.WriteFile(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		if err := stream.Send(p); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	return stream.CloseAndRecv()
}

func begin(t *pawlv1.FileTarget, path string) *pawlv1.WriteFileRequest {
	return &pawlv1.WriteFileRequest{
		Part: &pawlv1.WriteFileRequest_Start_{Start: &pawlv1.WriteFileRequest_Start{Target: t, Path: path}},
	}
}

func data(b []byte) *pawlv1.WriteFileRequest {
	return &pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_Data{Data: b}}
}

func finish(sum []byte) *pawlv1.WriteFileRequest {
	return &pawlv1.WriteFileRequest{Part: &pawlv1.WriteFileRequest_End_{End: &pawlv1.WriteFileRequest_End{Sha256: sum}}}
}

func TestFiles(t *testing.T) {
	f := start(t, nil)
	c, ctx := pawlv1.NewFileServiceClient(f.operator(t)), t.Context()
	for i := range 60_000 {
		f.files.names = append(f.files.names, fmt.Appendf(nil, "name-%050d-\xff", i))
	}
	got, err := put(ctx, c, begin(target, "f"), data([]byte("hello ")), data(nil), data([]byte("world")), finish(nil))
	if err != nil || got.GetWritten().GetSize() != 11 || got.GetExecutorId() != "gpu1" {
		t.Errorf("%v, %v", got, err)
	}
	read, err := c.ReadFile(ctx, &pawlv1.ReadFileRequest{Target: target, Path: "f"})
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for {
		m, err := read.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch p := m.GetPart().(type) {
		case *pawlv1.ReadFileResponse_Opened_:
			parts = append(parts, fmt.Sprintf("opened %s %d", p.Opened.GetExecutorId(), p.Opened.GetSize()))
		case *pawlv1.ReadFileResponse_Data:
			parts = append(parts, string(p.Data))
		case *pawlv1.ReadFileResponse_Done:
			sum := sha256.Sum256([]byte("hello world"))
			parts = append(parts, fmt.Sprintf("done %d %v", p.Done.GetSize(), bytes.Equal(sum[:], p.Done.GetSha256())))
		}
	}
	if got := strings.Join(parts, ", "); got != "opened gpu1 11, hello world, done 11 true" {
		t.Error(got)
	}
	if got, err := c.Stat(ctx, &pawlv1.StatRequest{Target: target, Path: "f"}); err != nil || !got.GetIsFile() ||
		got.GetSize() != 7 || got.GetMode() != 0o644 || got.GetLinkTarget() != "x" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := c.Exists(ctx, &pawlv1.ExistsRequest{Target: target, Path: "f"}); err != nil || !got.GetExists() {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := c.MakeDir(ctx, &pawlv1.MakeDirRequest{Target: target, Path: "d"}); err != nil {
		t.Error(err)
	}
	if _, err := c.Remove(ctx, &pawlv1.RemoveRequest{Target: target, Path: "d"}); err != nil {
		t.Error(err)
	}
	dir, err := c.ReadDir(ctx, &pawlv1.ReadDirRequest{Target: target, Path: "d"}, grpc.MaxCallRecvMsgSize(2<<20))
	if err != nil {
		t.Fatal(err)
	}
	n, messages := 0, 0
	for ; ; messages++ {
		m, err := dir.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n += len(m.GetNames())
	}
	if n != 60_000 || messages < 3 {
		t.Errorf("%d names in %d messages", n, messages)
	}
	if got := f.files.take(); got != strings.Join([]string{
		`gpu1 "." write_file`, `gpu1 "." read_file`, `gpu1 "." stat`, `gpu1 "." exists`, `gpu1 "." make_dir`, `gpu1 "." remove`, `gpu1 "." read_dir`,
	}, ", ") {
		t.Error(got)
	}
}

// A session's files are where its calls go, under the agent's cwd; a client may use those of its agents, and no
// executor by name.
func TestFileTargets(t *testing.T) {
	f := start(t, nil)
	stat := func(conn *grpc.ClientConn, to *pawlv1.FileTarget) error {
		_, err := pawlv1.NewFileServiceClient(conn).Stat(t.Context(), &pawlv1.StatRequest{Target: to, Path: "f"})
		return err
	}
	of := func(agent string) *pawlv1.FileTarget {
		return &pawlv1.FileTarget{Target: &pawlv1.FileTarget_Session{Session: &pawlv1.SessionKey{
			Agent:    agent,
			Instance: "i",
		}}}
	}
	at := &pawlv1.FileTarget{Target: &pawlv1.FileTarget_ExecutorId{ExecutorId: "any"}}
	limits := auth.Limits{Agents: []string{"placed"}}
	operator, limited := f.operator(t), f.as(t, auth.Token{Kind: auth.Client, Limits: limits})
	for _, c := range []struct {
		conn         *grpc.ClientConn
		to           *pawlv1.FileTarget
		reason, want string
	}{
		{operator, of("shell"), "", `gpu1 "." stat`},
		{operator, of("placed"), "", `gpu1 "sub" stat`},
		{limited, of("placed"), "", `gpu1 "sub" stat`},
		{limited, of("shell"), "AGENT_NOT_FOUND", ""},
		{operator, of("nope"), "AGENT_NOT_FOUND", ""},
		{operator, of("elsewhere"), "EXECUTOR_AWAY", ""},
		{operator, of("none"), "NO_SANDBOX", ""},
		{operator, at, "", `any "" stat`},
		{limited, at, "FORBIDDEN", ""},
		{operator, nil, "INVALID_ARG", ""},
		{operator, &pawlv1.FileTarget{}, "INVALID_ARG", ""},
		{
			operator, &pawlv1.FileTarget{Target: &pawlv1.FileTarget_Session{Session: &pawlv1.SessionKey{Agent: "shell"}}},
			"INVALID_NAME", "",
		},
	} {
		if err := stat(c.conn, c.to); rpc.Reason(err) != c.reason {
			t.Errorf("%v: %v, want %s", c.to, err, c.reason)
		}
		if got := f.files.take(); got != c.want {
			t.Errorf("%v: asked %q, want %q", c.to, got, c.want)
		}
	}
	if a, b := stat(limited, of("shell")), stat(limited, of("nope")); a.Error() != strings.Replace(b.Error(), "nope",
		"shell", 1) {
		t.Errorf("a foreign agent is told from none: %v, %v", a, b)
	}
}

// What a client may do with the files of a session is what the session's agent may do with its tools.
func TestFilesNeedTheTools(t *testing.T) {
	f := start(t, nil)
	c, ctx := pawlv1.NewFileServiceClient(f.operator(t)), t.Context()
	verbs := map[string]func(to *pawlv1.FileTarget) error{
		"get": func(to *pawlv1.FileTarget) error {
			stream, err := c.ReadFile(ctx, &pawlv1.ReadFileRequest{Target: to, Path: "f"})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
		"stat": func(to *pawlv1.FileTarget) error {
			_, err := c.Stat(ctx, &pawlv1.StatRequest{Target: to, Path: "f"})
			return err
		},
		"exists": func(to *pawlv1.FileTarget) error {
			_, err := c.Exists(ctx, &pawlv1.ExistsRequest{Target: to, Path: "f"})
			return err
		},
		"list": func(to *pawlv1.FileTarget) error {
			stream, err := c.ReadDir(ctx, &pawlv1.ReadDirRequest{Target: to, Path: "d"})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
		"put": func(to *pawlv1.FileTarget) error {
			_, err := put(ctx, c, begin(to, "f"), data([]byte("x")), finish(nil))
			return err
		},
		"mkdir": func(to *pawlv1.FileTarget) error {
			_, err := c.MakeDir(ctx, &pawlv1.MakeDirRequest{Target: to, Path: "d"})
			return err
		},
		"remove": func(to *pawlv1.FileTarget) error {
			_, err := c.Remove(ctx, &pawlv1.RemoveRequest{Target: to, Path: "f"})
			return err
		},
	}
	for name, may := range map[string]string{
		"shell":  "get stat exists list put mkdir remove",
		"reader": "get stat exists list", "finder": "stat exists list", "writer": "put mkdir", "idle": "",
	} {
		key := &pawlv1.SessionKey{Agent: name, Instance: "i"}
		to := &pawlv1.FileTarget{Target: &pawlv1.FileTarget_Session{Session: key}}
		for verb, use := range verbs {
			want := "TOOL_MISSING"
			if slices.Contains(strings.Fields(may), verb) {
				want = ""
			}
			err := use(to)
			if asked := f.files.take(); rpc.Reason(err) != want || (asked == "") != (want != "") {
				t.Errorf("%s %s: %v, the executor was asked %q", name, verb, err, asked)
			}
		}
	}
}

func fileAgents() []agent.Definition {
	named := func(name string, change func(*agent.Definition)) agent.Definition {
		d := agent.Shell()
		d.Name = name
		change(&d)
		return d
	}
	return []agent.Definition{
		named("reader", func(d *agent.Definition) { d.Tools = []string{"read", "edit"} }),
		named("finder", func(d *agent.Definition) { d.Tools = []string{"glob"} }),
		named("writer", func(d *agent.Definition) { d.Tools = []string{"write"} }),
		named("idle", func(d *agent.Definition) { d.Tools = []string{} }),
		named("placed", func(d *agent.Definition) {
			d.Cwd, d.Sandbox = "sub", agent.Sandbox{
				Kind:   agent.SandboxExecutor,
				Labels: map[string]string{"gpu": "yes"},
			}
		}),
		named("elsewhere", func(d *agent.Definition) {
			d.Sandbox = agent.Sandbox{Kind: agent.SandboxExecutor, Labels: map[string]string{"gpu": "no"}}
		}),
		named("none", func(d *agent.Definition) { d.Sandbox, d.Tools = agent.Sandbox{Kind: agent.SandboxNone}, nil }),
	}
}

func TestBadFileRequests(t *testing.T) {
	f := start(t, hello())
	c, ctx := pawlv1.NewFileServiceClient(f.operator(t)), t.Context()
	for path, want := range map[string]string{"": "empty", strings.Repeat("x", 4097): "4097", "a\x00b": "NUL"} {
		if _, err := c.Stat(ctx, &pawlv1.StatRequest{Target: target, Path: path}); rpc.Reason(err) != "INVALID_ARG" ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%.10q: %v", path, err)
		}
	}
	f.files.content = []byte("old")
	for want, parts := range map[string][]*pawlv1.WriteFileRequest{
		"must be start":   {data([]byte("x"))},
		"first message":   {},
		"has no end":      {begin(target, "f"), data([]byte("x"))},
		"data and end":    {begin(target, "f"), begin(target, "f")},
		"come data":       {begin(target, "f"), {}},
		"32 bytes, not 3": {begin(target, "f"), finish([]byte("abc"))},
		"1048577 bytes":   {begin(target, "f"), data(make([]byte, 1<<20+1))},
		"path is empty":   {begin(target, ""), finish(nil)},
		"target":          {begin(nil, "f"), finish(nil)},
	} {
		if _, err := put(ctx, c, parts...); status.Code(err) != codes.InvalidArgument ||
			rpc.Reason(err) != "INVALID_ARG" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	f.files.err = errs.New(errs.FailedPrecondition, "IS_DIR", "f: is a directory")
	if _, err := put(ctx, c, begin(target, "f"), finish(nil)); status.Code(err) != codes.FailedPrecondition ||
		rpc.Reason(err) != "IS_DIR" {
		t.Error(err)
	}
}
