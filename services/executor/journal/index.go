package journal

import (
	"cmp"
	"slices"
	"time"
)

// index is what the records say, all together.
type index struct {
	id    string
	place string        // of the file that this was written for
	age   time.Duration // newest of the records
	lanes map[string]*fence
	calls map[string]*entry
	// revoked holds the highest dispatch of a call that must never run.
	revoked map[string]*revocation
	live    int64 // bytes of a compacted file, about

	// Everything that may be forgotten is in one of two queues, what was used longest ago first. So a sweep costs what
	// it forgets.
	ended queue // outcomes that nobody acknowledged
	aged  queue // tombstones, revocations, and fences of lanes that hold no call

	begun        int64   // calls that were ever begun
	incarnations []start // oldest first, at most maxIncarnations
}

// fence is a lane's.
type fence struct {
	mark
	epoch int64
	used  time.Duration // by an owner; at in mark is not before it, nor before the last tombstone of the lane
	noted time.Duration // the newest use that the file tells of
	held  int           // calls of the lane that are not tombstones; the fence is in no queue while there are any
}

type revocation struct {
	mark
	dispatch uint32
}

// entry is a call with its place in a queue.
type entry struct {
	mark
	Call
}

const smallWeight = 80 // of a lane or a revocation

func newIndex() index {
	return index{lanes: map[string]*fence{}, calls: map[string]*entry{}, revoked: map[string]*revocation{}}
}

// apply takes one record in. base is where its payload starts in the file.
func (x *index) apply(payload []byte, base int64) error {
	d := &decoder{b: payload[1:], off: 1}
	switch kind(payload[0]) {
	case recIdentity:
		x.id, x.begun, x.place = d.str(), d.int(), d.str()
	case recEpoch:
		x.raise(d.str(), d.int(), d.age())
	case recBegin:
		b, at := d.begin()
		x.put(&Call{Begin: b, At: at, Since: at})
		x.begun++
	case recEnd:
		id, state, at := d.str(), State(d.int()), d.age()
		outcome := d.bytes()
		x.end(id, state, at, base+int64(d.off-len(outcome)), len(outcome))
	case recRevoke:
		x.revoke(d.str(), uint32(d.int()), d.age())
	case recAck:
		x.ack(d.str(), d.age())
	case recForgot:
		if c := x.calls[d.str()]; c != nil {
			c.Forgot = true
		}
	case recCall:
		c := &Call{}
		c.Begin, c.At = d.begin()
		c.State, c.Since, c.Forgot = State(d.int()), d.age(), d.flag()
		outcome := d.bytes()
		c.off, c.size = base+int64(d.off-len(outcome)), len(outcome)
		x.put(c)
	case recIncarnation:
		x.start(start{id: d.str(), begun: d.int()})
	case recAge:
		d.age()
	default:
		// A later version's record. Its rules are unknown here, so it must not be stepped over in silence.
		return errRecord
	}
	x.age = max(x.age, d.newest)
	return d.err
}

// raise notes that a lane is in use with this epoch.
func (x *index) raise(lane string, epoch int64, at time.Duration) {
	f := x.lanes[lane]
	if f == nil {
		f = &fence{mark: mark{kind: ofLane, key: lane, cost: smallWeight + int64(len(lane))}}
		x.lanes[lane] = f
		x.live += f.cost
	}
	f.epoch, f.noted = max(f.epoch, epoch), at
	x.use(f, at)
}

// use notes that an owner of the lane has used its fence.
func (x *index) use(f *fence, at time.Duration) {
	f.used = max(f.used, at)
	x.last(f, at)
}

// last moves a fence to the end of what may be forgotten.
func (x *index) last(f *fence, at time.Duration) {
	f.at = max(f.at, at)
	if x.aged.remove(&f.mark); f.held == 0 {
		x.aged.push(&f.mark)
	}
}

// hold changes the number of calls that a lane's fence is kept for.
func (x *index) hold(lane string, n int, at time.Duration) {
	if f := x.lanes[lane]; f != nil {
		f.held += n
		x.last(f, at)
	}
}

func (x *index) revoke(id string, dispatch uint32, at time.Duration) {
	r := x.revoked[id]
	if r == nil {
		r = &revocation{mark: mark{kind: ofRevocation, key: id, cost: smallWeight + int64(len(id))}}
		x.revoked[id] = r
		x.live += r.cost
	}
	r.dispatch, r.at = max(r.dispatch, dispatch), at
	x.aged.remove(&r.mark)
	x.aged.push(&r.mark)
}

