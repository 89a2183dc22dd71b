package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/pawl-dev/pawl/internal/mcpclient"
	"github.com/pawl-dev/pawl/services/executor/keeper"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
	"github.com/pawl-dev/pawl/services/executor/sandbox/local"
)

// asServer is the variable that makes this test's program a server, of a kind.
const asServer = "MCP_TEST_SERVER"

func TestMain(m *testing.M) {
	switch {
	case keeper.Invoked():
		os.Exit(keeper.Main())
	case os.Getenv(asServer) != "":
		serve(os.Getenv(asServer))
	default:
		os.Exit(m.Run())
	}
}

// serve is a server whose tools do what the tests need.
func serve(kind string) {
	switch kind {
	case "dies":
		fmt.Fprintln(os.Stderr, "no licence found for "+os.Getenv("TOKEN"))
		os.Exit(3)
	case "babbles":
		for {
			fmt.Println("this is no protocol")
		}
	case "deaf":
		deaf()
	}
	s := sdk.NewServer(&sdk.Implementation{Name: "test", Version: "1"}, nil)
	tool := func(name string, f func(context.Context, *sdk.CallToolRequest) (string, error)) {
		s.AddTool(&sdk.Tool{Name: name, InputSchema: json.RawMessage(`{"type": "object"}`)},
			func(ctx context.Context, r *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
				text, err := f(ctx, r)
				return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: text}}}, err
			})
	}
	tool("pid", func(context.Context, *sdk.CallToolRequest) (string, error) { return strconv.Itoa(os.Getpid()), nil })
	tool("env", func(context.Context, *sdk.CallToolRequest) (string, error) {
		dir, err := os.Getwd()
		return strings.Join(os.Environ(), "\n") + "\ndir=" + filepath.Base(dir), err
	})
	tool("exit", func(context.Context, *sdk.CallToolRequest) (string, error) {
		fmt.Fprintln(os.Stderr, "something broke")
		os.Exit(4)
		return "", nil
	})
	tool("wait", func(ctx context.Context, r *sdk.CallToolRequest) (string, error) {
		if err := r.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{
			ProgressToken: r.Params.GetProgressToken(), Progress: 1, Message: "waiting",
		}); err != nil {
			return "", err
		}
		<-ctx.Done()
		return "", os.WriteFile("stopped", nil, 0o600)
	})
	tool("grow", func(context.Context, *sdk.CallToolRequest) (string, error) {
		tool("grown", func(context.Context, *sdk.CallToolRequest) (string, error) { return "", nil })
		return "grown", nil
	})
	tool("flood", func(context.Context, *sdk.CallToolRequest) (string, error) {
		return strings.Repeat("x", mcpclient.MaxMessage+2<<20), nil
	})
	if err := s.Run(context.Background(), &sdk.StdioTransport{}); err != nil {
		os.Exit(1)
	}
}

// deaf is a server that makes a session and reads nothing more.
func deaf() {
	in := json.NewDecoder(os.Stdin)
	for {
		var m struct {
			ID     json.RawMessage
			Method string
		}
		if in.Decode(&m) != nil {
			os.Exit(1)
		}
		switch m.Method {
		case "initialize":
			fmt.Printf(`{"jsonrpc": "2.0", "id": %s, "result": {"protocolVersion": "2025-11-25", "capabilities": `+
				`{"tools": {}}, "serverInfo": {"name": "deaf", "version": "1"}}}`+"\n", m.ID)
		case "notifications/initialized":
			ended := make(chan os.Signal, 1)
			signal.Notify(ended, syscall.SIGTERM)
			<-ended
			os.Exit(0)
		default:
			fmt.Printf(`{"jsonrpc": "2.0", "id": %s, "error": {"code": -32601, "message": "no"}}`+"\n", m.ID)
		}
	}
}

// rig is servers on this host.
type rig struct {
	*testing.T
	*Servers
	root    string
	changed chan string
	log     *bytes.Buffer // not to be read before Close
}

