// Package rpc is how pawl's programs speak gRPC: errors with reasons, interceptors, limits, credentials. It knows no
// service.
//
//	errs.Error ──ToStatus──▶ status + ErrorInfo{reason, domain "pawl.dev"} ──FromStatus──▶ errs.Error
//
// Invariant: what carries no reason crosses the wire as INTERNAL with a fixed text; the log of the callee has the rest.
package rpc

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// MaxMessage bounds a message in either direction.
const MaxMessage = 32 << 20

// maxStreams is how many calls one connection may have at a time; its client holds back what is more. Each may hold a
// page of events.
const maxStreams = 1000

const (
	// pingEvery and pingTimeout find peers that vanished without a word.
	pingEvery   = 30 * time.Second
	pingTimeout = 20 * time.Second
	minPing     = 10 * time.Second
)

const (
	// handshakeLimit is how long a new connection may take to say that it speaks HTTP/2.
	handshakeLimit = 10 * time.Second
	// idleLimit is how long a connection without calls lives; its client connects again when it has one.
	idleLimit = 15 * time.Minute
	// readBuffer is for each connection, and stays: most connections send little. Of a larger frame the rest is read
	// without it.
	readBuffer = 8 << 10
	// streamWindow is how many bytes a call may send before they are read, beside a message that is being read: what
	// waits there is counted nowhere. Left to itself, the library lets clients that are fast have 16 MiB.
	streamWindow = 256 << 10
	// connWindow is how many bytes of all calls of a connection may be on their way. None waits there.
	connWindow = 16 << 20
	// maxHeaders bounds the headers of a call in bytes: they are read before anything is known of the caller.
	maxHeaders = 16 << 10
)

func serverOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.ReadBufferSize(readBuffer),
		grpc.SharedWriteBuffer(true), // 32 KiB of a connection, while something is written
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.ConnectionTimeout(handshakeLimit),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: pingEvery, Timeout: pingTimeout,
			MaxConnectionIdle: idleLimit,
		}),
	}
}

// DialOptions are the options that every client has beside its credentials.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingTimeout}),
	}
}
