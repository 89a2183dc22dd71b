package link

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	peerv1 "github.com/pawl-dev/pawl/gen/pawl/peer/v1"
	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/replica"
)

const (
	peerTimeout = 3 * time.Second
	// relayLimit bounds what waits to be told to other replicas. What does not fit is left to the owner, who attaches again.
	relayLimit = 256
)

// Owners finds the replica that owns a session.
type Owners interface {
	OwnerOf(ctx context.Context, sessionID string) (replica.Replica, bool, error)
}

// Peers talks to the other replicas. Everything that it says is a hint: when it fails the rows tell.
type Peers struct {
	owners Owners
	self   func() string
	dial   func(addr string) (*grpc.ClientConn, error)
	log    *slog.Logger
	relay  chan relayed

	mu    sync.Mutex // guards conns
	conns map[string]*grpc.ClientConn
}

type relayed struct {
	executor, session string
	frame             *pawlv1.ConnectRequest
}

// NewPeers makes Peers. dial connects to a replica's address with the replicas' shared credentials; self is the id of the
// present incarnation.
func NewPeers(owners Owners, self func() string, dial func(addr string) (*grpc.ClientConn, error), log *slog.Logger) *Peers {
	return &Peers{owners: owners, self: self, dial: dial, log: log, relay: make(chan relayed, relayLimit), conns: map[string]*grpc.ClientConn{}}
}

// Run relays frames of executors to the owners of their sessions, in order, until ctx ends.
func (p *Peers) Run(ctx context.Context) error {
	defer p.close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-p.relay:
			if err := p.tell(ctx, r); err != nil && ctx.Err() == nil {
				p.log.Debug("relaying to the owner of a session failed", "session_id", r.session, "error", err)
			}
		}
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

// deliver queues a frame for the owner of its session and returns at once.
func (p *Peers) deliver(executor, session string, frame *pawlv1.ConnectRequest) {
	select {
	case p.relay <- relayed{executor, session, frame}:
	default:
	}
}

func (p *Peers) tell(ctx context.Context, r relayed) error {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	owner, ok, err := p.owners.OwnerOf(ctx, r.session)
	if err != nil || !ok || owner.ID == p.self() || owner.Addr == "" {
		return err
	}
	client, err := p.client(owner.Addr)
	if err != nil {
		return err
	}
	_, err = client.Deliver(ctx, &peerv1.DeliverRequest{ExecutorId: r.executor, SessionId: r.session, Frame: r.frame})
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

// Deliver implements PeerService.
func (p *PeerServer) Deliver(ctx context.Context, req *peerv1.DeliverRequest) (*peerv1.DeliverResponse, error) {
	e, err := p.server.deps.Fleet.GetExecutor(ctx, req.GetExecutorId())
	if err != nil {
		return nil, err
	}
	rep, ok := report(e, req.GetFrame())
	rep.SessionID = req.GetSessionId()
	if !ok || !p.server.deps.Owner.Deliver(rep) {
		return nil, ErrNotHere
	}
	return &peerv1.DeliverResponse{}, nil
}
