package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/executor/journal"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
	"github.com/pawl-dev/pawl/services/executor/work"
	"github.com/pawl-dev/pawl/services/executor/work/worktest"
)

const ttl = 8 * time.Second

// control is a control plane that does what a test says.
type control struct {
	pawlv1.UnimplementedExecutorServiceServer
	conns  chan *serverConn
	refuse func(*pawlv1.Hello) error
	deaf   atomic.Bool // new connections are not read
}

type serverConn struct {
	hello  *pawlv1.Hello
	stream grpc.BidiStreamingServer[pawlv1.ConnectRequest, pawlv1.ConnectResponse]
	end    chan error // what Connect returns
	frames chan *pawlv1.ConnectRequest
}

func (c *control) Connect(stream grpc.BidiStreamingServer[pawlv1.ConnectRequest, pawlv1.ConnectResponse]) error {
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	if c.refuse != nil {
		if err := c.refuse(m.GetHello()); err != nil {
			return err
		}
	}
	s := &serverConn{
		hello: m.GetHello(), stream: stream, end: make(chan error, 1),
		frames: make(chan *pawlv1.ConnectRequest, 1000),
	}
	received := make(chan error, 1)
	deaf := c.deaf.Load()
	c.conns <- s
	go func() {
		if deaf {
			<-stream.Context().Done()
		}
		for {
			m, err := stream.Recv()
			if err != nil {
				close(s.frames)
				received <- err
				return
			}
			s.frames <- m
		}
	}()
	select {
	case err := <-s.end:
		return err
	case err := <-received:
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
}

func (s *serverConn) welcome(t *testing.T) {
	t.Helper()
	s.send(t, &pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Welcome{Welcome: &pawlv1.Welcome{Ttl: durationpb.New(ttl), Window: 1000, ReplicaId: "r"}}})
}

func (s *serverConn) send(t *testing.T, m *pawlv1.ConnectResponse) {
	t.Helper()
	if err := s.stream.Send(m); err != nil {
		t.Error(err)
	}
}

func (s *serverConn) ping(t *testing.T, n uint64) {
	t.Helper()
	s.send(t, &pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Ping{Ping: &pawlv1.Ping{Nonce: n}}})
}

func (s *serverConn) execute(t *testing.T, id, line string) {
	t.Helper()
	s.send(t, &pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Execute{Execute: &pawlv1.Execute{
		CallId: id, LaneId: "s", Epoch: 1, Dispatch: 1, ArgsSha256: []byte(line), Safety: pawlv1.Safety_SAFETY_AT_MOST_ONCE,
		Verb: &pawlv1.Execute_Exec{Exec: &pawlv1.Exec{Command: line}},
	}}})
}

// rig is an executor that is linked to a control over a connection in memory.
type rig struct {
	t       *testing.T
	control *control
	box     *worktest.Box
	work    *work.Service
	cancel  context.CancelFunc
	done    chan error
	log     logBuffer

	mu     sync.Mutex
	server *grpc.Server
	listen *bufconn.Listener
	dials  []time.Time

	addresses int          // of control
	poison    atomic.Int32 // so often something panics
}

// poisoned is a box in which reading output panics at times.
type poisoned struct {
	*worktest.Box
	reads *atomic.Int32
}

func (p *poisoned) Start(ctx context.Context, id string, cmd sandbox.Command) (sandbox.Exec, error) {
	ex, err := p.Box.Start(ctx, id, cmd)
	return poisonedExec{ex, p.reads}, err
}

type poisonedExec struct {
	sandbox.Exec
	reads *atomic.Int32
}

func (p poisonedExec) ReadOutput(s sandbox.Stream, b []byte, off int64) (int, error) {
	if p.reads.Add(-1) >= 0 {
		panic("poison")
	}
	return p.Exec.ReadOutput(s, b, off)
}

type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func linked(t *testing.T, f func(r *rig)) {
	t.Helper()
	refused(t, nil, f)
}

// linkedBy is linked with a control that has several addresses.
func linkedBy(t *testing.T, addresses int, f func(r *rig)) {
	t.Helper()
	rigged(t, &rig{addresses: addresses}, nil, f)
}

// refused is linked with a control that answers every Hello with an error of refuse, if there is one.
func refused(t *testing.T, refuse func(*pawlv1.Hello) error, f func(r *rig)) {
	t.Helper()
	rigged(t, &rig{addresses: 1}, refuse, f)
}