func newRig(t *testing.T) *rig {
	t.Helper()
	root, data := t.TempDir(), t.TempDir()
	k, err := keeper.Open(data, keeper.Options{})
	if err != nil {
		t.Fatal(err)
	}
	sb, err := local.New(local.Options{Root: root, Data: data, Keeper: k})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, root: root, changed: make(chan string, 10), log: &bytes.Buffer{}}
	r.Servers = New(sb, slog.New(slog.NewTextHandler(r.log, nil)), func(id string) { r.changed <- id })
	t.Cleanup(func() {
		r.Close()
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func spec(kind string) Spec {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return Spec{
		ID: "d", Name: "test", Program: exe, Args: []string{"it's", "$HOME"},
		Env: map[string]*string{asServer: &kind, "TOKEN": new("secret"), "LANG": nil},
	}
}

// call calls a tool and returns the text of its answer.
func (r *rig) call(ctx context.Context, s Spec, tool string, progress func(mcpclient.Progress)) (string, error) {
	r.Helper()
	res, err := r.Do(ctx, s, Request{
		Method: mcpclient.CallTool, Params: fmt.Appendf(nil, `{"name": %q}`, tool), Progress: progress,
	})
	var answer struct{ Content []struct{ Text string } }
	if err == nil && (json.Unmarshal(res.JSON, &answer) != nil || len(answer.Content) != 1) {
		r.Fatalf("%s: %s", tool, res.JSON)
	}
	if err != nil {
		return "", err
	}
	return answer.Content[0].Text, nil
}

func (r *rig) must(s Spec, tool string) string {
	r.Helper()
	text, err := r.call(r.Context(), s, tool, nil)
	if err != nil {
		r.Fatal(err)
	}
	return text
}

func TestRequestsOfOneServerShareAProcess(t *testing.T) {
	r := newRig(t)
	one := r.must(spec("good"), "pid")
	if again := r.must(spec("good"), "pid"); again != one {
		t.Errorf("processes %s and %s", one, again)
	}
	other := spec("good")
	other.Env["TOKEN"] = new("another")
	if pid := r.must(other, "pid"); pid == one {
		t.Error("two environments share a process")
	}
	if err := os.Mkdir(filepath.Join(r.root, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOST_SECRET", "never")
	below := spec("good")
	below.Cwd = "sub"
	env := "\n" + r.must(below, "env") + "\n"
	for want, there := range map[string]bool{
		"\nTOKEN=secret\n": true, "\nLANG=": false, "HOST_SECRET": false, "\ndir=sub\n": true,
	} {
		if strings.Contains(env, want) != there {
			t.Errorf("%q: %v in %s", want, !there, env)
		}
	}
}

// Nothing is left of servers when the daemon ends, and none is started after.
func TestServersEndWithTheDaemon(t *testing.T) {
	r := newRig(t)
	pid, err := strconv.Atoi(r.must(spec("good"), "pid"))
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
		t.Error("the server runs on")
	}
	if _, err := r.call(t.Context(), spec("good"), "pid", nil); !errors.Is(err, ErrServer) {
		t.Error(err)
	}
}

func TestAServerThatIsIdleEnds(t *testing.T) {
	r := newRig(t)
	one := r.must(spec("good"), "pid")
	r.evict(time.Hour)
	if again := r.must(spec("good"), "pid"); again != one {
		t.Error("it was ended although it was in use")
	}
	r.evict(0)
	if again := r.must(spec("good"), "pid"); again == one {
		t.Error("it was not ended")
	}
}

// A server that dies in a call has an unknown outcome to tell of, with its last words. It is started again after a
// pause.
func TestAServerThatDiesInACall(t *testing.T) {
	r := newRig(t)
	one := r.must(spec("good"), "pid")
	_, err := r.call(t.Context(), spec("good"), "exit", nil)
	if !errors.Is(err, sandbox.ErrInterrupted) || !strings.Contains(err.Error(), "something broke") {
		t.Errorf("%v", err)
	}
	for {
		again, err := r.call(t.Context(), spec("good"), "pid", nil)
		if err == nil {
			if again == one {
				t.Error("the dead answer")
			}
			break
		}
		if !errors.Is(err, ErrServer) && !errors.Is(err, sandbox.ErrInterrupted) {
			t.Fatal(err)
		}
		moment(t)
	}
}

// moment is a pause before the next look at what announces nothing.
func moment(t *testing.T) {
	t.Helper()
	select {
	case <-time.After(20 * time.Millisecond):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

func TestServersThatCannotBeUsed(t *testing.T) {
	r := newRig(t)
	none := spec("good")
	none.Program = "/no/such/program"
	for what, c := range map[string]struct {
		spec Spec
		want string
	}{
		"none": {none, "No such file"}, "one that dies": {spec("dies"), "no licence found"},
		"one that babbles": {spec("babbles"), "does not speak the protocol"},
	} {
		begun := time.Now()
		_, err := r.call(t.Context(), c.spec, "pid", nil)
		if !errors.Is(err, ErrServer) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: after %s: %v", what, time.Since(begun), err)
		}
	}
	_, err := r.Do(t.Context(), spec("good"), Request{Method: "server/reboot"})
	if !errors.Is(err, sandbox.ErrInvalidArg) {
		t.Errorf("a method that there is not: %v", err)
	}
	var refused *mcpclient.Error
	if _, err := r.call(t.Context(), spec("good"), "nope", nil); !errors.As(err, &refused) ||
		refused.Kind != mcpclient.Answered {
		t.Errorf("a tool that there is not: %v", err)
	}
	r.Close()
	if log := r.log.String(); !strings.Contains(log, "could not be started") || strings.Contains(log, "secret") {
		t.Errorf("the log has what servers have written, or nothing: %s", log)
	}
}

// Servers that nobody asks do not keep others from being started.
func TestAServerIsStartedInThePlaceOfAnIdleOne(t *testing.T) {
	r := newRig(t)
	r.mu.Lock()
	for i := range maxServers {
		s := spec("good")
		s.ID = strconv.Itoa(i)
		r.all[s.key()] = &server{of: r.Servers, spec: s, used: time.Unix(int64(1+(i+7)%maxServers), 0)}
	}
	r.mu.Unlock()
	r.must(spec("good"), "pid")
	oldest := spec("good")
	oldest.ID = strconv.Itoa(maxServers - 7)
	r.mu.Lock()
	if r.all[oldest.key()] != nil || len(r.all) != maxServers {
		t.Errorf("there are %d servers, with the one that had to go: %v", len(r.all), r.all[oldest.key()] != nil)
	}
	for _, one := range r.all {
		one.users.Add(1)
	}
	r.mu.Unlock()
	if _, err := r.call(t.Context(), oldest, "pid", nil); !errors.Is(err, ErrServer) ||
		!strings.Contains(err.Error(), "32 MCP servers run already") {
		t.Errorf("with all in use: %v", err)
	}
}

func TestACallThatIsStopped(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	var said mcpclient.Progress
	_, err := r.call(ctx, spec("good"), "wait", func(p mcpclient.Progress) {
		said = p
		cancel()
	})
	if !errors.Is(err, context.Canceled) || said.Message != "waiting" {
		t.Errorf("%v after %+v", err, said)
	}
	for {
		if _, err := os.Stat(filepath.Join(r.root, "stopped")); err == nil {
			break
		}
		moment(t)
	}
	late, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := r.call(late, spec("good"), "wait", nil); !errors.Is(err, sandbox.ErrInterrupted) {
		t.Errorf("a call that is late: %v", err)
	}
}

func TestAListThatChangesIsAnnounced(t *testing.T) {
	r := newRig(t)
	r.must(spec("good"), "grow")
	if id := <-r.changed; id != "d" {
		t.Errorf("of %q", id)
	}
}

func TestAnAnswerThatIsTooLarge(t *testing.T) {
	r := newRig(t)
	if _, err := r.call(t.Context(), spec("good"), "flood", nil); !errors.Is(err, sandbox.ErrInterrupted) {
		t.Errorf("%v", err)
	}
}

func TestTheLineOfACommand(t *testing.T) {
	if got := line("a b", []string{"it's", "$X", ""}); got != `exec 'a b' 'it'\''s' '$X' ''` {
		t.Error(got)
	}
}

// Who asks a server that does not read what it is told waits no longer than it wants to. The server is replaced.
func TestAServerThatDoesNotRead(t *testing.T) {
	r := newRig(t)
	params := fmt.Appendf(nil, `{"name": "x", "arguments": {"text": %q}}`, strings.Repeat("x", 4<<20))
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // that includes the start
		one, err := r.use(spec("deaf"))
		if err != nil {
			t.Fatal(err)
		}
		live, err := one.ready(ctx)
		one.users.Add(-1)
		if err != nil {
			t.Fatal(err)
		}
		live.leave()
		cancel()
		// Long enough for the request to be on its way, which takes longer than the server's pipe has room.
		for patience := 50 * time.Millisecond; live.life.Err() == nil; patience *= 2 {
			ctx, cancel = context.WithTimeout(t.Context(), patience)
			_, err = r.Do(ctx, spec("deaf"), Request{Method: mcpclient.CallTool, Params: params})
			cancel()
			if !errors.Is(err, sandbox.ErrInterrupted) {
				t.Errorf("nobody knows what was read, and the caller is told %v", err)
			}
		}
		<-live.ex.Done()
	}
}
