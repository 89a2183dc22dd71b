package work

import (
	"context"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/services/executor/journal"
)

// Receive takes a frame from control. It never waits for the disk or a command.
func (c *Conn) Receive(m *pawlv1.ConnectResponse) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c || c.renamed() {
		c.wake.Set() // Next ends the connection
		return
	}
	switch f := m.GetFrame().(type) {
	case *pawlv1.ConnectResponse_Execute:
		c.lastCall = f.Execute.GetCallId()
		s.onExecute(f.Execute)
	case *pawlv1.ConnectResponse_Input:
		if call := s.live[f.Input.GetCallId()]; call != nil && call.in != nil {
			call.in.put(f.Input, c.window)
		}
	case *pawlv1.ConnectResponse_Attach:
		s.onAttach(f.Attach)
	case *pawlv1.ConnectResponse_Cancel:
		s.onCancel(f.Cancel)
	case *pawlv1.ConnectResponse_ResultAck:
		s.onResultAck(f.ResultAck.GetCallId())
	case *pawlv1.ConnectResponse_OutputAck:
		s.onOutputAck(f.OutputAck)
	case *pawlv1.ConnectResponse_Ping:
		c.put(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Heartbeat{Heartbeat: &pawlv1.Heartbeat{
			Nonce: f.Ping.GetNonce(), LastCallId: c.lastCall, Running: uint32(s.running), Begun: s.j.Begun(),
		}}})
	}
}

// facts gathers what is known about a call and its lane.
func (s *Service) facts(callID, lane string) (facts, *call) {
	f := facts{epoch: s.j.Epoch(lane), running: s.running - s.loose, slots: s.cfg.Slots, draining: s.draining}
	if lane == "" {
		f.running, f.slots = s.loose, looseSlots
	}
	f.revoked, f.isBarred = s.j.Revoked(callID)
	c := s.live[callID]
	if c != nil {
		f.known, f.state, f.safety, f.args, f.dispatch = true, c.state, c.begin.Safety, c.begin.Args, c.begin.Dispatch
	} else if r, ok := s.j.Lookup(callID); ok {
		f.known, f.state, f.safety, f.args, f.dispatch = true, r.State, r.Safety, r.Args, r.Dispatch
	}
	return f, c
}

func (s *Service) onExecute(e *pawlv1.Execute) {
	v, err := understand(e)
	if err != nil {
		s.rejected(e.GetCallId(), e.GetEpoch(), pawlv1.Rejected_REASON_UNSUPPORTED, err.Error())
		return
	}
	f, c := s.facts(e.GetCallId(), e.GetLaneId())
	what, reason := onExecute(f, e.GetEpoch(), e.GetDispatch(), e.GetArgsSha256())
	if what != reject || reason != pawlv1.Rejected_REASON_STALE_EPOCH {
		if _, err := s.j.Raise(e.GetLaneId(), e.GetEpoch()); err != nil {
			s.rejected(e.GetCallId(), e.GetEpoch(), pawlv1.Rejected_REASON_NO_SPACE, err.Error())
			return
		}
	}
	switch what {
	case start:
		s.start(e, v, c)
	case present:
		s.present(e.GetCallId(), e.GetEpoch(), c)
	default:
		s.ruledOut(e.GetCallId(), e.GetEpoch(), reason, f)
	}
}

// start takes a call on. old is a call that may run again.
func (s *Service) start(e *pawlv1.Execute, v verb, old *call) {
	c := &call{verb: v, exec: e, epoch: e.GetEpoch(), ended: make(chan struct{}), begin: journal.Begin{
		CallID: e.GetCallId(), LaneID: e.GetLaneId(), Epoch: e.GetEpoch(), Dispatch: e.GetDispatch(),
		Args: e.GetArgsSha256(), Safety: safetyOf(e.GetSafety()), Exec: v == verbExec, Witness: s.cfg.Witness(),
		Image: e.GetExec().GetStdoutImage(), Whole: e.GetExec().GetWhole(),
	}}
	if e.GetTimeout() != nil {
		c.begin.Deadline = s.j.Age() + max(1, e.GetTimeout().AsDuration())
		c.ctx, c.stop = context.WithTimeout(s.ctx, e.GetTimeout().AsDuration())
	} else {
		c.ctx, c.stop = context.WithCancel(s.ctx)
	}
	if v == verbWriteChunked || e.GetExec().GetStdin() {
		c.in = newIntake()
	}
	var lsn journal.LSN
	need := needsOf(c.loose(), c.begin.Safety, v)
	if need.begin {
		var err error
		if lsn, err = s.j.Begin(c.begin); err != nil {
			c.stop()
			s.rejected(c.id(), c.begin.Epoch, pawlv1.Rejected_REASON_NO_SPACE, err.Error())
			return
		}
	}
	if old != nil {
		old.release()
	}
	s.live[c.id()] = c
	s.running++
	if c.loose() {
		s.loose++
	}
	c.feed.attach(0, 0)
	s.goLocked(func() {
		if need.sync {
			if err := s.j.Wait(lsn); err != nil {
				s.refuse(c, err)
				return
			}
		}
		s.contained(c, func() { s.run(c, old != nil) })
	})
}