func (x *index) put(c *Call) {
	x.drop(c.CallID)
	e := &entry{Call: *c, mark: mark{kind: ofCall, key: c.CallID}}
	x.calls[c.CallID] = e
	x.live += e.weight()
	x.raise(c.LaneID, c.Epoch, c.At)
	e.LaneID = x.lanes[c.LaneID].key // one string for all calls of a lane
	x.enqueue(e)
	if c.State == Tombstone {
		x.hold(c.LaneID, 0, c.Since)
	} else {
		x.hold(c.LaneID, 1, c.At)
	}
}

// enqueue puts a call into the queue of its state.
func (x *index) enqueue(e *entry) {
	x.ended.remove(&e.mark)
	x.aged.remove(&e.mark)
	e.cost, e.at = e.weight(), e.Since
	switch e.State {
	case Finished, Interrupted:
		x.ended.push(&e.mark)
	case Tombstone:
		x.aged.push(&e.mark)
	}
}

func (x *index) drop(id string) {
	e := x.calls[id]
	if e == nil {
		return
	}
	x.live -= e.weight()
	delete(x.calls, id)
	x.ended.remove(&e.mark)
	x.aged.remove(&e.mark)
	if e.State != Tombstone {
		x.hold(e.LaneID, -1, e.At)
	}
}

func (x *index) end(id string, state State, at time.Duration, off int64, size int) {
	e := x.calls[id]
	if e == nil || e.State != Begun {
		return // the first end wins
	}
	x.live -= e.weight()
	e.State, e.Since, e.off, e.size = state, at, off, size
	x.live += e.weight()
	x.enqueue(e)
}

// ack leaves a tombstone.
func (x *index) ack(id string, at time.Duration) {
	e := x.calls[id]
	if e == nil || e.State == Begun || e.State == Tombstone {
		return
	}
	x.live -= e.weight()
	e.State, e.Since, e.Witness, e.off, e.size = Tombstone, at, "", 0, 0
	x.live += e.weight()
	x.enqueue(e)
	x.hold(e.LaneID, -1, at) // after the tombstone, which the fence outlives
}

// forget drops what a mark in the queue of the aged stands for, and tells since when its absence would prove something.
func (x *index) forget(m *mark) (since time.Duration) {
	x.aged.remove(m)
	switch m.kind {
	case ofLane:
		since = x.lanes[m.key].used
		delete(x.lanes, m.key)
		x.live -= m.cost
		return since
	case ofRevocation:
		delete(x.revoked, m.key)
		x.live -= m.cost
	case ofCall:
		since = x.calls[m.key].At
		x.drop(m.key)
		return since
	}
	return m.at
}

// sort orders the queues after the file was read: a compacted file is in no order.
func (x *index) sort() {
	x.ended.sort()
	x.aged.sort()
}

// markKind tells what a mark stands for.
type markKind uint8

const (
	ofCall markKind = iota
	ofLane
	ofRevocation
)

// mark is a place in a queue.
type mark struct {
	prev, next *mark
	in         *queue
	at         time.Duration
	kind       markKind
	key        string
	cost       int64 // of live
}

// queue is marks, the oldest first.
type queue struct {
	first, last *mark
	cost        int64
}

func (q *queue) push(m *mark) {
	m.in, m.prev, m.next = q, q.last, nil
	if q.last == nil {
		q.first = m
	} else {
		q.last.next = m
	}
	q.last = m
	q.cost += m.cost
}

// remove takes a mark out if it is in.
func (q *queue) remove(m *mark) {
	if m.in != q {
		return
	}
	if m.prev == nil {
		q.first = m.next
	} else {
		m.prev.next = m.next
	}
	if m.next == nil {
		q.last = m.prev
	} else {
		m.next.prev = m.prev
	}
	m.in, m.prev, m.next = nil, nil, nil
	q.cost -= m.cost
}

func (q *queue) sort() {
	var all []*mark
	for m := q.first; m != nil; m = m.next {
		all = append(all, m)
	}
	// A fence is not older than the tombstones of its lane, and as old as one at times: it goes after them.
	slices.SortStableFunc(all, func(a, b *mark) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.kind, b.kind))
	})
	*q = queue{}
	for _, m := range all {
		q.push(m)
	}
}
