package link

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	peerv1 "github.com/pawl-dev/pawl/gen/pawl/peer/v1"
	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/mono"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/link/files"
	"github.com/pawl-dev/pawl/services/control/link/peer"
	"github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// database is what replicas share: executors, and the calls that a test puts there.
type database struct {
	mu    sync.Mutex
	all   map[string]fleet.Executor
	asked int // for calls
	calls map[string]call.Call
	owner string           // of every session, "" for nobody
	slow  time.Duration    // an answer about a call takes so long
	fails map[string]error // of operations, by name
	loses map[string]error // the same, which lose the answer only
	tries map[string]int   // of operations
	notes []string         // lanes that hints were about

	secrets []string // of every agent
	unknown error    // why they cannot be known
	fleet.Store
}

func newDatabase() *database {
	return &database{
		all: map[string]fleet.Executor{}, calls: map[string]call.Call{},
		fails: map[string]error{}, loses: map[string]error{}, tries: map[string]int{},
	}
}

// try counts an operation, and is the error with which it fails. The caller holds mu.
func (d *database) try(op string) error {
	d.tries[op]++
	return d.fails[op]
}

// fail makes an operation fail, until it is called with nil.
func (d *database) fail(op string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails[op] = err
}

func (d *database) tried(op string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tries[op]
}

func (d *database) SetDraining(_ context.Context, id string, epoch int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.try("SetDraining"); err != nil {
		return err
	}
	if e := d.all[id]; e.ConnectionEpoch == epoch {
		e.Draining = true
		d.all[id] = e
	}
	return nil
}

func (d *database) Connect(_ context.Context, e fleet.Executor) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all[e.ID].ConnectionEpoch != e.ConnectionEpoch {
		return 0, fleet.ErrChanged
	}
	e.ReplicaAddr = e.Replica
	e.ConnectionEpoch++
	d.all[e.ID] = e
	return e.ConnectionEpoch, d.loses["Connect"]
}

func (d *database) Disconnect(_ context.Context, id string, epoch, begun int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.try("Disconnect"); err != nil {
		return err
	}
	if e := d.all[id]; e.ConnectionEpoch == epoch {
		e.Replica, e.Journal.Begun = "", max(e.Journal.Begun, begun)
		d.all[id] = e
	}
	return nil
}

func (d *database) SetBegun(_ context.Context, id string, epoch, begun int64) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.try("SetBegun"); err != nil {
		return false, err
	}
	e := d.all[id]
	if e.ConnectionEpoch != epoch {
		return false, nil
	}
	e.Journal.Begun = max(e.Journal.Begun, begun)
	d.all[id] = e
	return true, nil
}

// connected makes the executor count as connected to a replica.
func (d *database) connected(replica string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.all["e"]
	e.Replica, e.ReplicaAddr = replica, replica
	d.all["e"] = e
}

// known is what the database has of the executor.
func (d *database) known() fleet.Executor {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all["e"]
}

func (d *database) GetExecutor(_ context.Context, id string) (fleet.Executor, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.all[id]
	if !ok {
		return fleet.Executor{}, fleet.ErrNotFound
	}
	return e, nil
}

func (d *database) ListExecutors(context.Context) (all []fleet.Executor, _ error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tries["ListExecutors"]++
	for _, id := range slices.Sorted(maps.Keys(d.all)) {
		all = append(all, d.all[id])
	}
	return all, nil
}

func (d *database) GetCall(_ context.Context, id string) (call.Call, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	slow := d.slow
	d.mu.Unlock()
	time.Sleep(slow) // on fake time
	d.mu.Lock()
	c, ok := d.calls[id]
	if !ok {
		return call.Call{}, call.ErrNotFound
	}
	return c, nil
}

func (d *database) CompleteCall(_ context.Context, o call.Outcome) (call.Call, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, ok := d.calls[o.CallID]
	switch {
	case !ok:
		return c, call.ErrNotFound
	case c.State == call.Lost:
		c.LateReply = o.Reply
	case !c.State.Terminal():
		c.State, c.Reply = o.State, o.Reply
	}
	d.calls[o.CallID] = c
	return c, nil
}