func rigged(t *testing.T, r *rig, refuse func(*pawlv1.Hello) error, f func(r *rig)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		j, err := journal.Open(dir, journal.Config{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		r.t, r.box, r.done = t, worktest.New(), make(chan error, 1)
		r.control = &control{conns: make(chan *serverConn, 10), refuse: refuse}
		defer r.box.Close()
		r.work = work.New(work.Config{Sandbox: &poisoned{Box: r.box, reads: &r.poison}, Journal: j})
		defer r.work.Close()
		r.up()
		defer r.down()
		ctx, cancel := context.WithCancel(context.Background())
		r.cancel = cancel
		go func() {
			r.done <- Run(ctx, Config{
				Dial: r.dial, Addresses: r.addresses, Work: r.work, Log: slog.New(slog.NewTextHandler(&r.log, nil)),
				Explain: func(_ context.Context, addr string, _ error) string { return "look at " + addr },
				Hello: func() (*pawlv1.Hello, error) {
					if r.poison.Add(-1) >= 0 {
						panic("poison")
					}
					return &pawlv1.Hello{ExecutorId: "e", JournalId: "j"}, nil
				},
			})
		}()
		f(r)
		cancel()
		synctest.Wait()
		<-r.done
	})
}

func (r *rig) up() {
	l := bufconn.Listen(1 << 20)
	s := grpc.NewServer(grpc.MaxRecvMsgSize(rpc.MaxMessage))
	pawlv1.RegisterExecutorServiceServer(s, r.control)
	r.mu.Lock()
	r.server, r.listen = s, l
	r.mu.Unlock()
	go s.Serve(l) //nolint:errcheck // ends with Stop
}

func (r *rig) down() {
	r.mu.Lock()
	s := r.server
	r.server, r.listen = nil, nil
	r.mu.Unlock()
	if s != nil {
		s.Stop()
	}
}

func (r *rig) dial(context.Context) (*grpc.ClientConn, error) {
	r.mu.Lock()
	addr := fmt.Sprint("passthrough:///a", len(r.dials)%r.addresses)
	r.dials = append(r.dials, time.Now())
	r.mu.Unlock()
	return grpc.NewClient(addr, append(rpc.DialOptions(), rpc.Security(nil),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			r.mu.Lock()
			l := r.listen
			r.mu.Unlock()
			if l == nil {
				return nil, errors.New("connection refused")
			}
			return l.DialContext(ctx)
		}))...)
}

// next is the next connection, welcomed.
func (r *rig) next() *serverConn {
	r.t.Helper()
	select {
	case c := <-r.control.conns:
		c.welcome(r.t)
		return c
	case <-time.After(time.Minute):
		r.t.Fatal("no connection came; the log: ", r.log.b.String())
		return nil
	}
}

func (r *rig) attempts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.dials)
}

// result waits for the result of a call and acknowledges nothing.
func (s *serverConn) result(t *testing.T, id string) *pawlv1.Result {
	t.Helper()
	for {
		select {
		case m, ok := <-s.frames:
			if !ok {
				t.Fatal("the connection ended")
			}
			if r := m.GetResult(); r.GetCallId() == id {
				return r
			}
		case <-time.After(time.Hour):
			t.Fatalf("no result of %s came", id)
		}
	}
}

func TestHelloAndCall(t *testing.T) {
	linked(t, func(r *rig) {
		c := r.next()
		if c.hello.GetProtocol() != Protocol || c.hello.GetExecutorId() != "e" || c.hello.GetDraining() {
			t.Errorf("hello: %v", c.hello)
		}
		c.execute(t, "a", "echo hi;exit 3")
		if x := c.result(t, "a").GetExec(); x.GetExitCode() != 3 || string(x.GetStdout().GetHead()) != "hi\n" {
			t.Errorf("%v", x)
		}
	})
}

// Pings keep a connection; silence ends it, and the next one lists what is in flight and repeats the result.
func TestSilenceAndReconnect(t *testing.T) {
	linked(t, func(r *rig) {
		c := r.next()
		c.execute(t, "a", "echo 1;sleep 1m;exit 5")
		for i := range 10 {
			time.Sleep(ttl * 3 / 4)
			c.ping(t, uint64(i))
		}
		synctest.Wait()
		if r.attempts() != 1 {
			t.Fatal("a connection with pings was given up")
		}
		time.Sleep(2 * ttl)
		d := r.next()
		if in := d.hello.GetInflight(); len(in) != 1 || in[0].GetCallId() != "a" {
			t.Errorf("in flight: %v", in)
		}
		if x := d.result(t, "a").GetExec(); x.GetExitCode() != 5 {
			t.Errorf("%v", x)
		}
		if n := r.box.Runs("a"); n != 1 {
			t.Errorf("ran %d times", n)
		}
	})
}

