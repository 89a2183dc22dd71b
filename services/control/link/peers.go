package link

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	peerv1 "github.com/pawl-dev/pawl/gen/pawl/peer/v1"
	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/replica"
)

const (
	peerTimeout = 3 * time.Second
	// relayLimit bounds what waits for an owner to be found, and what waits for one replica. What does not fit is left
	// to the owner, who attaches again.
	relayLimit = 256
	// peerIdle is how long a replica's relay lives with nothing to do, ownerFor how long an owner that was found is
	// believed in.
	peerIdle = time.Minute
	ownerFor = time.Second
	// ownersKept bounds how many owners are remembered.
	ownersKept = 4096
)

// Owners finds the replica that owns a lane.
type Owners interface {
	OwnerOf(ctx context.Context, laneID string) (replica.Replica, bool, error)
}

// Peers talks to the other replicas. Everything that it says is a hint: when it fails the rows tell.
//
//	deliver ──▶ Run: who owns the lane? ──▶ a queue and a goroutine per replica ──▶ Deliver
//
// Frames of one lane keep their order. A replica that does not answer delays nobody but itself.
type Peers struct {
	owners Owners
	self   func() string
	dial   func(addr string) (*grpc.ClientConn, error)
	log    *slog.Logger
	relay  chan relayed

	mu    sync.Mutex // guards what follows
	conns map[string]*grpc.ClientConn
	found map[string]owner
}

// owner is where a lane was found.
type owner struct {
	addr  string // "" when there is nobody to tell
	until time.Time
}

type relayed struct {
	executor, lane string
	frame          *pawlv1.ConnectRequest
}

// NewPeers makes Peers. dial connects to a replica's address with the replicas' shared credentials; self is the id of
// the present incarnation.
func NewPeers(
	owners Owners, self func() string, dial func(addr string) (*grpc.ClientConn, error), log *slog.Logger,
) *Peers {
	return &Peers{
		owners: owners, self: self, dial: dial, log: log, relay: make(chan relayed, relayLimit),
		conns: map[string]*grpc.ClientConn{}, found: map[string]owner{},
	}
}

// Run relays frames of executors to the owners of their lanes until ctx ends.
func (p *Peers) Run(ctx context.Context) error {
	defer p.close()
	var group sync.WaitGroup
	defer group.Wait()
	relays := map[string]chan relayed{}
	idle := make(chan string)
	for {
		select {
		case <-ctx.Done():
			return nil
		case addr := <-idle:
			// Only here are frames put into a queue, so one that is empty now ends for good.
			if len(relays[addr]) == 0 {
				close(relays[addr])
				delete(relays, addr)
			}
		case r := <-p.relay:
			addr := ""
			contain.Run(p.log, "finding the owner of a lane", func() { addr = p.ownerOf(ctx, r.lane) })
			if addr == "" {
				continue
			}
			if relays[addr] == nil {
				queue := make(chan relayed, relayLimit)
				relays[addr] = queue
				group.Go(func() { p.serve(ctx, addr, queue, idle) })
			}
			select {
			case relays[addr] <- r:
			default:
			}
		}
	}
}

// serve relays to one replica until its queue is closed, which it asks for when nothing comes, or ctx ends.
func (p *Peers) serve(ctx context.Context, addr string, queue <-chan relayed, idle chan<- string) {
	timer := time.NewTimer(peerIdle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case r, open := <-queue:
			if !open {
				return
			}
			if err := contain.Do(func() error { return p.tell(ctx, addr, r) }); err != nil && ctx.Err() == nil {
				p.forget(r.lane)
				p.log.Debug("relaying to the owner of a lane failed", "lane_id", r.lane, "addr", addr,
					"error", err)
			}
		case <-timer.C:
			select {
			case idle <- addr:
			case <-ctx.Done():
				return
			}
		}
		timer.Reset(peerIdle)
	}
}

func (p *Peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for addr, c := range p.conns {
		if err := c.Close(); err != nil {
			p.log.Debug("closing a connection to a replica failed", "addr", addr, "error", err)
		}
	}
	p.conns = map[string]*grpc.ClientConn{}
}

// deliver queues a frame for the owner of its lane and returns at once.
func (p *Peers) deliver(executor, lane string, frame *pawlv1.ConnectRequest) {
	select {
	case p.relay <- relayed{executor, lane, frame}:
	default:
	}
}

