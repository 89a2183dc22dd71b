package platformtest

import (
	"context"
	"time"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// Frame is one that arrives at the executor (Down) or is sent by it.
type Frame struct {
	Down bool
	// Kind is Execute, Result and so on.
	Kind   string
	CallID string
	Epoch  int64
	Reason string // of a Rejected
	At     time.Time
}

// Fate is what becomes of a frame.
type Fate int

// Fates.
const (
	Pass Fate = iota
	Drop
	Twice
)

// fate asks the tap, and keeps account of what passes. What a dead daemon says does not.
func (d *daemon) fate(f Frame) Fate {
	m := d.m
	f.At = time.Now()
	m.mu.Lock()
	tap := m.tap
	m.mu.Unlock()
	fate := Pass
	if tap != nil {
		fate = tap(f)
	}
	if fate != Drop && !d.isDead() {
		m.mu.Lock()
		m.frames = append(m.frames, f)
		m.mu.Unlock()
	}
	return fate
}

func (d *daemon) intercept(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer,
	opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	return &tapped{ClientStream: s, d: d}, err
}

// tapped is the executor's end of Connect.
type tapped struct {
	grpc.ClientStream
	d     *daemon
	again *pawlv1.ConnectResponse // to be received once more
}

func (s *tapped) SendMsg(m any) error {
	fate := s.d.fate(up(m.(*pawlv1.ConnectRequest)))
	if s.d.isDead() {
		return errDead
	}
	switch fate {
	case Drop:
		return nil
	case Twice:
		if err := s.ClientStream.SendMsg(m); err != nil {
			return err
		}
	}
	return s.ClientStream.SendMsg(m)
}

func (s *tapped) RecvMsg(m any) error {
	res := m.(*pawlv1.ConnectResponse)
	if s.again != nil {
		res.Frame, s.again = s.again.Frame, nil
		return nil
	}
	for {
		if err := s.ClientStream.RecvMsg(m); err != nil {
			return err
		}
		fate := s.d.fate(down(res))
		switch {
		case s.d.isDead():
			return errDead
		case fate == Drop:
			res.Reset()
			continue
		case fate == Twice:
			s.again = &pawlv1.ConnectResponse{Frame: res.GetFrame()}
		}
		return nil
	}
}

func up(m *pawlv1.ConnectRequest) Frame {
	switch f := m.GetFrame().(type) {
	case *pawlv1.ConnectRequest_Hello:
		return Frame{Kind: "Hello"}
	case *pawlv1.ConnectRequest_Accepted:
		return Frame{Kind: "Accepted", CallID: f.Accepted.GetCallId(), Epoch: f.Accepted.GetEpoch()}
	case *pawlv1.ConnectRequest_Rejected:
		return Frame{
			Kind: "Rejected", CallID: f.Rejected.GetCallId(), Epoch: f.Rejected.GetEpoch(),
			Reason: f.Rejected.GetReason().String()[len("REASON_"):],
		}
	case *pawlv1.ConnectRequest_Output:
		return Frame{Kind: "Output", CallID: f.Output.GetCallId()}
	case *pawlv1.ConnectRequest_Result:
		return Frame{Kind: "Result", CallID: f.Result.GetCallId(), Epoch: f.Result.GetEpoch()}
	case *pawlv1.ConnectRequest_Status:
		return Frame{
			Kind: "Status", CallID: f.Status.GetCall().GetCallId(), Epoch: f.Status.GetCall().GetEpoch(),
			Reason: f.Status.GetCall().GetState().String()[len("STATE_"):],
		}
	case *pawlv1.ConnectRequest_Heartbeat:
		return Frame{Kind: "Heartbeat"}
	}
	return Frame{Kind: "Draining"}
}

func down(m *pawlv1.ConnectResponse) Frame {
	switch f := m.GetFrame().(type) {
	case *pawlv1.ConnectResponse_Welcome:
		return Frame{Down: true, Kind: "Welcome"}
	case *pawlv1.ConnectResponse_Execute:
		return Frame{Down: true, Kind: "Execute", CallID: f.Execute.GetCallId(), Epoch: f.Execute.GetEpoch()}
	case *pawlv1.ConnectResponse_Attach:
		return Frame{Down: true, Kind: "Attach", CallID: f.Attach.GetCallId(), Epoch: f.Attach.GetEpoch()}
	case *pawlv1.ConnectResponse_Cancel:
		return Frame{Down: true, Kind: "Cancel", CallID: f.Cancel.GetCallId(), Epoch: f.Cancel.GetEpoch()}
	case *pawlv1.ConnectResponse_ResultAck:
		return Frame{Down: true, Kind: "ResultAck", CallID: f.ResultAck.GetCallId()}
	case *pawlv1.ConnectResponse_OutputAck:
		return Frame{Down: true, Kind: "OutputAck", CallID: f.OutputAck.GetCallId()}
	case *pawlv1.ConnectResponse_Input:
		return Frame{Down: true, Kind: "Input", CallID: f.Input.GetCallId()}
	}
	return Frame{Down: true, Kind: "Ping"}
}
