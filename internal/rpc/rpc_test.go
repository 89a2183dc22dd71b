package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/pawl-dev/pawl/internal/errs"
)

var errTest = errs.New(errs.FailedPrecondition, "TEST_REASON", "do it otherwise")

// service answers every call with one function.
type service struct {
	grpc_health_v1.UnimplementedHealthServer
	answer func(context.Context) error
}

func (s service) Check(
	ctx context.Context, _ *grpc_health_v1.HealthCheckRequest,
) (*grpc_health_v1.HealthCheckResponse, error) {
	return &grpc_health_v1.HealthCheckResponse{}, s.answer(ctx)
}

func (s service) Watch(
	_ *grpc_health_v1.HealthCheckRequest, stream grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse],
) error {
	return s.answer(stream.Context())
}

// serve starts a server with hooks and returns a client with options.
func serve(
	t *testing.T, h Hooks, answer func(context.Context) error, opts ...grpc.DialOption,
) grpc_health_v1.HealthClient {
	t.Helper()
	return grpc_health_v1.NewHealthClient(connect(t, h, answer, opts...))
}

// connect starts a server with hooks and returns a connection with options.
func connect(t *testing.T, h Hooks, answer func(context.Context) error, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	return connectTo(t, h, func(s *Server) { grpc_health_v1.RegisterHealthServer(s, service{answer: answer}) }, opts...)
}

// connectTo starts a server of what is registered, and returns a connection with options.
func connectTo(t *testing.T, h Hooks, register func(*Server), opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	s := NewServer(h)
	register(s)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	opts = append(append(DialOptions(), opts...), Security(nil), grpc.WithContextDialer(func(ctx context.Context,
		_ string,
	) (net.Conn, error) {
		return l.DialContext(ctx)
	}))
	conn, err := grpc.NewClient("passthrough:test", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return conn
}

func admitAll(ctx context.Context, _ Call, _ string) (context.Context, func(), error) {
	return ctx, nil, nil
}

// both makes the call as unary and as stream.
func both(t *testing.T, c grpc_health_v1.HealthClient, check func(kind string, err error)) {
	t.Helper()
	_, err := c.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	check("unary", err)
	stream, err := c.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	check("stream", err)
}

func TestReasonCrossesTheWire(t *testing.T) {
	c := serve(t, Hooks{Admit: admitAll}, func(context.Context) error {
		return fmt.Errorf("context: %w",
			errTest.With("this one"))
	})
	both(t, c, func(kind string, err error) {
		got := FromStatus(err)
		if !errors.Is(got, errTest) || got.Error() != "this one" || status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s: %v", kind, err)
		}
	})
}

func TestInternalsStayInside(t *testing.T) {
	for name, answer := range map[string]func(context.Context) error{
		"plain":  func(context.Context) error { return errors.New("password=hunter2") },
		"marked": func(context.Context) error { return errs.New(errs.Internal, "X", "password=hunter2") },
		"foreign": func(context.Context) error {
			return fmt.Errorf("peer: %w", status.Error(codes.NotFound, "password=hunter2"))
		},
		"panic": func(context.Context) error { panic("password=hunter2") },
	} {
		var log bytes.Buffer
		c := serve(t, Hooks{Admit: admitAll, Log: slog.New(slog.NewTextHandler(&log, nil))}, answer)
		both(t, c, func(kind string, err error) {
			if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s, %s: %v", name, kind, err)
			}
			if name != "marked" && Reason(err) != "INTERNAL" {
				t.Errorf("%s, %s: reason %q", name, kind, Reason(err))
			}
		})
		if out := log.String(); strings.Count(out, "level=ERROR") != 2 || !strings.Contains(out, "hunter2") ||
			!strings.Contains(out, "/Check") {
			t.Errorf("%s: log %s", name, out)
		}
	}
}

// The end of the caller's own context is an answer without a line in the log.
func TestContextErrorsAreMapped(t *testing.T) {
	canceled, leave := context.WithCancel(t.Context())
	leave()
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	for want, ctx := range map[codes.Code]context.Context{codes.Canceled: canceled, codes.DeadlineExceeded: late} {
		var log bytes.Buffer
		h := Hooks{Admit: admitAll, Log: slog.New(slog.NewTextHandler(&log, nil)), calls: newCounter(1, 1)}
		err := h.run(ctx, Call{}, func(context.Context) error { return fmt.Errorf("waiting: %w", ctx.Err()) })
		if status.Code(err) != want || Reason(err) == "" || log.Len() > 0 {
			t.Errorf("%v, log %s", err, log.String())
		}
	}
}

