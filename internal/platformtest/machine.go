package platformtest

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/executor"
	"github.com/pawl-dev/pawl/services/executor/journal"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
	"github.com/pawl-dev/pawl/services/executor/work/worktest"
)

// Machine is a host that executes calls. Its commands (Box) and its disk outlive the daemon, which is the real one.
type Machine struct {
	t  testing.TB
	ID string
	// Box runs the commands; Box.Crash is the death of the keeper.
	Box  *worktest.Box
	Wire *Wire
	Disk *Disk
	// Quota of the journal; 0 is the journal's own.
	Quota int64
	// Slots of the executor; 0 is its own.
	Slots int
	token string

	mu     sync.Mutex // guards what follows
	at     *Platform
	tap    func(Frame) Fate
	frames []Frame
	daemon *daemon
}

// Frame is one that arrives at the executor (Down) or is sent by it.
type Frame struct {
	Down bool
	// Kind is Execute, Result and so on.
	Kind   string
	CallID string
	Epoch  int64
	Reason string // of a Rejected
	At     time.Time
}

// Fate is what becomes of a frame.
type Fate int

// Fates.
const (
	Pass Fate = iota
	Drop
	Twice
)

// Machine makes a host without a running daemon, whose executor has the id. The token comes from p.
func (c *Cluster) Machine(p *Platform, id string) *Machine {
	c.t.Helper()
	made, err := pawlv1.NewTokenServiceClient(p.GRPC).CreateToken(context.Background(), &pawlv1.CreateTokenRequest{
		Principal: &pawlv1.CreateTokenRequest_Executor{Executor: &pawlv1.ExecutorPrincipal{ExecutorId: id}},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return newMachine(&Machine{t: c.t, ID: id, token: made.GetSecret()})
}

func newMachine(m *Machine) *Machine {
	m.Box, m.Wire, m.Disk = worktest.New(), newWire(), &Disk{dir: m.t.TempDir()}
	m.t.Cleanup(func() {
		m.Wire.Mend()
		m.Kill()
		m.Box.Close()
	})
	return m
}

// Clone is another machine with a copy of this one's disk as it is now, the same name and the same token. It runs no
// commands and no daemon.
func (m *Machine) Clone() *Machine {
	m.t.Helper()
	other := newMachine(&Machine{t: m.t, ID: m.ID, Quota: m.Quota, Slots: m.Slots, token: m.token})
	other.Disk.Restore(m.t, m.Disk.Copy(m.t))
	return other
}

// Start runs the daemon, which dials p from then on, after an earlier one is gone. It returns when control has welcomed
// it.
func (m *Machine) Start(p *Platform) {
	m.t.Helper()
	m.Run(p)
	m.Welcomed()
}

// Refused runs the daemon until it ends, and returns why.
func (m *Machine) Refused(p *Platform) error {
	m.t.Helper()
	m.Run(p)
	m.wait()
	return m.current().err
}

// Run is Start, and does not wait for a welcome.
func (m *Machine) Run(p *Platform) {
	m.t.Helper()
	m.wait()
	m.Dial(p)
	ctx, stop := context.WithCancel(context.Background())
	d := &daemon{m: m, stop: stop, done: make(chan struct{}), welcomed: make(chan struct{}, 1)}
	m.mu.Lock()
	m.daemon = d
	m.mu.Unlock()
	go func() {
		defer close(d.done)
		d.err = executor.Run(ctx, executor.Config{
			ID: m.ID, DataDir: m.Disk.dir, Sandbox: mortal{
				m.Box,
				d,
			}, Dial: d.dial, Slots: m.Slots, DrainGrace: time.Millisecond,
			Journal: journal.Config{Fsync: d.fsync, WriteAt: d.writeAt, Quota: m.Quota},
			Connected: func() {
				select {
				case d.welcomed <- struct{}{}:
				default:
				}
			},
		})
	}()
}

// Welcomed returns when control has welcomed the daemon since the last time.
func (m *Machine) Welcomed() {
	m.t.Helper()
	d := m.current()
	select {
	case <-d.welcomed:
	case <-d.done:
		m.t.Fatalf("the executor ended: %v", d.err)
	case <-time.After(time.Hour):
		m.t.Fatal("the executor is not welcomed")
	}
}

// Dial makes p the replica that the daemon dials from now on.
func (m *Machine) Dial(p *Platform) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at = p
}

// Strike kills the daemon where it stands. Its commands run on.
func (m *Machine) Strike() {
	if d := m.current(); d != nil {
		d.die()
	}
}

// Kill is Strike, and waits until nothing of the daemon runs.
func (m *Machine) Kill() {
	m.Strike()
	m.wait()
}

// Crash is a power cut: the daemon and all commands die, and of the disk there is what was synced.
func (m *Machine) Crash() {
	m.Strike()
	m.Box.Crash()
	m.wait()
	m.Disk.revert(m.t)
}

// Stop ends the daemon as SIGTERM does.
func (m *Machine) Stop() {
	m.current().stop()
	m.wait()
}

func (m *Machine) wait() {
	if d := m.current(); d != nil {
		<-d.done
	}
}

func (m *Machine) current() *daemon {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.daemon
}

// Tap sets what decides the fate of every frame. It may hold a frame up, and all behind it.
func (m *Machine) Tap(f func(Frame) Fate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tap = f
}

// Frames is every frame that passed so far.
func (m *Machine) Frames() []Frame {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Frame(nil), m.frames...)
}