// put makes a call known.
func (d *database) put(c call.Call) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls[c.ID] = c
}

// Redact implements Redactor.
func (d *database) Redact(_ context.Context, _ call.Call, reply tool.Reply) (tool.Reply, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return tool.Clean(reply, d.secrets), d.unknown
}

func (d *database) DispatchedCalls(_ context.Context, executor string) ([]call.Call, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.in(executor, call.Dispatched), d.try("DispatchedCalls")
}

func (d *database) WaitingCalls(_ context.Context, executor string) (waiting []call.Waiting, _ error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.in(executor, call.Pending) {
		waiting = append(waiting, call.Waiting{CallID: c.ID, LaneID: c.LaneID})
	}
	return waiting, nil
}

// in is the calls of an executor in a state, by id. The caller holds mu.
func (d *database) in(executor string, state call.State) (found []call.Call) {
	for _, id := range slices.Sorted(maps.Keys(d.calls)) {
		if c := d.calls[id]; c.Executor == executor && c.State == state {
			found = append(found, c)
		}
	}
	return found
}

func (d *database) Grant(_ context.Context, g call.Grant) (granted []call.Granted, _ error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range g.CallIDs {
		c := d.calls[id]
		if c.State != call.Pending || d.all[g.Executor].ConnectionEpoch != g.ConnectionEpoch {
			continue
		}
		c.State, c.Dispatch, c.Journal = call.Dispatched, c.Dispatch+1, g.Journal
		d.calls[id] = c
		granted = append(granted, call.Granted{CallID: id, LaneID: c.LaneID, Dispatch: c.Dispatch})
	}
	return granted, nil
}

// announce takes the hints for other replicas.
func (d *database) announce(lanes ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notes = append(d.notes, lanes...)
}

// noted is the lanes that hints were about since the last time.
func (d *database) noted() []string {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	notes := d.notes
	d.notes = nil
	return notes
}

func (d *database) OwnerOf(context.Context, string) (replica.Replica, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return replica.Replica{ID: d.owner, Addr: d.owner}, d.owner != "", d.try("OwnerOf")
}

// runner takes the reports of the sessions that its replica runs.
type runner struct {
	runs   bool
	owns   bool // has the lane, and does not wait for the call
	panics bool
	got    chan call.Report
	fleet  atomic.Int32 // executors that came or went
}

func (o *runner) Deliver(r call.Report) bool {
	if o.panics {
		panic("poison")
	}
	if o.runs {
		o.got <- r
	}
	return o.runs
}

func (o *runner) Owns(string) bool { return o.runs || o.owns }

// Granted implements Deps.Granted.
func (o *runner) Granted(e fleet.Executor, g call.Granted) bool {
	if o.runs {
		o.got <- call.Report{Executor: e.ID, CallID: g.CallID, LaneID: g.LaneID}
	}
	return o.runs
}

// cluster is replicas on one database, on connections in memory.
type cluster struct {
	t  *testing.T
	db *database

	mu    sync.Mutex
	lines map[string]*bufconn.Listener
	usual start // of the executor of tests that care for no other
}

// plane is a replica's links.
type plane struct {
	*Server
	cluster *cluster
	id      string
	grpc    *rpc.Server
	local   *fleet.Service
	owner   *runner
}