// A control plane that does not read is silent, too, even if it keeps pinging.
func TestStuckSend(t *testing.T) {
	linked(t, func(r *rig) {
		r.next().end <- status.Error(codes.Unavailable, "again")
		r.control.deaf.Store(true)
		c := r.next()
		r.control.deaf.Store(false)
		for i := range 300 {
			c.execute(t, fmt.Sprint("call-", i), "bytes 1000")
			if i%50 == 0 {
				synctest.Wait() // for slots
			}
		}
		began := time.Now()
		for c.stream.Context().Err() == nil && time.Since(began) < time.Minute {
			c.ping(t, 1)
			time.Sleep(ttl / 4)
		}
		if took := time.Since(began); took < ttl || took > 2*ttl {
			t.Errorf("given up after %v", took)
		}
		r.next()
	})
}

// The waits between attempts grow to a limit, and begin anew after a connection that lasted; one that ends at once is
// an attempt that failed.
func TestBackoff(t *testing.T) {
	linked(t, func(r *rig) {
		r.down()
		time.Sleep(10 * time.Minute)
		r.mu.Lock()
		first, last, n := r.dials[0], r.dials[len(r.dials)-1], len(r.dials)
		r.mu.Unlock()
		if n < 150 || n > 500 {
			t.Errorf("%d attempts in %v", n, last.Sub(first))
		}
		if lines := r.log.count("control cannot be reached"); lines != 1 {
			t.Errorf("%d lines for one change", lines)
		}
		for len(r.control.conns) > 0 {
			<-r.control.conns // which began before the end of the first server
		}
		r.up()
		c := r.next()
		after := func(lasts time.Duration) time.Duration {
			time.Sleep(lasts)
			cut := time.Now()
			c.end <- status.Error(codes.Unavailable, "bye")
			c = r.next()
			return time.Since(cut)
		}
		if d := after(stable / 2); d < longWait/3 {
			t.Errorf("the first attempt after a connection that ended at once came after %v", d)
		}
		if d := after(2 * stable); d > 3*firstWait {
			t.Errorf("the first attempt after a connection that lasted came after %v", d)
		}
	})
}

// Output goes on where the watcher is, after a reconnect in its middle.
func TestReconnectInOutput(t *testing.T) {
	linked(t, func(r *rig) {
		var got []byte
		c := r.next()
		c.execute(t, "a", "bytes 3500;sleep 1m")
		for i := 0; len(got) < 3500; i++ {
			select {
			case m, ok := <-c.frames:
				if !ok {
					t.Fatal("the connection ended")
				}
				o := m.GetOutput()
				if o == nil {
					continue
				}
				if o.GetOffset() != int64(len(got)) {
					t.Fatalf("offset %d, want %d", o.GetOffset(), len(got))
				}
				got = append(got, o.GetData()...)
			case <-time.After(30 * time.Second):
				t.Fatal("no output came")
			}
			c.end <- status.Error(codes.Unavailable, "cut")
			c = r.next()
			c.send(t, &pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Attach{Attach: &pawlv1.Attach{
				CallId: "a", LaneId: "s", Epoch: 1, Dispatch: 1, StdoutFrom: int64(len(got)),
			}}})
		}
		if string(got) != string(worktest.Pattern(3500)) {
			t.Error("other bytes than the command's")
		}
	})
}

// Reasons decide what is final, and codes never do.
func TestRefusals(t *testing.T) {
	reason := func(code errs.Code, reason string) error {
		err, _ := rpc.ToStatus(errs.New(code, reason, "speak 2"))
		return err
	}
	for name, c := range map[string]struct {
		err   error
		final error
	}{
		"the token":                {reason(errs.Unauthenticated, "UNAUTHENTICATED"), ErrToken},
		"another kind of token":    {reason(errs.PermissionDenied, "FORBIDDEN"), ErrIdentity},
		"another executor's token": {reason(errs.PermissionDenied, "EXECUTOR_IDENTITY"), ErrIdentity},
		"labels":                   {reason(errs.PermissionDenied, "LABELS_REFUSED"), ErrIdentity},
		"the name is taken":        {reason(errs.FailedPrecondition, "NAME_IN_USE"), ErrIdentity},
		"the protocol":             {reason(errs.FailedPrecondition, "PROTOCOL_VERSION"), ErrVersion},
		"a capability":             {reason(errs.FailedPrecondition, "UNKNOWN_CAPABILITY"), ErrVersion},
		"a malformed Hello":        {reason(errs.InvalidArgument, "HELLO_INVALID"), ErrVersion},
		"a reason, another code":   {reason(errs.Unavailable, "NAME_IN_USE"), ErrIdentity},

		"a slow Hello":      {reason(errs.DeadlineExceeded, "HELLO_LATE"), nil},
		"an unknown reason": {reason(errs.PermissionDenied, "NOT_YET"), nil},
		"superseded":        {reason(errs.Aborted, "SUPERSEDED"), nil},
		"Unauthenticated":   {status.Error(codes.Unauthenticated, "speak 2"), nil},
		"PermissionDenied":  {status.Error(codes.PermissionDenied, "speak 2"), nil},
		"a precondition":    {status.Error(codes.FailedPrecondition, "speak 2"), nil},
		"InvalidArgument":   {status.Error(codes.InvalidArgument, "speak 2"), nil},
		"Unimplemented":     {status.Error(codes.Unimplemented, "speak 2"), nil},
		"Unavailable":       {status.Error(codes.Unavailable, "speak 2"), nil},
		"Internal":          {status.Error(codes.Internal, "speak 2"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, func(*pawlv1.Hello) error { return c.err }, func(r *rig) {
				time.Sleep(time.Minute)
				select {
				case err := <-r.done:
					r.done <- err
					if c.final == nil || !errors.Is(err, c.final) || !strings.Contains(err.Error(), "speak 2") {
						t.Errorf("Run ended with %v", err)
					}
				default:
					if c.final != nil {
						t.Error("goes on trying")
					}
				}
			})
		})
	}
}