// fate asks the tap, and keeps account of what passes. What a dead daemon says does not.
func (d *daemon) fate(f Frame) Fate {
	m := d.m
	f.At = time.Now()
	m.mu.Lock()
	tap := m.tap
	m.mu.Unlock()
	fate := Pass
	if tap != nil {
		fate = tap(f)
	}
	if fate != Drop && !d.isDead() {
		m.mu.Lock()
		m.frames = append(m.frames, f)
		m.mu.Unlock()
	}
	return fate
}

// daemon is one run of the executor.
type daemon struct {
	m        *Machine
	stop     context.CancelFunc
	done     chan struct{}
	welcomed chan struct{}
	err      error // after done

	mu    sync.Mutex // guards what follows
	dead  bool
	conns []net.Conn
}

func (d *daemon) die() {
	d.mu.Lock()
	d.dead = true
	conns := d.conns
	d.conns = nil
	d.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // of a pipe in memory
	}
	d.stop()
}

func (d *daemon) isDead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

func (d *daemon) dial(context.Context) (*grpc.ClientConn, error) {
	m := d.m
	return grpc.NewClient("passthrough:///control", append(rpc.DialOptions(), rpc.Security(nil),
		grpc.WithPerRPCCredentials(rpc.Token{Secret: rpc.Static(m.token), Plaintext: true}),
		grpc.WithStreamInterceptor(d.intercept),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			m.mu.Lock()
			at := m.at
			m.mu.Unlock()
			nc, err := m.Wire.dial(ctx, at.grpc.DialContext)
			if err != nil {
				return nil, err
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.dead {
				return nil, errors.Join(errDead, nc.Close())
			}
			d.conns = append(d.conns, nc)
			return nc, nil
		}))...)
}

func (d *daemon) intercept(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	return &tapped{ClientStream: s, d: d}, err
}

// tapped is the executor's end of Connect.
type tapped struct {
	grpc.ClientStream
	d     *daemon
	again *pawlv1.ConnectResponse // to be received once more
}

func (s *tapped) SendMsg(m any) error {
	fate := s.d.fate(up(m.(*pawlv1.ConnectRequest)))
	if s.d.isDead() {
		return errDead
	}
	switch fate {
	case Drop:
		return nil
	case Twice:
		if err := s.ClientStream.SendMsg(m); err != nil {
			return err
		}
	}
	return s.ClientStream.SendMsg(m)
}

func (s *tapped) RecvMsg(m any) error {
	res := m.(*pawlv1.ConnectResponse)
	if s.again != nil {
		res.Frame, s.again = s.again.Frame, nil
		return nil
	}
	for {
		if err := s.ClientStream.RecvMsg(m); err != nil {
			return err
		}
		fate := s.d.fate(down(res))
		switch {
		case s.d.isDead():
			return errDead
		case fate == Drop:
			res.Reset()
			continue
		case fate == Twice:
			s.again = &pawlv1.ConnectResponse{Frame: res.GetFrame()}
		}
		return nil
	}
}

func up(m *pawlv1.ConnectRequest) Frame {
	switch f := m.GetFrame().(type) {
	case *pawlv1.ConnectRequest_Hello:
		return Frame{Kind: "Hello"}
	case *pawlv1.ConnectRequest_Accepted:
		return Frame{Kind: "Accepted", CallID: f.Accepted.GetCallId(), Epoch: f.Accepted.GetEpoch()}
	case *pawlv1.ConnectRequest_Rejected:
		return Frame{
			Kind: "Rejected", CallID: f.Rejected.GetCallId(), Epoch: f.Rejected.GetEpoch(),
			Reason: f.Rejected.GetReason().String()[len("REASON_"):],
		}
	case *pawlv1.ConnectRequest_Output:
		return Frame{Kind: "Output", CallID: f.Output.GetCallId()}
	case *pawlv1.ConnectRequest_Result:
		return Frame{Kind: "Result", CallID: f.Result.GetCallId(), Epoch: f.Result.GetEpoch()}
	case *pawlv1.ConnectRequest_Status:
		return Frame{
			Kind: "Status", CallID: f.Status.GetCall().GetCallId(), Epoch: f.Status.GetCall().GetEpoch(),
			Reason: f.Status.GetCall().GetState().String()[len("STATE_"):],
		}
	case *pawlv1.ConnectRequest_Heartbeat:
		return Frame{Kind: "Heartbeat"}
	}
	return Frame{Kind: "Draining"}
}

