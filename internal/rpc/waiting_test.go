package rpc

import (
	"runtime"
	"testing"
	"testing/synctest"
	"weak"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A message that waits for its reader is held once, as it is sent: what it was made of is not held.
func TestAMessageThatWaitsIsHeldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made []weak.Pointer[wrapperspb.BytesValue]
		send := func(_ any, s grpc.ServerStream) error {
			if err := s.RecvMsg(&grpc_health_v1.HealthCheckRequest{}); err != nil {
				return err
			}
			for {
				m := wrapperspb.Bytes(make([]byte, 20<<10))
				made = append(made, weak.Make(m))
				if err := s.SendMsg(m); err != nil {
					return err
				}
			}
		}
		watch := grpc.StreamDesc{StreamName: "Watch", ServerStreams: true, Handler: send}
		conn := connectTo(t, Hooks{Admit: admitAll, Log: quiet}, func(s *Server) {
			s.RegisterService(&grpc.ServiceDesc{
				ServiceName: "test", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{watch},
			}, struct{}{})
		})
		s, err := conn.NewStream(t.Context(), &watch, "/test/Watch")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SendMsg(&grpc_health_v1.HealthCheckRequest{}); err != nil {
			t.Fatal(err)
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the last one waits for the reader
		runtime.GC()
		for i, m := range made {
			if m.Value() != nil {
				t.Errorf("message %d of %d is held", i+1, len(made))
			}
		}
		if len(made) < 5 {
			t.Errorf("%d messages were made", len(made))
		}
	})
}