// refuse takes back a start whose BEGIN did not reach the disk.
func (s *Service) refuse(c *call, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.stop()
	delete(s.live, c.id())
	s.j.Drop(c.id())
	s.running--
	close(c.ended)
	s.rejected(c.id(), c.begin.Epoch, pawlv1.Rejected_REASON_NO_SPACE, err.Error())
}

// present answers an Execute of a call that is here already.
func (s *Service) present(id string, epoch int64, c *call) {
	if c == nil { // only the journal has it: a tombstone
		s.status(id, 0)
		return
	}
	c.adopt(epoch)
	if !c.running() {
		s.resend(c)
		return
	}
	c.watch()
	if c.accepted {
		s.answer(s.acceptedFrame(c))
	}
	s.push(c)
}

func (s *Service) accept(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.accepted = true
	s.answerFor(c, s.acceptedFrame(c))
}

func (s *Service) onAttach(a *pawlv1.Attach) {
	before := s.j.Epoch(a.GetLaneId())
	f, c := s.facts(a.GetCallId(), a.GetLaneId())
	lsn, err := s.j.Raise(a.GetLaneId(), a.GetEpoch())
	if err == nil && onAttach(f) == revoke {
		lsn, err = s.j.Revoke(a.GetCallId(), a.GetDispatch())
		c = nil
	}
	if err != nil {
		// No answer is better than one that a crash makes untrue; control asks again.
		s.log.Error("an attach could not be recorded", "call_id", a.GetCallId(), "err", err)
		return
	}
	if f.known && a.GetEpoch() <= before {
		s.attached(a, c)
		return
	}
	s.onceDurable(lsn, a.GetCallId(), func() {
		if !f.known {
			s.unknown(a.GetCallId(), a.GetLaneId(), a.GetDispatch())
			return
		}
		s.attached(a, s.live[a.GetCallId()])
	})
}

// attached answers with the state of a call and lets its output flow from where the watcher is.
func (s *Service) attached(a *pawlv1.Attach, c *call) {
	if c != nil {
		c.adopt(a.GetEpoch())
	}
	s.status(a.GetCallId(), a.GetDispatch())
	if c == nil {
		return
	}
	c.feed.attach(a.GetStdoutFrom(), a.GetStderrFrom())
	s.push(c)
}

func (s *Service) onResultAck(id string) {
	c := s.live[id]
	if c == nil || c.running() {
		return
	}
	if c.loose() {
		s.drop(c)
		return
	}
	if err := s.acknowledged(c); err != nil {
		s.log.Warn("an acknowledgement could not be recorded, it is tried again", "call_id", id, "err", err)
		s.acknowledgeLater(c)
	}
}

// acknowledged records that control has the result of a call, and forgets the call. After an error it is as it was: a
// call that counts as begun, and that the sandbox forgets, would count as one that never ran. The caller holds mu.
func (s *Service) acknowledged(c *call) error {
	if !c.kept {
		// Whose outcome was not recorded leaves a tombstone too.
		if _, err := s.j.End(c.begin, c.state, nil); err != nil {
			return err
		}
	}
	if _, err := s.j.Ack(c.id()); err != nil {
		return err
	}
	delete(s.live, c.id())
	c.release()
	if c.verb == verbExec {
		s.forget = append(s.forget, c.id())
		s.reap.Set()
	}
	return nil
}

// acknowledgeLater tries to record an acknowledgement again until that works: a disk was full, say. Control repeats it
// over another connection only. The caller holds mu.
func (s *Service) acknowledgeLater(c *call) {
	if c.acked {
		return
	}
	c.acked = true
	s.goLocked(func() {
		for await.Sleep(s.ctx, ackPause) == nil {
			s.mu.Lock()
			done := s.live[c.id()] != c || s.acknowledged(c) == nil
			s.mu.Unlock()
			if done {
				return
			}
		}
	})
}

func (s *Service) onOutputAck(a *pawlv1.OutputAck) {
	if c := s.live[a.GetCallId()]; c != nil && c.feed.ack(a.GetStream(), a.GetUpto()) {
		s.push(c)
	}
}

// abandon ends a call of no lane whose connection is gone.
func (s *Service) abandon(c *call) {
	c.orphan = true
	if !c.running() {
		s.drop(c)
		return
	}
	c.cancelled = true
	c.stop()
	if c.ex != nil { // else it is killed as soon as it is known to have started
		s.kill(c)
	}
}

// drop forgets a call of no lane.
func (s *Service) drop(c *call) {
	delete(s.live, c.id())
	c.release()
	if c.verb == verbExec {
		s.forget = append(s.forget, c.id())
		s.reap.Set()
	}
}