// within runs a test in a bubble with replicas.
func within(t *testing.T, replicas int, f func(all []*plane)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, db: newDatabase(), lines: map[string]*bufconn.Listener{}}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		var all []*plane
		for i := range replicas {
			p := &plane{cluster: c, id: string(rune('a' + i)), grpc: rpc.NewServer(rpc.Hooks{
				Admit: func(ctx context.Context, _ rpc.Call, _ string) (context.Context, func(), error) {
					return ctx,
						nil, nil
				},
				Log: slog.New(slog.DiscardHandler),
			})}
			p.local = fleet.NewService(c.db, func() string { return "" })
			p.owner = &runner{got: make(chan call.Report, 64)}
			self, log := func() string { return p.id }, slog.New(slog.DiscardHandler)
			peers := peer.NewClient(c.db, self, c.dial, log)
			bus, owner := wake.NewBus(c.db.announce), p.owner
			bus.SubscribeFunc(func() { owner.fleet.Add(1) }, wake.AnyExecutor)
			p.Server = NewServer(Deps{
				Calls: c.db, Fleet: c.db, Local: p.local, Owner: p.owner, Peers: peers, Bus: bus, Replica: self,
				Grants: c.db, Granted: p.owner.Granted,
				Identity: func(context.Context) (auth.Principal, error) {
					return auth.Principal{Kind: auth.Executor, Executor: "e", Labels: auth.Labels{"gpu": "a*"}}, nil
				},
				Redactor: c.db, Clock: mono.New(), Log: log,
			})
			pawlv1.RegisterExecutorServiceServer(p.grpc, connector{server: p.Server})
			peerv1.RegisterPeerServiceServer(p.grpc, peer.NewServer(p.Server))
			l := bufconn.Listen(1 << 20)
			c.lines[p.id] = l
			running.Go(func() { _ = p.grpc.Serve(l) })
			running.Go(func() { _ = peers.Run(ctx) })
			running.Go(func() { _ = p.Server.Run(ctx) })
			all = append(all, p)
		}
		f(all)
		cancel()
		for _, p := range all {
			p.grpc.Stop()
		}
		running.Wait()
	})
}

type connector struct {
	pawlv1.UnimplementedExecutorServiceServer
	server *Server
}

func (c connector) Connect(stream grpc.BidiStreamingServer[pawlv1.ConnectRequest, pawlv1.ConnectResponse]) error {
	return c.server.Connect(stream)
}

func (c *cluster) dial(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, append(rpc.DialOptions(), rpc.Security(nil),
		grpc.WithInitialWindowSize(64<<10), // and no more: on fake time every network looks infinitely fast
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			c.mu.Lock()
			l := c.lines[addr]
			c.mu.Unlock()
			return l.DialContext(ctx)
		}))...)
}

// executor speaks the frames of one, as the test says.
type executor struct {
	t      *testing.T
	conn   *grpc.ClientConn
	stream grpc.BidiStreamingClient[pawlv1.ConnectRequest, pawlv1.ConnectResponse]

	deaf   atomic.Bool   // answers no Ping
	begun  atomic.Int64  // calls, as its Heartbeats say
	paused chan struct{} // holds a value while it reads nothing

	mu  sync.Mutex
	got []*pawlv1.ConnectResponse
	err error
}

// start is one of executor processes, which may be copies of each other.
type start struct {
	journal string
	chain   []*pawlv1.Incarnation // newest first
	last    int64                 // connection_epoch
}

// first is the first start on a journal.
func first(journal string) start { return start{journal: journal}.again(0) }

// again is the next start, on a journal that has begun so many calls. Two of them are copies of one.
func (s start) again(begun int64) start {
	n := len(s.chain)
	chain := append([]*pawlv1.Incarnation{{Id: ident.New(), Begun: begun}}, s.chain...)
	if n > 0 {
		chain[1] = &pawlv1.Incarnation{Id: s.chain[0].GetId(), Begun: begun}
	}
	return start{journal: s.journal, chain: chain}
}

// reconnects is the same process after a connection.
func (s start) reconnects(last int64) start {
	s.last = last
	return s
}

// executor connects one that reconnects, if it has been here before.
func (p *plane) executor(inflight ...*pawlv1.CallState) *executor {
	p.cluster.t.Helper()
	p.cluster.mu.Lock()
	if p.cluster.usual.journal == "" {
		p.cluster.usual = first("j")
	}
	s := p.cluster.usual.reconnects(p.cluster.db.known().ConnectionEpoch)
	p.cluster.mu.Unlock()
	e := p.connect(s, inflight...)
	e.welcomed()
	return e
}

