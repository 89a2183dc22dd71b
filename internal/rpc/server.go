package rpc

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/tap"

	"github.com/pawl-dev/pawl/internal/errs"
)

// Server is a gRPC server that decides on calls by their headers.
//
//	headers ─▶ Glance ─▶ stream ─▶ Admit ─▶ the message is read ─▶ handler
//
// Invariant: no message of a call is read before Admit has agreed. What a client sends earlier stays within the flow
// control window of its stream, and what Glance refuses gets no stream.
type Server struct {
	*grpc.Server
	hooks Hooks
}

// NewServer makes a Server. Options that are given stand before its own limits.
func NewServer(h Hooks, more ...grpc.ServerOption) *Server {
	opts := append(serverOptions(), more...)
	if h.Glance != nil {
		opts = append(opts, grpc.InTapHandle(h.glance))
	}
	h.calls = newCounter(maxCalls, maxCallsOfSource)
	return &Server{grpc.NewServer(append(opts, grpc.ChainStreamInterceptor(h.stream))...), h}
}

// RegisterService implements grpc.ServiceRegistrar. A unary method's generated code reads the request before it calls
// an interceptor, so its calls are admitted around that code instead.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	own := *desc
	own.Methods = slices.Clone(desc.Methods)
	for i := range own.Methods {
		m := &own.Methods[i]
		m.Handler = s.hooks.unary("/"+desc.ServiceName+"/"+m.MethodName, m.Handler)
	}
	s.Server.RegisterService(&own, impl)
}

func (h Hooks) glance(ctx context.Context, info *tap.Info) (context.Context, error) {
	for _, origin := range info.Header.Get("origin") {
		if !slices.Contains(h.Origins, origin) {
			st, _ := ToStatus(ErrOrigin)
			return nil, st
		}
	}
	md := metadata.NewIncomingContext(ctx, info.Header)
	if err := h.Glance(md, Call{Method: info.FullMethodName}, secret(md)); err != nil {
		st, _ := ToStatus(err)
		return nil, st
	}
	return ctx, nil
}

// unary makes a method's handler one whose calls are admitted before their request is read.
func (h Hooks) unary(method string, handle grpc.MethodHandler) grpc.MethodHandler {
	call := Call{Method: method}
	return func(srv any, ctx context.Context, _ func(any) error, _ grpc.UnaryServerInterceptor) (resp any, err error) {
		err = h.run(ctx, call, func(ctx context.Context) error {
			in, err := h.messages(ctx, method, true)
			if err != nil {
				return err
			}
			defer in.account.Release()
			resp, err = handle(srv, ctx, in.read, nil)
			return err
		})
		if err != nil {
			return nil, err
		}
		return resp, nil
	}
}

// ErrOrigin refuses calls of a page in a browser, whichever way they came.
var ErrOrigin = errs.New(errs.PermissionDenied, "FORBIDDEN_ORIGIN",
	"calls of this browser origin are not allowed; start the server with --origin to allow it")