// A limit of the server's own that has passed is not told as if it were the caller's.
func TestDeadlinesOfTheServerAreItsOwn(t *testing.T) {
	for _, cause := range []error{context.Canceled, context.DeadlineExceeded} {
		var log bytes.Buffer
		c := serve(t, Hooks{Admit: admitAll, Log: slog.New(slog.NewTextHandler(&log, nil))},
			func(context.Context) error { return fmt.Errorf("reading rows: %w", cause) })
		both(t, c, func(kind string, err error) {
			if status.Code(err) != codes.Internal || Reason(err) != "INTERNAL" {
				t.Errorf("%s: %v", kind, err)
			}
		})
		if strings.Count(log.String(), "reading rows") != 2 {
			t.Errorf("log %s", log.String())
		}
	}
}

func TestNobodyIsAdmittedWithoutAHook(t *testing.T) {
	c := serve(t, Hooks{Log: slog.New(slog.DiscardHandler)},
		func(context.Context) error { t.Error("the handler ran"); return nil })
	both(t, c, func(kind string, err error) {
		if status.Code(err) != codes.Internal {
			t.Errorf("%s: %v", kind, err)
		}
	})
}

func TestTokenReachesTheHook(t *testing.T) {
	type key struct{}
	var done int
	admit := func(ctx context.Context, call Call, secret string) (context.Context, func(), error) {
		if secret != "sesame" {
			t.Errorf("%s: secret %q", call.Method, secret)
		}
		return context.WithValue(ctx, key{}, call), func() { done++ }, nil
	}
	answer := func(ctx context.Context) error {
		call, _ := ctx.Value(key{}).(Call)
		if call.Stream != strings.HasSuffix(call.Method, "/Watch") {
			t.Errorf("%+v", call)
		}
		return errTest
	}
	c := serve(t, Hooks{Admit: admit}, answer, grpc.WithPerRPCCredentials(Token{
		Secret:    Static("sesame"),
		Plaintext: true,
	}))
	both(t, c, func(kind string, err error) {
		if !errors.Is(FromStatus(err), errTest) {
			t.Errorf("%s: %v", kind, err)
		}
	})
	if done != 2 {
		t.Errorf("done was called %d times", done)
	}
}

func TestTokenNeedsTLS(t *testing.T) {
	_, err := grpc.NewClient("passthrough:x", Security(nil), grpc.WithPerRPCCredentials(Token{Secret: Static("x")}))
	if err == nil {
		t.Error("a token would travel in the clear")
	}
}

func TestBearer(t *testing.T) {
	for header, want := range map[string]string{
		"Bearer x": "x", "bearer  x ": "x", "Basic x": "", "x": "", "": "", "Bearer": "", "BearerX y": "",
	} {
		if got := Bearer(header); got != want {
			t.Errorf("%q: %q", header, got)
		}
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:3000": true, "127.9.9.9:1": true, "localhost:3000": true, "[::1]:3000": true, "::1": true, "127.0.0.1": true,
		"[::ffff:127.0.0.1]:1": true, ":3000": false, "0.0.0.0:3000": false, "[::]:1": false, "10.0.0.1:1": false, "": false,
		"localhost.evil.example:1": false, "example.com:1": false,
	} {
		if got := Loopback(addr); got != want {
			t.Errorf("%q: %v", addr, got)
		}
	}
}

func TestTLSFiles(t *testing.T) {
	if cfg, err := ServerTLS("", ""); cfg != nil || err != nil {
		t.Errorf("%v, %v", cfg, err)
	}
	for _, files := range [][2]string{{"a", ""}, {"", "b"}, {"missing", "missing"}} {
		if _, err := ServerTLS(files[0], files[1]); err == nil {
			t.Errorf("%v: no error", files)
		}
	}
	if cfg, err := ClientTLS(""); err != nil || cfg.RootCAs != nil {
		t.Errorf("%v, %v", cfg, err)
	}
	if _, err := ClientTLS("rpc_test.go"); err == nil {
		t.Error("no error")
	}
}

func TestTokenFileHoldsOneToken(t *testing.T) {
	for content, good := range map[string]bool{"abc\n": true, "abc\ndef\n": false, "a\x00b": false, "": true} {
		path := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := File(path)(t.Context()); (err == nil) != good || good && got != strings.TrimSpace(content) {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
}

func TestTokenFileIsBounded(t *testing.T) {
	if _, err := File("/dev/zero")(t.Context()); err == nil || !strings.Contains(err.Error(), "it is no token") {
		t.Errorf("%v", err)
	}
}