// connect says Hello and waits for no answer.
func (p *plane) connect(s start, inflight ...*pawlv1.CallState) *executor {
	t := p.cluster.t
	t.Helper()
	conn, err := p.cluster.dial(p.id)
	if err != nil {
		t.Fatal(err)
	}
	e := &executor{t: t, conn: conn, paused: make(chan struct{}, 1)}
	if e.stream, err = pawlv1.NewExecutorServiceClient(conn).Connect(context.Background()); err != nil {
		t.Fatal(err)
	}
	e.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Hello{Hello: &pawlv1.Hello{
		Protocol: Protocol, ExecutorId: "e", BootId: "b", JournalId: s.journal, Incarnations: s.chain, LastConnectionEpoch: s.last,
		Slots: 4, Inflight: inflight,
	}}})
	go func() {
		for {
			m, err := e.stream.Recv()
			e.paused <- struct{}{}
			<-e.paused
			e.mu.Lock()
			e.err = err
			if m.GetPing() == nil && err == nil {
				e.got = append(e.got, m)
			}
			e.mu.Unlock()
			if err != nil {
				return
			}
			if p := m.GetPing(); p != nil && !e.deaf.Load() {
				_ = e.stream.Send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Heartbeat{Heartbeat: &pawlv1.Heartbeat{
					Nonce: p.GetNonce(), LastCallId: p.GetLastCallId(), Begun: e.begun.Load(),
				}}})
			}
		}
	}()
	t.Cleanup(e.close)
	return e
}

// welcomed fails unless the Welcome is what came, and returns the connection's epoch.
func (e *executor) welcomed() int64 {
	e.t.Helper()
	got := e.take()
	if len(got) == 0 || got[0].GetWelcome().GetWindow() != call.Window {
		e.t.Fatalf("no welcome: %v, %v", got, e.ended())
	}
	return got[0].GetWelcome().GetConnectionEpoch()
}

// ended is why its stream has ended, nil while it has not.
func (e *executor) ended() error {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// close cuts the connection.
func (e *executor) close() { _ = e.conn.Close() }

func (e *executor) send(m *pawlv1.ConnectRequest) {
	e.t.Helper()
	if err := e.stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
		e.t.Error(err)
	}
}

// pause keeps it from reading until resume is called.
func (e *executor) pause() (resume func()) {
	e.paused <- struct{}{}
	return func() { <-e.paused }
}

// take is what came since the last time.
func (e *executor) take() []*pawlv1.ConnectResponse {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	got := e.got
	e.got = nil
	return got
}

// execute is the one Execute that came.
func (e *executor) execute() *pawlv1.Execute {
	e.t.Helper()
	got := e.take()
	if len(got) == 0 || got[0].GetExecute() == nil {
		e.t.Fatalf("came %v", got)
	}
	e.mu.Lock()
	e.got = append(got[1:], e.got...)
	e.mu.Unlock()
	return got[0].GetExecute()
}

func (e *executor) accept(id string, size int64) {
	e.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Accepted{Accepted: &pawlv1.Accepted{
		CallId: id,
		Size:   &size,
	}}})
}

func (e *executor) output(id string, off int64, data []byte) {
	e.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Output{Output: &pawlv1.Output{
		CallId: id, Stream: pawlv1.Stream_STREAM_FILE, Offset: off, Data: data,
	}}})
}

func (e *executor) inputAck(id string, upto int64) {
	e.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_InputAck{InputAck: &pawlv1.InputAck{
		CallId: id,
		Upto:   upto,
	}}})
}

func (e *executor) result(id string, r *pawlv1.Result) {
	r.CallId = id
	e.send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Result{Result: r}})
}

func file(size int64) *pawlv1.Result {
	return &pawlv1.Result{Outcome: &pawlv1.Result_File{File: &pawlv1.FileResult{Size: size, Sha256: []byte("sum")}}}
}

