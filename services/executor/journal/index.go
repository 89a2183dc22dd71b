package journal

import "time"

// index is what the records say, all together.
type index struct {
	id       string
	sessions map[string]fence
	calls    map[string]*Call
	// revoked holds the highest dispatch of a call that must never run, and since when.
	revoked map[string]revocation
	live    int64 // bytes of a compacted file, about
}

// fence is a session's.
type fence struct {
	epoch int64
	at    time.Time // last raised or used
}

type revocation struct {
	dispatch uint32
	at       time.Time
}

const smallWeight = 80 // of a session or a revocation

func newIndex() index {
	return index{sessions: map[string]fence{}, calls: map[string]*Call{}, revoked: map[string]revocation{}}
}

// apply takes one record in. base is where its payload starts in the file.
func (x *index) apply(payload []byte, base int64) error {
	d := &decoder{b: payload[1:], off: 1}
	switch kind(payload[0]) {
	case recIdentity:
		x.id = d.str()
	case recEpoch:
		x.raise(d.str(), d.int(), d.time())
	case recBegin:
		b, at, boot := d.begin()
		x.put(&Call{Begin: b, At: at, Boot: boot})
		x.raise(b.SessionID, b.Epoch, at)
	case recEnd:
		id, state, at := d.str(), State(d.int()), d.time()
		outcome := d.bytes()
		x.end(id, state, at, base+int64(d.off-len(outcome)), len(outcome))
	case recRevoke:
		x.revoke(d.str(), uint32(d.int()), d.time())
	case recAck:
		x.ack(d.str(), d.time())
	case recForgot:
		if c := x.calls[d.str()]; c != nil {
			c.Forgot = true
		}
	case recCall:
		c := &Call{}
		c.Begin, c.At, c.Boot = d.begin()
		c.State, c.Ended, c.Acked, c.Forgot = State(d.int()), d.time(), d.time(), d.flag()
		outcome := d.bytes()
		c.off, c.size = base+int64(d.off-len(outcome)), len(outcome)
		x.put(c)
	default:
		// A later version's record. Its rules are unknown here, so it must not be stepped over in silence.
		return errRecord
	}
	return d.err
}

func (x *index) raise(session string, epoch int64, at time.Time) {
	f, known := x.sessions[session]
	if !known {
		x.live += smallWeight + int64(len(session))
	}
	x.sessions[session] = fence{epoch: max(f.epoch, epoch), at: at}
}

func (x *index) revoke(id string, dispatch uint32, at time.Time) {
	r, known := x.revoked[id]
	if !known {
		x.live += smallWeight + int64(len(id))
	}
	x.revoked[id] = revocation{dispatch: max(r.dispatch, dispatch), at: at}
}

func (x *index) put(c *Call) {
	x.drop(c.CallID)
	x.calls[c.CallID] = c
	x.live += c.weight()
}

func (x *index) drop(id string) {
	if c := x.calls[id]; c != nil {
		x.live -= c.weight()
		delete(x.calls, id)
	}
}

func (x *index) end(id string, state State, at time.Time, off int64, size int) {
	c := x.calls[id]
	if c == nil || c.State != Begun {
		return // the first end wins
	}
	x.live -= c.weight()
	c.State, c.Ended, c.off, c.size = state, at, off, size
	x.live += c.weight()
}

// ack leaves a tombstone.
func (x *index) ack(id string, at time.Time) {
	c := x.calls[id]
	if c == nil || c.State == Begun || c.State == Tombstone {
		return
	}
	x.live -= c.weight()
	c.State, c.Acked, c.off, c.size = Tombstone, at, 0, 0
	x.live += c.weight()
}
