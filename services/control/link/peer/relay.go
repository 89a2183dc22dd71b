package peer

import (
	"context"
	"sync"
	"time"

	peerv1 "github.com/pawl-dev/pawl/gen/pawl/peer/v1"
	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/contain"
)

// owner is where a lane was found.
type owner struct {
	addr  string        // "" when there is nobody to tell
	until time.Duration // on the Client's clock
}

// relayed is a frame of an executor for the owner of a lane.
type relayed struct {
	executor, lane string
	frame          *pawlv1.ConnectRequest
}

// Deliver queues a frame for the owner of its lane and returns at once. A frame that gets lost is asked for again.
func (c *Client) Deliver(executor, lane string, frame *pawlv1.ConnectRequest) {
	select {
	case c.relay <- relayed{executor, lane, frame}:
	default:
	}
}

// Run relays frames of executors to the owners of their lanes until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	defer c.close()
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
		case r := <-c.relay:
			addr := ""
			contain.Run(c.log, "finding the owner of a lane", func() { addr = c.ownerOf(ctx, r.lane) })
			if addr == "" {
				continue
			}
			if relays[addr] == nil {
				queue := make(chan relayed, relayLimit)
				relays[addr] = queue
				group.Go(func() { c.serve(ctx, addr, queue, idle) })
			}
			select {
			case relays[addr] <- r:
			default:
			}
		}
	}
}

// serve relays to one replica until its queue is closed, which it asks for when nothing comes, or ctx ends.
func (c *Client) serve(ctx context.Context, addr string, queue <-chan relayed, idle chan<- string) {
	timer := time.NewTimer(relayIdle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case r, open := <-queue:
			if !open {
				return
			}
			if err := contain.Do(func() error { return c.tell(ctx, addr, r) }); err != nil && ctx.Err() == nil {
				c.forget(r.lane)
				c.log.Debug("relaying to the owner of a lane failed", "lane_id", r.lane, "addr", addr, "error", err)
			}
		case <-timer.C:
			select {
			case idle <- addr:
			case <-ctx.Done():
				return
			}
		}
		timer.Reset(relayIdle)
	}
}

// ownerOf is the address of the replica that owns a lane, "" when there is none to tell.
func (c *Client) ownerOf(ctx context.Context, lane string) string {
	now := c.clock()
	c.mu.Lock()
	known, ok := c.found[lane]
	c.mu.Unlock()
	if ok && now < known.until {
		return known.addr
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	r, ok, err := c.owners.OwnerOf(ctx, lane)
	if err != nil {
		if ctx.Err() == nil {
			c.log.Debug("finding the owner of a lane failed", "lane_id", lane, "error", err)
		}
		return ""
	}
	addr := ""
	if ok && r.ID != c.self() {
		addr = r.Addr
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.found) >= ownersKept {
		clear(c.found)
	}
	keep := nobodyFor
	if addr != "" {
		keep = ownerFor // it says when it is not the owner any more
	}
	c.found[lane] = owner{addr, now + keep}
	return addr
}

// forget drops an owner that did not take what it was told.
func (c *Client) forget(lane string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.found, lane)
}

func (c *Client) tell(ctx context.Context, addr string, r relayed) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	client, err := c.client(addr)
	if err != nil {
		return err
	}
	_, err = client.Deliver(ctx, &peerv1.DeliverRequest{ExecutorId: r.executor, LaneId: r.lane, Frame: r.frame})
	return err
}
