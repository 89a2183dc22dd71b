package rpc

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/pawl-dev/pawl/internal/bodies"
	"github.com/pawl-dev/pawl/internal/errs"
)

// counting are hooks that count the messages of calls by the metadata "who"; without it they do not.
func counting(l *bodies.Ledger) Hooks {
	return Hooks{Admit: admitAll, Log: quiet, Account: func(ctx context.Context) *bodies.Account {
		if who := metadata.ValueFromIncomingContext(ctx, "who"); len(who) > 0 {
			return l.Open(who[0])
		}
		return nil
	}}
}

func as(t *testing.T, who string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(t.Context(), "who", who)
}

func message(bytes int) *grpc_health_v1.HealthCheckRequest {
	return &grpc_health_v1.HealthCheckRequest{Service: strings.Repeat("x", bytes)}
}

// isFree fails the test unless nothing of a token is held.
func isFree(t *testing.T, l *bodies.Ledger, who string) {
	t.Helper()
	all := l.Open(who)
	defer all.Release()
	if err := all.Take(bodies.Most); err != nil {
		t.Errorf("something of %s is held yet", who)
	}
}

// The messages of one token's calls that have no answer yet are bounded together. Those of others are not concerned.
func TestMessagesAreBoundedByToken(t *testing.T) {
	const size = 20 << 20
	for _, method := range methods {
		synctest.Test(t, func(t *testing.T) {
			l, stay := bodies.NewLedger(), make(chan struct{})
			conn := connect(t, counting(l), func(ctx context.Context) error {
				if metadata.ValueFromIncomingContext(ctx, "stays") != nil {
					<-stay
				}
				return nil
			})
			call := func(ctx context.Context) error {
				s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
				if err == nil {
					err = s.SendMsg(message(size))
				}
				if err == nil {
					err = s.CloseSend()
				}
				if err == nil || errors.Is(err, io.EOF) {
					err = s.RecvMsg(&grpc_health_v1.HealthCheckResponse{})
				}
				if errors.Is(err, io.EOF) {
					return nil
				}
				return FromStatus(err)
			}
			stayed := make(chan error, 3)
			for range cap(stayed) {
				go func() { stayed <- call(metadata.AppendToOutgoingContext(as(t, "a"), "stays", "")) }()
			}
			synctest.Wait()
			err := call(as(t, "a"))
			e, ok := errs.Public(err)
			if !ok || !errors.Is(err, bodies.ErrFull) || e.Facts()[errs.RetryAfter] == "" || e.Error() == "" {
				t.Errorf("%s: one too many: %v", method, err)
			}
			if err := call(as(t, "b")); err != nil {
				t.Errorf("%s: another token: %v", method, err)
			}
			if err := call(t.Context()); err != nil {
				t.Errorf("%s: who is not counted: %v", method, err)
			}
			close(stay)
			for range cap(stayed) {
				if err := <-stayed; err != nil {
					t.Errorf("%s: %v", method, err)
				}
			}
			synctest.Wait()
			isFree(t, l, "a")
		})
	}
}

// Of a call with many messages the first is held until the answer begins, and one other at a time.
func TestManyMessages(t *testing.T) {
	l := bodies.NewLedger()
	held := func() (n int64) {
		all := l.Open("a")
		defer all.Release()
		for all.Take(1<<20) == nil {
			n += 1 << 20
		}
		return bodies.Most - n
	}
	var got []int64
	handler := func(_ any, stream grpc.ServerStream) error {
		for range 3 {
			if err := stream.RecvMsg(&grpc_health_v1.HealthCheckRequest{}); err != nil {
				return err
			}
			got = append(got, held()>>20)
		}
		if err := stream.SendMsg(&grpc_health_v1.HealthCheckResponse{}); err != nil {
			return err
		}
		got = append(got, held()>>20)
		err := stream.RecvMsg(&grpc_health_v1.HealthCheckRequest{})
		if !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
		got = append(got, held()>>20)
		return nil
	}
	both := grpc.StreamDesc{StreamName: "Both", Handler: handler, ClientStreams: true, ServerStreams: true}
	conn := connectTo(t, counting(l), func(s *Server) {
		s.RegisterService(&grpc.ServiceDesc{ServiceName: "test", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{
			both,
		}}, struct{}{})
	})
	s, err := conn.NewStream(as(t, "a"), &both, "/test/Both")
	if err != nil {
		t.Fatal(err)
	}
	for _, mib := range []int{1, 2, 4} {
		if err := s.SendMsg(message(mib<<20 - 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		err = s.RecvMsg(&grpc_health_v1.HealthCheckResponse{})
	}
	if !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	want := []int64{1, 3, 5, 4, 0}
	if len(got) != len(want) {
		t.Fatalf("%v MiB are held", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%v MiB are held, want %v", got, want)
		}
	}
}