// ownerOf is the address of the replica that owns a lane, "" when there is none to tell.
func (p *Peers) ownerOf(ctx context.Context, lane string) string {
	now := time.Now()
	p.mu.Lock()
	known, ok := p.found[lane]
	p.mu.Unlock()
	if ok && now.Before(known.until) {
		return known.addr
	}
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	r, ok, err := p.owners.OwnerOf(ctx, lane)
	if err != nil {
		if ctx.Err() == nil {
			p.log.Debug("finding the owner of a lane failed", "lane_id", lane, "error", err)
		}
		return ""
	}
	addr := ""
	if ok && r.ID != p.self() {
		addr = r.Addr
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.found) >= ownersKept {
		clear(p.found)
	}
	p.found[lane] = owner{addr, now.Add(ownerFor)}
	return addr
}

// forget drops an owner that did not take what it was told.
func (p *Peers) forget(lane string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.found, lane)
}

func (p *Peers) tell(ctx context.Context, addr string, r relayed) error {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	client, err := p.client(addr)
	if err != nil {
		return err
	}
	_, err = client.Deliver(ctx, &peerv1.DeliverRequest{ExecutorId: r.executor, LaneId: r.lane, Frame: r.frame})
	return err
}

func (p *Peers) forward(ctx context.Context, addr, executor string, frame *pawlv1.ConnectResponse) error {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	client, err := p.client(addr)
	if err != nil {
		return err
	}
	_, err = client.Forward(ctx, &peerv1.ForwardRequest{ExecutorId: executor, Frame: frame})
	return err
}

// probe asks the replica that an executor was last connected to for a sign of life of it. A replica that cannot be
// asked has none.
func (p *Peers) probe(ctx context.Context, last fleet.Executor) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit+peerTimeout)
	defer cancel()
	client, err := p.client(last.ReplicaAddr)
	if err != nil {
		return false, err
	}
	_, err = client.Probe(ctx, &peerv1.ProbeRequest{ExecutorId: last.ID, ConnectionEpoch: last.ConnectionEpoch})
	if answer := rpc.FromStatus(err); errors.Is(answer, ErrContended) {
		return false, answer
	}
	return err == nil, nil
}

func (p *Peers) client(addr string) (peerv1.PeerServiceClient, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.conns[addr]; ok {
		return peerv1.NewPeerServiceClient(c), nil
	}
	c, err := p.dial(addr)
	if err != nil {
		return nil, err
	}
	p.conns[addr] = c
	return peerv1.NewPeerServiceClient(c), nil
}

// PeerServer serves the other replicas.
type PeerServer struct {
	peerv1.UnimplementedPeerServiceServer
	server *Server
}

// NewPeerServer makes a PeerServer.
func NewPeerServer(s *Server) *PeerServer { return &PeerServer{server: s} }

// Forward implements PeerService.
func (p *PeerServer) Forward(_ context.Context, req *peerv1.ForwardRequest) (*peerv1.ForwardResponse, error) {
	if !p.server.here(req.GetExecutorId(), req.GetFrame()) {
		return nil, ErrNotHere
	}
	return &peerv1.ForwardResponse{}, nil
}

// Probe implements PeerService.
func (p *PeerServer) Probe(ctx context.Context, req *peerv1.ProbeRequest) (*peerv1.ProbeResponse, error) {
	c := p.server.connection(req.GetExecutorId())
	if c == nil || c.executor.ConnectionEpoch != req.GetConnectionEpoch() {
		return nil, ErrNotHere
	}
	answers, err := c.answers(ctx)
	if err == nil && !answers {
		err = ErrNotHere
	}
	if err != nil {
		return nil, err
	}
	return &peerv1.ProbeResponse{}, nil
}

// Deliver implements PeerService.
func (p *PeerServer) Deliver(ctx context.Context, req *peerv1.DeliverRequest) (*peerv1.DeliverResponse, error) {
	e, err := p.server.deps.Fleet.GetExecutor(ctx, req.GetExecutorId())
	if err != nil {
		return nil, err
	}
	rep, ok := report(e, req.GetFrame())
	rep.LaneID = req.GetLaneId()
	if !ok || !p.server.deps.Owner.Deliver(rep) {
		return nil, ErrNotHere
	}
	return &peerv1.DeliverResponse{}, nil
}
