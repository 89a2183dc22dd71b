package executor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/proctest"
	"github.com/pawl-dev/pawl/services/executor/keeper"
)

func TestMain(m *testing.M) {
	if keeper.Invoked() {
		os.Exit(keeper.Main())
	}
	os.Exit(m.Run())
}

// real is an executor as it is deployed, with a keeper and real commands, and control's side of its connection.
type real struct {
	t      testing.TB
	hello  *pawlv1.Hello
	stream grpc.BidiStreamingServer[pawlv1.ConnectRequest, pawlv1.ConnectResponse]
	stop   func()
}

// execute runs an executor on a data directory, and returns when it is welcome.
func execute(t testing.TB, data string) *real {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s, c := grpc.NewServer(), &bareControl{connected: make(chan *real, 1)}
	pawlv1.RegisterExecutorServiceServer(s, c)
	ctx, cancel := context.WithCancel(context.Background())
	served, ended := make(chan error, 1), make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	go func() { ended <- Run(ctx, Config{ID: "e", DataDir: data, Targets: []string{"unix:" + path}}) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() {
		stop()
		if err := proctest.EndKeeper(data, time.Minute); err != nil {
			t.Error(err)
		}
	})
	r := <-c.connected
	r.t, r.stop = t, stop
	return r
}

// bareControl welcomes executors.
type bareControl struct {
	pawlv1.UnimplementedExecutorServiceServer
	connected chan *real
}

func (c *bareControl) Connect(s grpc.BidiStreamingServer[pawlv1.ConnectRequest, pawlv1.ConnectResponse]) error {
	m, err := s.Recv()
	if err != nil {
		return err
	}
	welcome := &pawlv1.ConnectResponse_Welcome{Welcome: &pawlv1.Welcome{ConnectionEpoch: 1}}
	if err := s.Send(&pawlv1.ConnectResponse{Frame: welcome}); err != nil {
		return err
	}
	c.connected <- &real{hello: m.GetHello(), stream: s}
	<-s.Context().Done()
	return nil
}

// begin asks for a command of an at-most-once call.
func (r *real) begin(id, line string) error {
	return r.stream.Send(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Execute{Execute: &pawlv1.Execute{
		CallId: id, LaneId: "lane", Epoch: 1, Dispatch: 1, Safety: pawlv1.Safety_SAFETY_AT_MOST_ONCE,
		ArgsSha256: []byte("h"), Verb: &pawlv1.Execute_Exec{Exec: &pawlv1.Exec{Command: line}},
	}}})
}

// until takes frames up to the first that ends what is waited for.
func (r *real) until(done func(*pawlv1.ConnectRequest) bool) error {
	for {
		m, err := r.stream.Recv()
		switch {
		case err != nil:
			return err
		case m.GetRejected() != nil:
			return errors.New(m.GetRejected().GetMessage())
		case done(m):
			return nil
		}
	}
}

// command runs a command to its result and acknowledges that.
func (r *real) command(id, line string) error {
	err := r.begin(id, line)
	if err == nil {
		err = r.until(func(m *pawlv1.ConnectRequest) bool { return m.GetResult() != nil })
	}
	if err != nil {
		return err
	}
	ack := &pawlv1.ConnectResponse_ResultAck{ResultAck: &pawlv1.ResultAck{CallId: id}}
	return r.stream.Send(&pawlv1.ConnectResponse{Frame: ack})
}

// do has a call carried out that is not a command line alone.
func (r *real) do(e *pawlv1.Execute) (*pawlv1.Result, error) {
	e.LaneId, e.Epoch, e.Dispatch, e.ArgsSha256 = "lane", 1, 1, []byte("h")
	if err := r.stream.Send(&pawlv1.ConnectResponse{
		Frame: &pawlv1.ConnectResponse_Execute{Execute: e},
	}); err != nil {
		return nil, err
	}
	var got *pawlv1.Result
	err := r.until(func(m *pawlv1.ConnectRequest) bool { got = m.GetResult(); return got != nil })
	return got, err
}

// What steps of workflows ask for, of an executor as it is deployed: a command with input and variables whose output
// comes whole, a file with a mode, a file as it is.
func TestCommandsAndFilesOfSteps(t *testing.T) {
	r := execute(t, t.TempDir())
	input := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)
	res, err := r.do(&pawlv1.Execute{
		CallId: "cat", Env: map[string]string{"A": "a", "B": "b"},
		Verb: &pawlv1.Execute_Exec{Exec: &pawlv1.Exec{
			Command: `cat; echo "$A$B" >&2; printf 'a\000\377\r\n'; exit 3`, Input: input, Whole: true,
			Env: map[string]string{"B": "own"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	x := res.GetExec()
	if !bytes.Equal(x.GetStdout().GetHead(), append(input, "a\x00\xff\r\n"...)) || !x.GetWhole() ||
		string(x.GetStderr().GetHead()) != "aown\n" || x.GetExitCode() != 3 {
		t.Errorf("whole %v, %d bytes of %d, standard error %q, exit code %d", x.GetWhole(),
			len(x.GetStdout().GetHead()), x.GetStdout().GetSize(), x.GetStderr().GetHead(), x.GetExitCode())
	}
	path := filepath.Join(t.TempDir(), "new", "run")
	content := append(bytes.Repeat([]byte("x"), 3<<20), "\x00\xff"...)
	res, err = r.do(&pawlv1.Execute{
		CallId: "put", Safety: pawlv1.Safety_SAFETY_IDEMPOTENT,
		Verb: &pawlv1.Execute_WriteFile{WriteFile: &pawlv1.WriteFile{
			Path: path, Content: content, Mode: new(uint32(0o751)),
		}},
	})
	if err != nil || res.GetFile().GetSize() != int64(len(content)) {
		t.Fatal(res, err)
	}
	if i, err := os.Stat(path); err != nil || i.Mode().Perm() != 0o751 {
		t.Errorf("%v, %v", i, err)
	}
	res, err = r.do(&pawlv1.Execute{
		CallId: "get", Safety: pawlv1.Safety_SAFETY_PURE,
		Verb: &pawlv1.Execute_ReadWhole{ReadWhole: &pawlv1.ReadWhole{Path: path}},
	})
	sum := sha256.Sum256(content)
	if got := res.GetContent(); err != nil || !bytes.Equal(got.GetContent(), content) ||
		!bytes.Equal(got.GetSha256(), sum[:]) {
		t.Errorf("%d bytes, %v", len(got.GetContent()), err)
	}
}