func done() *pawlv1.Result {
	return &pawlv1.Result{Outcome: &pawlv1.Result_Done{Done: &pawlv1.DoneResult{}}}
}

func exists() *pawlv1.Result {
	return &pawlv1.Result{Outcome: &pawlv1.Result_Exists{Exists: &pawlv1.ExistsResult{Exists: true}}}
}

func failed(reason string) *pawlv1.Result {
	return &pawlv1.Result{Outcome: &pawlv1.Result_Failure{Failure: &pawlv1.Failure{
		Reason:  reason,
		Message: "it says why",
	}}}
}

// client waits for a verb.
type client struct {
	t      *testing.T
	cancel context.CancelFunc
	took   []byte
	size   int64
	slow   chan struct{} // each value lets Take go once; nil does not hold it
	give   chan *pawlv1.Input
	done   chan struct{}
	res    *pawlv1.Result
	err    error
}

// do asks for a verb. The client's side ends with its context, as a gRPC stream does.
func (p *plane) do(x *pawlv1.Execute, setup ...func(*client)) *client {
	ctx, cancel := context.WithCancel(context.Background())
	c := &client{t: p.cluster.t, cancel: cancel, give: make(chan *pawlv1.Input), done: make(chan struct{}), size: -1}
	for _, f := range setup {
		f(c)
	}
	f := &files.Request{Executor: "e", Verb: x}
	rpcCtx, end := context.WithCancel(ctx) // ends when the handler returns
	switch x.GetVerb().(type) {
	case *pawlv1.Execute_ReadFile:
		f.Opened = func(f files.Facts) error { c.size = *f.Size; return nil }
		f.Take = func(_ pawlv1.Stream, data []byte) error {
			if c.slow != nil {
				select {
				case <-c.slow:
				case <-rpcCtx.Done():
					return rpcCtx.Err()
				}
			}
			c.took = append(c.took, data...)
			return nil
		}
	case *pawlv1.Execute_WriteFile:
		f.Next = func() (*pawlv1.Input, error) {
			select {
			case in := <-c.give:
				return in, nil
			case <-rpcCtx.Done():
				return nil, rpcCtx.Err()
			}
		}
	}
	go func() {
		defer close(c.done)
		defer end()
		c.res, c.err = p.Do(ctx, f)
	}()
	p.cluster.t.Cleanup(cancel)
	return c
}

// end waits for the answer.
func (c *client) end() (*pawlv1.Result, error) {
	<-c.done
	return c.res, c.err
}

// waits reports whether there is no answer yet.
func (c *client) waits() bool {
	synctest.Wait()
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

func readFile() *pawlv1.Execute {
	return &pawlv1.Execute{Cwd: "sub", Verb: &pawlv1.Execute_ReadFile{ReadFile: &pawlv1.ReadFile{Path: "f"}}}
}

func writeFile() *pawlv1.Execute {
	return &pawlv1.Execute{Verb: &pawlv1.Execute_WriteFile{WriteFile: &pawlv1.WriteFile{Path: "f", Chunked: true}}}
}

func existsFile() *pawlv1.Execute {
	return &pawlv1.Execute{Verb: &pawlv1.Execute_Exists{Exists: &pawlv1.Exists{Path: "f"}}}
}

func remove() *pawlv1.Execute {
	return &pawlv1.Execute{Verb: &pawlv1.Execute_Remove{Remove: &pawlv1.Remove{Path: "f"}}}
}

// held is how many bytes wait at a replica: of output for clients, of input for the executor.
func (p *plane) held() (out, in int) {
	synctest.Wait()
	c := p.connection("e")
	if c == nil {
		return 0, 0
	}
	_, out, in = c.files.Held()
	return out, in
}

// open is how many transfers a replica knows.
func (p *plane) open() int {
	synctest.Wait()
	c := p.connection("e")
	if c == nil {
		return 0
	}
	n, _, _ := c.files.Held()
	return n
}
