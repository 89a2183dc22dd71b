package platformtest

import (
	"context"
	"errors"
	"net"
	"sync"
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

// Machine makes a host without a running daemon, whose executor has the id. The token comes from p.
func (c *Cluster) Machine(p *Platform, id string) *Machine {
	c.t.Helper()
	return c.machine(p, &pawlv1.ExecutorPrincipal{ExecutorId: id})
}

// SharedMachine is Machine of an executor that serves all tenants.
func (c *Cluster) SharedMachine(p *Platform, id string) *Machine {
	c.t.Helper()
	return c.machine(p, &pawlv1.ExecutorPrincipal{ExecutorId: id, Shared: true})
}

func (c *Cluster) machine(p *Platform, as *pawlv1.ExecutorPrincipal) *Machine {
	c.t.Helper()
	made, err := pawlv1.NewTokenServiceClient(p.GRPC).CreateToken(context.Background(), &pawlv1.CreateTokenRequest{
		Principal: &pawlv1.CreateTokenRequest_Executor{Executor: as},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return newMachine(&Machine{t: c.t, ID: as.GetExecutorId(), token: made.GetSecret()})
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
