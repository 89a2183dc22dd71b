package link

import (
	"context"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/mono"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/link/peer"
)

const (
	ttl       = 15 * time.Second
	pingEvery = 5 * time.Second
)

// pulse is what is known of an executor's life: the answers to Pings. An executor that sends and does not listen is of
// no use.
type pulse struct {
	clock mono.Clock

	mu       sync.Mutex    // guards what follows
	heard    time.Duration // when the last answer came, less the time that frames took here since
	handling bool          // a frame is being handled: that time is ours, and no silence of the executor's
	nonce    uint64        // the latest that was answered
	next     chan struct{} // closed by the next answer
}

func newPulse(clock mono.Clock) *pulse {
	return &pulse{clock: clock, heard: clock(), next: make(chan struct{})}
}

// answered notes an answer to the Ping with a nonce.
func (p *pulse) answered(nonce uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = p.clock()
	p.nonce = max(p.nonce, nonce)
	close(p.next)
	p.next = make(chan struct{})
}

// handle calls f, which handles a frame.
func (p *pulse) handle(f func() error) error {
	began := p.clock()
	p.busy(true, 0)
	err := f()
	p.busy(false, p.clock.Since(began))
	return err
}

func (p *pulse) busy(now bool, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handling, p.heard = now, p.heard+took
}

// silent reports whether no answer came for a whole ttl.
func (p *pulse) silent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.handling && p.clock.Since(p.heard) > ttl
}

func (p *pulse) isHandling() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.handling
}

// look is the latest nonce that was answered, and a channel that the next answer closes.
func (p *pulse) look() (uint64, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nonce, p.next
}

// answers asks for a sign of life: what was sent before the question is none. ErrContended when none can be received
// now, because this replica is busy with a frame.
func (c *connection) answers(ctx context.Context) (bool, error) {
	nonce := c.out.ping()
	limit := time.NewTimer(peer.ProbeLimit)
	defer limit.Stop()
	for {
		answered, next := c.pulse.look()
		if answered >= nonce {
			return !c.isOver(), nil
		}
		select {
		case <-next:
		case <-c.ctx.Done():
			return false, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-limit.C:
			if c.pulse.isHandling() {
				return false, fleet.ErrContended
			}
			return false, nil
		}
	}
}
