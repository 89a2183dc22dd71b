package link

import (
	"maps"
	"slices"
	"sync"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/call"
)

// ledger is which calls of lanes a connection may still hear of. What is over is forgotten: its size is bounded by the
// calls that are open at the executor, and by the results that it repeats.
type ledger struct {
	mu      sync.Mutex // guards what follows
	held    map[string]held
	unacked map[string]bool // calls whose results are recorded, and are acknowledged when their output was taken
}

// held is a call that the executor may have.
type held struct {
	lane      string
	epoch     int64 // the highest at which it was asked for
	asked     bool  // over this connection, by its lane's owner
	there     bool  // the executor has said that it has the call
	ended     bool  // its result came
	cancelled bool  // by compare
}

// newLedger begins with what the executor says that it runs.
func newLedger(inflight []*pawlv1.CallState) *ledger {
	l := &ledger{held: map[string]held{}, unacked: map[string]bool{}}
	for _, in := range inflight {
		if in.GetState() == pawlv1.State_STATE_RUNNING {
			l.held[in.GetCallId()] = held{lane: in.GetLaneId(), epoch: in.GetEpoch(), there: true}
		}
	}
	return l
}

// sent notes what a frame to the executor asks for.
func (l *ledger) sent(f *pawlv1.ConnectResponse) {
	switch f := f.GetFrame().(type) {
	case *pawlv1.ConnectResponse_Execute:
		l.ask(f.Execute.GetCallId(), f.Execute.GetLaneId(), f.Execute.GetEpoch())
	case *pawlv1.ConnectResponse_Attach:
		l.ask(f.Attach.GetCallId(), f.Attach.GetLaneId(), f.Attach.GetEpoch())
	case *pawlv1.ConnectResponse_Cancel:
		l.ask(f.Cancel.GetCallId(), f.Cancel.GetLaneId(), f.Cancel.GetEpoch())
	case *pawlv1.ConnectResponse_ResultAck:
		l.forget(f.ResultAck.GetCallId())
	}
}

func (l *ledger) ask(id, lane string, epoch int64) {
	if lane == "" {
		return // a verb on files
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.held[id]
	h.lane, h.epoch, h.asked = lane, max(h.epoch, epoch), true
	l.held[id] = h
}

func (l *ledger) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, id)
	delete(l.unacked, id)
}

// heard notes what the executor says about a call, and returns the lane whose owner asked for it over this connection,
// "" for none. A call that the executor does not have will not be heard of again.
func (l *ledger) heard(rep call.Report) (lane string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, ok := l.held[rep.CallID]
	if !ok {
		return ""
	}
	over := false
	switch body := rep.Body.(type) {
	case call.Rejected:
		over = !h.there // else a Cancel was rejected
	case call.Found:
		over = body.State == call.Unknown || body.State == call.TombstoneThere
		h.there = !over
	case call.Ended:
		h.there, h.ended = true, true
	default:
		h.there = true
	}
	if over {
		delete(l.held, rep.CallID)
	} else {
		l.held[rep.CallID] = h
	}
	if !h.asked {
		return ""
	}
	return h.lane
}

// refused is the Cancel to send when one of compare was refused because the executor knows a higher epoch of the lane:
// with that epoch, because what has ended by the rows may be ended by whoever knows. nil for other rejections.
func (l *ledger) refused(rep call.Report) *call.Cancel {
	r, ok := rep.Body.(call.Rejected)
	if !ok {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.held[rep.CallID]
	if !h.cancelled || r.Known <= h.epoch {
		return nil
	}
	h.epoch = r.Known
	l.held[rep.CallID] = h
	return &call.Cancel{CallID: rep.CallID, LaneID: h.lane, Epoch: r.Known, Grace: cancelGrace}
}

// later notes a result that is on record and is acknowledged when its output was taken.
func (l *ledger) later(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unacked[id] = true
}

// waiting is the calls whose results are acknowledged later.
func (l *ledger) waiting() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.unacked))
}

// snapshot is the calls that the executor may have now.
func (l *ledger) snapshot() map[string]held {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.held)
}

// overdue says what is to be done about a call that was in a snapshot and, according to rows that were read after it,
// is open at this executor no more: cancel is the Cancel to send, nil for none. It is sent once: who says nothing about
// it is not asked again, because frames are not lost while a connection lasts.
func (l *ledger) overdue(id string, epoch int64) (cancel *call.Cancel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, ok := l.held[id]
	switch {
	case !ok:
		return nil
	case h.ended:
		l.unacked[id] = true
		return nil
	case h.cancelled:
		delete(l.held, id)
		return nil
	}
	h.cancelled, h.epoch = true, epoch
	l.held[id] = h
	return &call.Cancel{CallID: id, LaneID: h.lane, Epoch: epoch, Grace: cancelGrace}
}
