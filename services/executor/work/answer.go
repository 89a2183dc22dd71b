package work

import (
	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/journal"
)

// reasonTexts say in words why the rules reject a frame.
var reasonTexts = map[pawlv1.Rejected_Reason]string{
	pawlv1.Rejected_REASON_STALE_EPOCH: "a higher epoch of the lane is known here",
	pawlv1.Rejected_REASON_CONFLICT:    "the call is known here with other arguments",
	pawlv1.Rejected_REASON_CAPACITY:    "all slots are taken",
	pawlv1.Rejected_REASON_DRAINING:    "the executor is draining",
	pawlv1.Rejected_REASON_REVOKED:     "this dispatch was revoked",
}

// ruledOut answers an Execute or a Cancel that the rules reject.
func (s *Service) ruledOut(id string, epoch int64, reason pawlv1.Rejected_Reason, f facts) {
	r := &pawlv1.Rejected{CallId: id, Epoch: epoch, Reason: reason, Message: reasonTexts[reason]}
	if reason == pawlv1.Rejected_REASON_STALE_EPOCH {
		r.KnownEpoch = f.epoch
	}
	s.answer(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Rejected{Rejected: r}})
}

func (s *Service) rejected(id string, epoch int64, reason pawlv1.Rejected_Reason, text string) {
	s.answer(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Rejected{Rejected: &pawlv1.Rejected{
		CallId: id, Epoch: epoch, Reason: reason, Message: text,
	}}})
}

// acceptedFrame says that a call has begun. With it control learns how many calls the journal has begun at least: an
// older state of this data directory shows by having begun fewer.
func (s *Service) acceptedFrame(c *call) *pawlv1.ConnectRequest {
	return &pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Accepted{Accepted: &pawlv1.Accepted{
		CallId: c.id(), Epoch: c.epoch, Size: c.file.size, Sha256: c.file.sum, Begun: s.j.Begun(),
	}}}
}

// status tells the state of a call that is known.
func (s *Service) status(id string, dispatch uint32) {
	st := &pawlv1.Status{Dispatch: dispatch}
	if c := s.live[id]; c != nil {
		st.Call, st.Dispatch = c.callState(), c.begin.Dispatch
	} else if r, ok := s.j.Lookup(id); ok {
		st.Call = &pawlv1.CallState{CallId: id, LaneId: r.LaneID, Epoch: r.Epoch, State: stateOf(r.State)}
		st.Dispatch = r.Dispatch
	} else {
		return
	}
	s.answer(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Status{Status: st}})
}

// unknown tells that a call is not here and, being revoked, never will be.
func (s *Service) unknown(callID, laneID string, dispatch uint32) {
	call := &pawlv1.CallState{
		CallId: callID, LaneId: laneID, Epoch: s.j.Epoch(laneID), State: pawlv1.State_STATE_UNKNOWN,
	}
	s.answer(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Status{Status: &pawlv1.Status{
		Dispatch: dispatch, JournalId: s.j.ID(), Call: call,
	}}})
}

// answerFor sends a frame about a call. What an orphan has to say is for nobody, least of all for a newer connection.
func (s *Service) answerFor(c *call, m *pawlv1.ConnectRequest) {
	if !c.orphan {
		s.answer(m)
	}
}

// onceDurable calls f, which answers, when what the answer says is on the disk, unless the connection has ended by
// then.
func (s *Service) onceDurable(lsn journal.LSN, callID string, f func()) {
	conn := s.conn
	s.goLocked(func() {
		if err := s.j.Wait(lsn); err != nil {
			s.log.Error("what is to be answered could not be made durable", "call_id", callID, "err", err)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.conn == conn {
			f()
		}
	})
}
