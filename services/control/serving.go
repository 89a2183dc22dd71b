package control

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	peerv1 "github.com/pawl-dev/pawl/gen/pawl/peer/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/api"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway"
	"github.com/pawl-dev/pawl/services/control/gateway/idle"
	"github.com/pawl-dev/pawl/services/control/gateway/transcode"
	"github.com/pawl-dev/pawl/services/control/link/peer"
	"github.com/pawl-dev/pawl/services/control/project"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

// stopGrace is how long clients may take to notice that this replica ends.
const stopGrace = 2 * time.Second

// memoryBuffer is how many bytes wait in either direction between the built-in executor and control: it stays resident.
const memoryBuffer = 128 << 10

// memoryWindow is how many bytes of a call may wait for its receiver in memory, memoryConnWindow those of all calls
// that are on their way. The library would let them grow to 16 MiB each, for the sake of latencies that are none here.
const (
	memoryWindow     = 128 << 10
	memoryConnWindow = 1 << 20
)

// ignoreClosed passes errors of serving but for the end that this process has given it, be it before it began to serve.
func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

// stopServing ends the listeners: politely for a moment, then not.
func (p *plane) stopServing() {
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	p.gateway.Wait(ctx)
	if p.HTTP != nil && p.http.Shutdown(ctx) != nil {
		if err := p.http.Close(); err != nil {
			p.Log.Debug("closing http failed", "error", err)
		}
	}
	_ = p.inner.Close() // it has no calls any more, or such as nobody waits for
	done := make(chan struct{})
	go func() { defer close(done); p.memoryGRPC.GracefulStop(); p.grpc.GracefulStop() }()
	select {
	case <-done:
	case <-ctx.Done():
		p.memoryGRPC.Stop()
		p.grpc.Stop()
		<-done
	}
}

func (p *plane) dialMemory(context.Context) (*grpc.ClientConn, error) {
	secret := p.auth.Local(auth.Principal{Kind: auth.Executor, Executor: p.BuiltinID, Shared: true})
	return p.newMemoryClient(grpc.WithPerRPCCredentials(rpc.Token{Secret: rpc.Static(secret), Plaintext: true}))
}

// newMemoryClient connects to this control plane without a network, with the first call.
func (p *plane) newMemoryClient(opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	dial := func(ctx context.Context, _ string) (net.Conn, error) { return p.memory.DialContext(ctx) }
	opts = append(opts, rpc.Security(nil), grpc.WithContextDialer(dial))
	opts = append(opts, grpc.WithStaticStreamWindowSize(memoryWindow), grpc.WithStaticConnWindowSize(memoryConnWindow))
	return grpc.NewClient("passthrough:///memory", append(rpc.DialOptions(), opts...)...)
}

// serveGRPC makes the gRPC servers. The gateway counts what calls from outside hold.
func (p *plane) serveGRPC() {
	hooks := api.Hooks(p.authenticator(), p.audit, p.Log)
	hooks.Origins = p.Origins
	inMemory := hooks // what comes over HTTP is counted there
	hooks.Stopping, hooks.Account = p.stopping, api.Accounts(p.gateway.Bodies())
	p.grpc = p.newGRPC(hooks)
	// One connection has all calls that come over HTTP. Connections to that are limited, and calls on a socket.
	p.memoryGRPC = p.newGRPC(inMemory, grpc.MaxConcurrentStreams(math.MaxUint32),
		grpc.StaticStreamWindowSize(memoryWindow), grpc.StaticConnWindowSize(memoryConnWindow))
	p.memory = bufconn.Listen(memoryBuffer)
}

// newGRPC makes a server with hooks.
func (p *plane) newGRPC(hooks rpc.Hooks, more ...grpc.ServerOption) *rpc.Server {
	s := rpc.NewServer(hooks, more...)
	api.Register(s, p.api())
	peerv1.RegisterPeerServiceServer(s, peer.NewServer(p.links))
	return s
}

// api is what the handlers delegate to.
func (p *plane) api() api.Deps {
	return api.Deps{
		Agents: p.Agents, Reloader: p.agents(), Sessions: p.Store, Submissions: p.Store, Calls: p.Store,
		Service: p.submissions, Events: p.events,
		Fleet: p.Store, Connector: p.links, Files: p.links, Placer: p.fleet, Builtin: p.BuiltinID, Tokens: p.auth,
		Audit:   p.Store,
		Deleter: p.deletions, Deletions: p.Store, Tenants: tenancy.NewService(p.Store),
		Approvals: approval.NewService(p.Store, p.worker), Models: p.models(),
		Workflows: p.Workflows, Checker: &project.Project{Agents: p.Agents, Workflows: p.Workflows}, Runs: p.runs,
		Schedules: p.schedules,
	}
}

// unready is why this replica should get no requests.
func (p *plane) unready() (reasons []string) {
	if p.draining.Err() != nil {
		reasons = append(reasons, "draining: the server stops, and hands over what it runs")
	}
	switch {
	case p.replicas.Silent():
		reasons = append(reasons, gateway.DatabaseSilent)
	case !p.leased.Load():
		reasons = append(reasons, "no lease: the database has not answered yet, or the server stops")
	}
	return reasons
}

// serveHTTP makes the HTTP server. It calls the gRPC server in memory, with the first request.
func (p *plane) serveHTTP() (err error) {
	if p.inner, err = p.newMemoryClient(); err != nil {
		return fmt.Errorf("connecting in memory: %w", err)
	}
	p.gateway = gateway.New(gateway.Deps{
		Agents: p.Agents, Service: p.submissions, Workflows: p.flows(), Models: p.Models,
		API:  transcode.New(p.inner, p.stopping, p.Log),
		Auth: p.authenticator(), Tickets: p.auth, Audit: p.audit, Hosts: p.Hosts, Origins: p.Origins, Inputs: inputs{p},
		Draining: p.draining, Stopping: p.stopping, Unready: p.unready, Log: p.Log,
	})
	p.http = &http.Server{
		Handler: p.gateway, ConnState: idle.State,
		// The handler bounds the rest.
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 256, MaxReceiveBufferPerConnection: 128 << 10, MaxReceiveBufferPerStream: 64 << 10,
			SendPingTimeout: 30 * time.Second,
		},
	}
	return nil
}
