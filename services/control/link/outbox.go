package link

import (
	"sync"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/await"
)

// queueLimit bounds the frames that wait to be sent. An executor that reads nothing is left after a ttl at the latest.
const queueLimit = 1 << 14

// outbox is what waits to be sent over a connection, in order. No method blocks.
type outbox struct {
	overflow func()       // more waits than may
	ready    await.Signal // holds a value when there is something to send

	mu       sync.Mutex // guards what follows
	closed   bool
	queue    []*pawlv1.ConnectResponse
	lastCall string // of the last Execute that was put into the queue
	nonce    uint64
	pings    []ping // that were not answered, oldest first
}

// ping is a Ping, and the last call before it.
type ping struct {
	nonce    uint64
	lastCall string
}

func newOutbox(overflow func()) *outbox {
	return &outbox{overflow: overflow, ready: await.NewSignal()}
}

// put queues a frame; false when the outbox is closed, or is now because too much waits.
func (o *outbox) put(f *pawlv1.ConnectResponse) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.putLocked(f)
}

func (o *outbox) putLocked(f *pawlv1.ConnectResponse) bool {
	switch {
	case o.closed:
		return false
	case len(o.queue) >= queueLimit:
		o.closed = true
		o.overflow()
		return false
	}
	if x := f.GetExecute(); x != nil {
		o.lastCall = x.GetCallId()
	}
	o.queue = append(o.queue, f)
	o.ready.Set()
	return true
}

// ping asks for a Heartbeat that names the last call before the Ping: nothing gets between the two. It returns the
// nonce that the Heartbeat will have.
func (o *outbox) ping() (nonce uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.nonce++
	o.pings = append(o.pings, ping{o.nonce, o.lastCall})
	o.putLocked(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Ping{Ping: &pawlv1.Ping{
		Nonce: o.nonce, LastCallId: o.lastCall,
	}}})
	return o.nonce
}

// answered is the last call before a Ping that is answered now; false when none with the nonce waits for an answer.
// Earlier ones are answered with it, because frames keep their order.
func (o *outbox) answered(nonce uint64) (lastCall string, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, p := range o.pings {
		if p.nonce == nonce {
			o.pings = append([]ping(nil), o.pings[i+1:]...)
			return p.lastCall, true
		}
	}
	return "", false
}

// take empties the queue.
func (o *outbox) take() []*pawlv1.ConnectResponse {
	o.mu.Lock()
	defer o.mu.Unlock()
	batch := o.queue
	o.queue = nil
	return batch
}

func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed, o.queue = true, nil
}