// Hello names the connection that the one before was: control replaces that one at once.
func TestHelloNamesTheLastConnection(t *testing.T) {
	linked(t, func(r *rig) {
		for want := range int64(3) {
			c := <-r.control.conns
			if got := c.hello.GetLastConnectionEpoch(); got != want {
				t.Errorf("Hello %d names connection %d", want, got)
			}
			c.send(t, &pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Welcome{Welcome: &pawlv1.Welcome{ConnectionEpoch: want + 1}}})
			c.end <- status.Error(codes.Unavailable, "again")
		}
	})
}

// A frame that is not Welcome, and none at all, are no connection.
func TestNoWelcome(t *testing.T) {
	linked(t, func(r *rig) {
		c := <-r.control.conns
		c.ping(t, 1)
		d := <-r.control.conns // never answers
		began := time.Now()
		r.next()
		if wait := time.Since(began); wait < greet || wait > 2*greet {
			t.Errorf("waited %v for a Welcome", wait)
		}
		_ = d
	})
}

// At the end what is ready is sent, and control sees an orderly end.
func TestPart(t *testing.T) {
	linked(t, func(r *rig) {
		c := r.next()
		c.execute(t, "a", "exit 0")
		c.result(t, "a")
		r.work.Drain()
		r.work.Flush(context.Background())
		r.cancel()
		var last *pawlv1.ConnectRequest
		for m := range c.frames {
			last = m
		}
		if last.GetDraining() == nil {
			t.Errorf("the last frame was %v", last)
		}
		if err := <-r.done; err != nil {
			t.Error(err)
		}
		r.done <- nil
	})
}

// Several addresses are tried one after the other; the waits grow only when all of them have failed. Each is warned of
// once, with what to do about it.
func TestAddressesInTurn(t *testing.T) {
	linkedBy(t, 3, func(r *rig) {
		r.next()
		r.down()
		time.Sleep(10 * time.Second)
		r.mu.Lock()
		dials := r.dials[1:]
		r.mu.Unlock()
		within := 0
		for i := 1; i < len(dials); i++ {
			if dials[i].Sub(dials[i-1]) < firstWait {
				within++
			}
		}
		if n := len(dials); n < 9 || within < n/2 {
			t.Errorf("%d attempts, %d of them soon after the one before", n, within)
		}
		for _, addr := range []string{"a0", "a1", "a2"} {
			if n := r.log.count("addr=passthrough:///" + addr + " err="); n < 1 || n > 2 {
				t.Errorf("%d lines about %s", n, addr)
			}
			if n := r.log.count(`cure="look at passthrough:///` + addr + `"`); n != 1 {
				t.Errorf("%d times it is said what to do about %s", n, addr)
			}
		}
	})
}

// A panic ends the connection in which it happens, or the attempt to make it, and no lock stays behind.
func TestPanicEndsTheConnectionOnly(t *testing.T) {
	bad := &rig{addresses: 1}
	bad.poison.Store(1)
	rigged(t, bad, nil, func(r *rig) {
		c := r.next()
		if n := r.attempts(); n != 2 {
			t.Errorf("the first connection was made in %d attempts", n)
		}
		c.execute(t, "a", "sleep 1s;echo hi;sleep 3s;exit 3")
		synctest.Wait()
		r.poison.Store(1)
		time.Sleep(2 * time.Second)
		c = r.next()
		if x := c.result(t, "a").GetExec(); x.GetExitCode() != 3 || string(x.GetStdout().GetHead()) != "hi\n" {
			t.Errorf("%v", x)
		}
		if n := r.box.Runs("a"); n != 1 {
			t.Errorf("ran %d times", n)
		}
	})
}