func down(m *pawlv1.ConnectResponse) Frame {
	switch f := m.GetFrame().(type) {
	case *pawlv1.ConnectResponse_Welcome:
		return Frame{Down: true, Kind: "Welcome"}
	case *pawlv1.ConnectResponse_Execute:
		return Frame{Down: true, Kind: "Execute", CallID: f.Execute.GetCallId(), Epoch: f.Execute.GetEpoch()}
	case *pawlv1.ConnectResponse_Attach:
		return Frame{Down: true, Kind: "Attach", CallID: f.Attach.GetCallId(), Epoch: f.Attach.GetEpoch()}
	case *pawlv1.ConnectResponse_Cancel:
		return Frame{Down: true, Kind: "Cancel", CallID: f.Cancel.GetCallId(), Epoch: f.Cancel.GetEpoch()}
	case *pawlv1.ConnectResponse_ResultAck:
		return Frame{Down: true, Kind: "ResultAck", CallID: f.ResultAck.GetCallId()}
	case *pawlv1.ConnectResponse_OutputAck:
		return Frame{Down: true, Kind: "OutputAck", CallID: f.OutputAck.GetCallId()}
	case *pawlv1.ConnectResponse_Input:
		return Frame{Down: true, Kind: "Input", CallID: f.Input.GetCallId()}
	}
	return Frame{Down: true, Kind: "Ping"}
}

// Disk holds a machine's journal.
type Disk struct {
	dir string

	mu     sync.Mutex // guards what follows
	full   bool
	onSync func() error
	synced []byte // the journal as it was at the last sync
}

// Fill leaves no space on the disk, or makes room again.
func (d *Disk) Fill(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

// OnSync is called before every sync; an error is what the sync comes to.
func (d *Disk) OnSync(f func() error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onSync = f
}

// Copy is the content of the disk as it is now.
func (d *Disk) Copy(t testing.TB) []byte {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	b, err := os.ReadFile(filepath.Join(d.dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Restore sets the disk back to a copy, of itself or of another one. No daemon may run on it.
func (d *Disk) Restore(t testing.TB, content []byte) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.synced = content
	if err := os.WriteFile(filepath.Join(d.dir, "journal"), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Lose replaces the disk by an empty one.
func (d *Disk) Lose(t testing.TB) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dir, d.synced = t.TempDir(), nil
}

// revert drops what was not synced.
func (d *Disk) revert(t testing.TB) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := os.WriteFile(filepath.Join(d.dir, "journal"), d.synced, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (d *daemon) fsync(f *os.File) error {
	disk := d.m.Disk
	disk.mu.Lock()
	onSync := disk.onSync
	disk.mu.Unlock()
	if onSync != nil {
		if err := onSync(); err != nil {
			return err
		}
	}
	if d.isDead() {
		return errDead
	}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return err
	}
	b := make([]byte, info.Size())
	_, err = f.ReadAt(b, 0)
	disk.mu.Lock()
	defer disk.mu.Unlock()
	disk.synced = b
	return err
}

func (d *daemon) writeAt(f *os.File, b []byte, off int64) (int, error) {
	if d.isDead() {
		return 0, errDead
	}
	d.m.Disk.mu.Lock()
	full := d.m.Disk.full
	d.m.Disk.mu.Unlock()
	if full {
		return 0, syscall.ENOSPC
	}
	return f.WriteAt(b, off)
}

// mortal is the box as a daemon sees it: what a dead one still does has no effect.
type mortal struct {
	*worktest.Box
	d *daemon
}

func (b mortal) Start(ctx context.Context, id string, cmd sandbox.Command) (sandbox.Exec, error) {
	if b.d.isDead() {
		return nil, errDead
	}
	return b.Box.Start(ctx, id, cmd)
}

func (b mortal) Forget(ctx context.Context, id string) error {
	if b.d.isDead() {
		return errDead
	}
	return b.Box.Forget(ctx, id)
}

func (b mortal) Remove(ctx context.Context, name string, recursive, force bool) error {
	if b.d.isDead() {
		return errDead
	}
	return b.Box.Remove(ctx, name, recursive, force)
}

func (b mortal) Create(ctx context.Context, name string) (sandbox.FileWriter, error) {
	w, err := b.Box.Create(ctx, name)
	if err != nil {
		return nil, err
	}
	return mortalWriter{w, b.d}, nil
}

type mortalWriter struct {
	sandbox.FileWriter
	d *daemon
}

func (w mortalWriter) Commit() error {
	if w.d.isDead() {
		return errDead
	}
	return w.FileWriter.Commit()
}
