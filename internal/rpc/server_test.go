package rpc

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

var quiet = slog.New(slog.DiscardHandler)

// methods are a unary one and a streaming one.
var methods = []string{grpc_health_v1.Health_Check_FullMethodName, grpc_health_v1.Health_Watch_FullMethodName}

// begin begins a call and sends no message.
func begin(t *testing.T, h Hooks, method string, answer func(context.Context) error) grpc.ClientStream {
	t.Helper()
	stream, err := connect(t, h, answer).NewStream(t.Context(), &grpc.StreamDesc{
		ClientStreams: true,
		ServerStreams: true,
	}, method)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// Whoever is refused is refused by its headers: the answer comes though no message was sent.
func TestCallsAreAdmittedByTheirHeaders(t *testing.T) {
	refuse := func(context.Context, Call, string) (context.Context, func(), error) { return nil, nil, errTest }
	glance := func(context.Context, Call, string) error { return errTest }
	for name, h := range map[string]Hooks{"by Admit": {Admit: refuse, Log: quiet}, "at a glance": {
		Admit:  admitAll,
		Glance: glance, Log: quiet,
	}} {
		for _, method := range methods {
			synctest.Test(t, func(t *testing.T) {
				stream := begin(t, h, method, func(context.Context) error { t.Error("the handler ran"); return nil })
				begun := time.Now()
				err := stream.RecvMsg(&grpc_health_v1.HealthCheckResponse{})
				if !errors.Is(FromStatus(err), errTest) || time.Since(begun) != 0 {
					t.Errorf("%s, %s: after %s: %v", name, method, time.Since(begun), err)
				}
			})
		}
	}
}

func TestGlanceSeesMethodAndToken(t *testing.T) {
	var seen []string
	glance := func(_ context.Context, c Call, secret string) error {
		seen = append(seen, c.Method+" "+secret)
		return nil
	}
	c := serve(t, Hooks{Admit: admitAll, Glance: glance}, func(context.Context) error { return errTest },
		grpc.WithPerRPCCredentials(Token{Secret: Static("sesame"), Plaintext: true}))
	both(t, c, func(kind string, err error) {
		if !errors.Is(FromStatus(err), errTest) {
			t.Errorf("%s: %v", kind, err)
		}
	})
	if want := methods[0] + " sesame," + methods[1] + " sesame"; strings.Join(seen, ",") != want {
		t.Errorf("%q", seen)
	}
}

func TestFirstMessageIsLate(t *testing.T) {
	for _, method := range methods {
		synctest.Test(t, func(t *testing.T) {
			stream := begin(t, Hooks{Admit: admitAll, Log: quiet}, method,
				func(context.Context) error { t.Error("the handler ran"); return nil })
			begun := time.Now()
			err := stream.RecvMsg(&grpc_health_v1.HealthCheckResponse{})
			if !errors.Is(FromStatus(err), ErrLate) || time.Since(begun) != firstLimit {
				t.Errorf("%s: after %s: %v", method, time.Since(begun), err)
			}
		})
	}
}

// Methods take messages of their own size, and say what is too much.
func TestMessageSizes(t *testing.T) {
	h := Hooks{Admit: admitAll, Log: quiet, MaxMessage: func(method string) int {
		return map[string]int{methods[0]: 100, methods[1]: 1000}[method]
	}}
	var ran int
	conn := connect(t, h, func(context.Context) error { ran++; return nil })
	for _, test := range []struct {
		method string
		length int
		fits   bool
	}{{methods[0], 98, true}, {methods[0], 99, false}, {methods[1], 997, true}, {methods[1], 998, false}} {
		before := ran
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, test.method)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.SendMsg(&grpc_health_v1.HealthCheckRequest{Service: strings.Repeat("x",
			test.length)}); err != nil {
			t.Fatal(err)
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		err = stream.RecvMsg(&grpc_health_v1.HealthCheckResponse{})
		refused := errors.Is(FromStatus(err), ErrTooLarge) && status.Code(err) == codes.ResourceExhausted
		if refused == test.fits || (ran > before) != test.fits {
			t.Errorf("%s with %d bytes: %v", test.method, test.length, err)
		}
	}
}

func TestTooManyCalls(t *testing.T) {
	c := newCounter(5, 2)
	var leave []func()
	for _, test := range []struct {
		source string
		ok     bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}, {"", true}, {"", true}, {"", false}, {"c", false}} {
		done, ok := c.enter(test.source)
		if ok != test.ok {
			t.Errorf("%q after %d: %v", test.source, len(leave), ok)
		}
		if ok {
			leave = append(leave, done)
		}
	}
	for _, done := range leave {
		done()
	}
	if c.total != 0 || len(c.sources) != 0 {
		t.Errorf("after all have ended: %d, %v", c.total, c.sources)
	}
}

func TestSourceOf(t *testing.T) {
	for addr, want := range map[string]string{"10.0.0.1:5": "10.0.0.1", "[::1]:5": "::1", "bufconn": "", "": ""} {
		if got := SourceOf(addr); got != want {
			t.Errorf("%q: %q", addr, got)
		}
	}
}
