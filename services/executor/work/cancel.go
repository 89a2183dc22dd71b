package work

import (
	"math"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

func (s *Service) onCancel(m *pawlv1.Cancel) {
	if !idPattern.MatchString(m.GetCallId()) {
		s.rejected(m.GetCallId(), m.GetEpoch(), pawlv1.Rejected_REASON_UNSUPPORTED, "the call id is not one")
		return
	}
	f, c := s.facts(m.GetCallId(), m.GetLaneId())
	what, reason := onCancel(f, m.GetEpoch())
	if what == reject {
		s.ruledOut(m.GetCallId(), m.GetEpoch(), reason, f)
		return
	}
	if what == revoke && m.GetLaneId() == "" {
		s.cancelledUnseen(m)
		return
	}
	// That a full disk cannot remember the epoch is no reason to let run what is to end.
	if _, err := s.j.Raise(m.GetLaneId(), m.GetEpoch()); err != nil && (c == nil || !c.running()) {
		s.rejected(m.GetCallId(), m.GetEpoch(), pawlv1.Rejected_REASON_NO_SPACE, err.Error())
		return
	}
	if c != nil {
		c.adopt(m.GetEpoch())
	}
	switch {
	case what == revoke:
		s.cancelUnseen(m)
	case c == nil:
		s.status(m.GetCallId(), 0) // a tombstone
	case c.running():
		s.cancelRunning(c, m)
	default:
		s.resend(c)
	}
}

func (s *Service) cancelRunning(c *call, m *pawlv1.Cancel) {
	c.cancelled, c.grace = true, defaultGrace
	if m.GetGrace() != nil {
		c.grace = max(0, m.GetGrace().AsDuration())
	}
	if c.ex != nil {
		s.kill(c)
		return
	}
	if c.verb != verbExec { // a command is killed once it is known to have started
		c.stop()
	}
}

// cancelledUnseen answers for a call of no lane that is not here: what could still arrive of it came before the
// Cancel.
func (s *Service) cancelledUnseen(m *pawlv1.Cancel) {
	s.answer(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Result{Result: &pawlv1.Result{
		CallId: m.GetCallId(), Epoch: m.GetEpoch(),
		Outcome: &pawlv1.Result_Failure{Failure: &pawlv1.Failure{
			Reason:  sandbox.ErrCancelled.Reason(),
			Message: "cancelled before it began",
		}},
	}}})
}

// cancelUnseen makes sure that a call that never arrived never runs, and says that it is not here: whether that proves
// that it never ran is for control to say, which knows the journal that the executor had when it sent the call (C5).
func (s *Service) cancelUnseen(m *pawlv1.Cancel) {
	lsn, err := s.j.Revoke(m.GetCallId(), math.MaxUint32)
	if err != nil {
		s.rejected(m.GetCallId(), m.GetEpoch(), pawlv1.Rejected_REASON_NO_SPACE, err.Error())
		return
	}
	s.onceDurable(lsn, m.GetCallId(), func() { s.unknown(m.GetCallId(), m.GetLaneId(), 0) })
}
