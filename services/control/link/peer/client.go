// Package peer connects the replicas of one control plane, for the sake of executors that are connected to one and of
// lanes that are owned by another.
//
//	this replica                                                              the replica that is asked
//	Client.Deliver ──▶ Run: who owns the lane? ──▶ queue per replica ──Deliver──▶ Local.DeliverHere: the owner
//	Client.Forward ──────────────────────────────────────────────────Forward──▶ Local.SendHere: the executor
//	Client.Probe ──────────────────────────────────────────────────────Probe──▶ Local.ProbeHere: a Ping
//	Client.Do ──────────────────────────────────────────────────────Transfer──▶ Local.DoHere: a verb on files
//
// Everything but Do is a hint: when it fails the rows tell. Frames of one lane keep their order. A replica that does
// not answer delays nobody but itself.
package peer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	peerv1 "github.com/pawl-dev/pawl/gen/pawl/peer/v1"
	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/mono"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/replica"
)

const (
	// Timeout is how long a replica may take to answer, and to be found.
	Timeout = 3 * time.Second
	// ProbeLimit is how long an executor may take to show that it is there while another one wants its place.
	ProbeLimit = 3 * time.Second
	// relayLimit bounds the frames that wait for an owner to be found, and those that wait for one replica. What does
	// not fit is dropped: the owner attaches again.
	relayLimit = 256
	// relayIdle is how long the relay to a replica lives with nothing to do.
	relayIdle = time.Minute
	// ownerFor is how long an owner that was found is believed in, nobodyFor that there is none to tell.
	ownerFor  = 5 * time.Second
	nobodyFor = time.Second
	// ownersKept bounds how many owners are remembered.
	ownersKept = 4096
)

// ErrNotHere says that the executor, or the owner of the lane, is at another replica or nowhere.
var ErrNotHere = errs.New(errs.NotFound, "NOT_HERE", "the executor is not connected here")

// used is a connection to a replica, and when it was last asked for.
type used struct {
	*grpc.ClientConn
	at time.Duration
}

// Owners finds the replica that owns a lane.
type Owners interface {
	OwnerOf(ctx context.Context, laneID string) (replica.Replica, bool, error)
}

// Client talks to the other replicas. All methods may be called concurrently.
type Client struct {
	owners Owners
	self   func() string
	dial   func(addr string) (*grpc.ClientConn, error)
	clock  mono.Clock
	log    *slog.Logger
	relay  chan relayed

	mu    sync.Mutex // guards what follows
	conns map[string]*used
	found map[string]owner
}

// NewClient makes a Client. dial connects to a replica's address with the replicas' shared credentials; self is the id
// of the present incarnation.
func NewClient(
	owners Owners, self func() string, dial func(addr string) (*grpc.ClientConn, error), log *slog.Logger,
) *Client {
	return &Client{
		owners: owners, self: self, dial: dial, clock: mono.New(), log: log, relay: make(chan relayed, relayLimit),
		conns: map[string]*used{}, found: map[string]owner{},
	}
}

// Forward hands a frame to an executor that is connected to the replica at addr, or says ErrNotHere.
func (c *Client) Forward(ctx context.Context, addr, executor string, frame *pawlv1.ConnectResponse) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	client, err := c.client(addr)
	if err != nil {
		return err
	}
	_, err = client.Forward(ctx, &peerv1.ForwardRequest{ExecutorId: executor, Frame: frame})
	return err
}

// Wait tells the replica at addr that calls of a lane wait for slots of an executor that is connected there, or says
// ErrNotHere.
func (c *Client) Wait(ctx context.Context, addr string, w call.Queued) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	client, err := c.client(addr)
	if err != nil {
		return err
	}
	_, err = client.Wait(ctx, &peerv1.WaitRequest{
		ExecutorId: w.Executor, Tenant: w.Tenant, LaneId: w.LaneID, CallIds: w.CallIDs,
	})
	return err
}

// Probe asks the replica that an executor was last connected to for a sign of life of it. A replica that cannot be
// asked has none. fleet.ErrContended when none can be received now.
func (c *Client) Probe(ctx context.Context, last fleet.Executor) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, ProbeLimit+Timeout)
	defer cancel()
	client, err := c.client(last.ReplicaAddr)
	if err != nil {
		return false, err
	}
	_, err = client.Probe(ctx, &peerv1.ProbeRequest{ExecutorId: last.ID, ConnectionEpoch: last.ConnectionEpoch})
	if answer := rpc.FromStatus(err); errors.Is(answer, fleet.ErrContended) {
		return false, answer
	}
	return err == nil, nil
}

func (c *Client) client(addr string) (peerv1.PeerServiceClient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn, ok := c.conns[addr]; ok {
		conn.at = c.clock()
		return peerv1.NewPeerServiceClient(conn), nil
	}
	c.closeIdle()
	conn, err := c.dial(addr)
	if err != nil {
		return nil, err
	}
	c.conns[addr] = &used{conn, c.clock()}
	return peerv1.NewPeerServiceClient(conn), nil
}

// closeIdle closes connections that gRPC has put to sleep for lack of use: those to replicas that are gone, and whose
// addresses do not come back. The caller holds mu.
func (c *Client) closeIdle() {
	for addr, conn := range c.conns {
		if c.clock.Since(conn.at) > relayIdle && conn.GetState() == connectivity.Idle {
			c.closeOne(addr, conn)
		}
	}
}

func (c *Client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for addr, conn := range c.conns {
		c.closeOne(addr, conn)
	}
}

func (c *Client) closeOne(addr string, conn *used) {
	if err := conn.Close(); err != nil {
		c.log.Debug("closing a connection to a replica failed", "addr", addr, "error", err)
	}
	delete(c.conns, addr)
}
