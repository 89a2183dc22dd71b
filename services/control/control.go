// Package control is the control plane: it owns sessions, queues and tool calls in a database, runs the model loop, and
// sends calls to executors.
//
//	api, gateway ─▶ submission ─▶ lane ─▶ loop ─▶ model
//	                    │           │       └──▶ link ─▶ executors
//	                    └──▶ store ◀┘
//
// Config and Run are all that programs need. This package is the one that knows every package below.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/mono"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/deletion"
	"github.com/pawl-dev/pawl/services/control/egress"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/gateway"
	"github.com/pawl-dev/pawl/services/control/gateway/idle"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/link"
	"github.com/pawl-dev/pawl/services/control/link/files"
	"github.com/pawl-dev/pawl/services/control/link/peer"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/mcp/hub"
	"github.com/pawl-dev/pawl/services/control/mcp/stdio"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/retention"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/run/runner"
	"github.com/pawl-dev/pawl/services/control/run/scheduler"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/wake"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// Config is a control plane's parts. The zero value of every optional field works. It has a field for each setting of
// the program, and so as many as there are of those.
type Config struct {
	Store  store.Store
	HTTP   net.Listener // closed by Run; nil serves none
	GRPC   net.Listener // closed by Run
	Agents *agent.Catalogue
	// Workflows are those of the project; nil is none.
	Workflows *workflow.Catalogue
	Models    loop.Models
	// Reload makes Agents, and then Workflows, read their files again at each signal; nil is never.
	Reload <-chan os.Signal
	Lookup agent.Lookup // of variables that agents' env refers to
	// TokenFile is where the operator's token is kept; "" mints none.
	TokenFile string
	// Open lets everyone be an operator. For loopback listeners only.
	Open bool
	// Hosts are names beside loopback ones that HTTP requests may be addressed to, Origins the browser origins allowed.
	Hosts   []string
	Origins []string
	// Advertise is where other replicas dial this one's gRPC listener; "" keeps it out of their reach.
	Advertise string
	// DialPeer connects to a replica. nil dials in plain text.
	DialPeer func(addr string, opts ...grpc.DialOption) (*grpc.ClientConn, error)
	// Host and Lock name the data directory's lock, see replica.Replica.
	Host    string
	Lock    string
	Version string
	// Builtin runs the built-in executor, whose id is BuiltinID, until its ctx ends. dial reaches this control plane in
	// memory.
	Builtin   func(ctx context.Context, dial func(context.Context) (*grpc.ClientConn, error)) error
	BuiltinID string
	// Ready, if set, is called once everything serves.
	Ready           func()
	DisconnectGrace time.Duration
	// SharedNone lets shared executors, the built-in one among them, have workspaces of several tenants without
	// isolation.
	SharedNone bool
	Slots      int // how many lanes run at once; 0 is 10,000
	Streams    int // how many answers of models stream at once; 0 is 1,000
	// WebFetch are the hosts whose pages agents may read with web_fetch; the zero value is none.
	WebFetch egress.Hosts
	// HTTPHosts are the hosts that http steps of workflows may reach; the zero value is none.
	HTTPHosts egress.Hosts
	// Egress makes requests to hosts and MCP servers that agents use. The zero value is the system's way out.
	Egress egress.Client
	// RetainEvents is how long the events of streams are kept; entries are kept for good. 0 is a week.
	RetainEvents time.Duration
	// RetainAudit is how long the audit log is kept. 0 is 90 days.
	RetainAudit time.Duration
	// Owners keep something for sessions that goes with them.
	Owners []deletion.Owner
	Log    *slog.Logger
}

// plane is the parts put together, a field each.
type plane struct {
	Config
	auth        *auth.Service
	audit       *audit.Log
	bus         *wake.Bus
	events      *event.Service
	replicas    *replica.Service
	fleet       *fleet.Service
	pinned      workflowPins
	worker      *lane.Worker
	loops       *loop.Runner
	servers     *hub.Hub      // MCP servers that control calls
	beside      *stdio.Source // and those that run on executors
	links       *link.Server
	peers       *peer.Client
	submissions *submission.Service
	attempts    *runner.Runner // of runs
	runs        *run.Service
	schedules   *scheduler.Service
	deletions   *deletion.Service
	grpc        *rpc.Server
	memoryGRPC  *rpc.Server // the same, for connections in memory
	http        *http.Server
	gateway     *gateway.Handler
	memory      *bufconn.Listener // for the built-in executor, and for what comes over HTTP
	inner       *grpc.ClientConn  // to memory, for what comes over HTTP; it shows the caller's token
	leased      atomic.Bool       // this process is a replica that may work
	// draining ends when this process has to stop, or one of its parts has. stopping ends when what had to be finished
	// is finished: streams and sockets end then.
	draining, stopping context.Context
	drain, finished    context.CancelFunc
}

// Run serves until ctx ends, then hands over what it runs and returns. It returns an error when it cannot start or
// cannot go on.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Workflows == nil {
		none, err := workflow.Load("", nil)
		if err != nil {
			return err
		}
		cfg.Workflows = none
	}
	p := &plane{Config: cfg}
	if err := p.assemble(ctx); err != nil {
		return errors.Join(err, p.closeListeners())
	}
	return p.run(ctx)
}

func (p *plane) closeListeners() error {
	var all []error
	for _, l := range []net.Listener{p.HTTP, p.GRPC} {
		if l != nil {
			all = append(all, l.Close())
		}
	}
	return errors.Join(all...)
}

// assemble makes the parts, from the bottom up.
func (p *plane) assemble(ctx context.Context) error {
	p.auth = auth.NewService(p.Store)
	p.audit = audit.NewLog(p.Store, p.Log)
	if p.TokenFile != "" {
		if err := p.auth.EnsureOperator(ctx, p.TokenFile); err != nil {
			return err
		}
	}
	p.bus = wake.NewBus(p.Store.Notify)
	p.events = event.NewService(p.Store, p.bus)
	p.replicas = replica.NewService(p.Store, replica.Replica{
		Addr: p.Advertise, Version: p.Version, Host: p.Host,
		Lock: p.Lock,
	}, mono.New(), p.Log)
	if models, ok := p.Models.(interface {
		Share(p model.Pauses, log *slog.Logger)
	}); ok {
		models.Share(p.Store, p.Log)
	}
	p.fleet = fleet.NewService(p.Store, p.replicas.ID)
	p.fleet.SharedNone = p.SharedNone
	pinned := newPins(p.Agents, p.Store)
	p.pinned = newWorkflowPins(p.Workflows, p.Store)
	out := &sender{}
	host := out.files()
	p.loops = loop.NewRunner(loop.Deps{
		Store: p.Store, Events: p.events, Models: p.Models, Agents: pinned, Fleet: p.fleet, Executors: out, Slots: out,
		Workspaces: host, Sources: p.sources(host),
		Lookup: p.Lookup, Builtin: p.BuiltinID, Log: p.Log, DisconnectGrace: p.DisconnectGrace, Streams: p.Streams,
	})
	p.makeAttempts(pinned)
	p.worker = lane.NewWorker(lane.Deps{
		Store: p.Store, Events: p.events, Bus: p.bus, Log: p.Log, Slots: p.Slots, MayReap: p.replicas.MayReap,
		Runners: map[lane.Kind]lane.Runner{lane.KindSession: p.loops, lane.KindRun: p.attempts},
	})
	p.peers = peer.NewClient(p.Store, p.replicas.ID, p.dialPeer, p.Log)
	p.links = link.NewServer(link.Deps{
		Calls: p.Store, Fleet: p.Store, Local: p.fleet, Owner: p.worker, Peers: p.peers, Bus: p.bus,
		Replica:  p.replicas.ID,
		Identity: executorIdentity, Redactor: redactor{p.Store, pinned, p.pinned, p.Lookup}, Clock: mono.New(),
		Log:    p.Log,
		Grants: p.Store, Granted: p.granted,
		ToolsChanged: p.beside.Changed,
	})
	out.Server = p.links
	p.submissions = submission.NewService(p.Store, pinned, p.events, p.worker, p.bus)
	p.makeRuns()
	p.deletions = deletion.NewService(deletion.Deps{
		Store: p.Store, Aborter: p.submissions, Closed: p.closed, Owners: p.Owners, Log: p.Log,
	})
	p.draining, p.drain = context.WithCancel(ctx)
	p.stopping, p.finished = context.WithCancel(context.WithoutCancel(ctx))
	if err := p.serveHTTP(); err != nil {
		return err
	}
	p.serveGRPC()
	return nil
}

// inputs tells readers what models are asked with.
type inputs struct{ *plane }

// Input implements gateway.Inputs.
func (i inputs) Input(ctx context.Context, s submission.Submission, before int64) (model.Request, error) {
	one, err := i.Store.GetSession(ctx, s.Key.Tenant, s.SessionID)
	if err != nil {
		return model.Request{}, err
	}
	return i.loops.Input(ctx, s.Loop, before, one.Executor)
}

// sender breaks the circle between runs, which send to executors, and links, which deliver to runs.
type sender struct{ *link.Server }

// files are those of executors, for control itself.
func (s *sender) files() *files.Host {
	return &files.Host{Do: func(ctx context.Context, q *files.Request) (*pawlv1.Result, error) {
		return s.Do(ctx, q)
	}}
}

// granted tells the owner of a lane that a call of it has a slot of an executor that is connected here.
func (p *plane) granted(e fleet.Executor, g call.Granted) bool {
	return p.worker.Deliver(call.Report{
		Executor: e.ID, CallID: g.CallID, LaneID: g.LaneID, Body: call.Slot{Dispatch: g.Dispatch, Journal: e.JournalID},
	})
}

// closed tells the readers of a session's stream, everywhere, that it is gone.
func (p *plane) closed(sessionID string) {
	p.bus.Publish(wake.Lane(sessionID))
	p.bus.Announce(sessionID)
}

// executorIdentity is the executor that the caller's token names.
func executorIdentity(ctx context.Context) (auth.Principal, error) {
	p := auth.FromContext(ctx)
	if p.Kind != auth.Executor {
		return p, auth.ErrForbidden.With("only an executor's token can connect: make one with `control token create " +
			"--executor NAME`")
	}
	return p, nil
}

func (p *plane) agents() agents {
	return agents{p.Agents, p.Workflows, p.Models, p.Store, p.Log, p.schedules.Reloaded}
}

func (p *plane) authenticator() auth.Guard {
	if p.Open {
		return auth.Open{Known: p.auth}
	}
	return p.auth
}

func (p *plane) dialPeer(addr string) (*grpc.ClientConn, error) {
	opts := append(rpc.DialOptions(), grpc.WithPerRPCCredentials(rpc.Token{Secret: p.auth.Peer, Plaintext: true}))
	if p.DialPeer != nil {
		return p.DialPeer(addr, opts...)
	}
	return grpc.NewClient(addr, append(opts, rpc.Security(nil))...)
}

// run serves, lives as a replica, and ends everything in order: first what uses, then what is used.
func (p *plane) run(ctx context.Context) error {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	g, life := errgroup.WithContext(life)
	stop, stopped := p.draining, p.drain
	defer stopped()
	builtin, endBuiltin := context.WithCancel(context.Background()) // ends before what it is connected to
	defer endBuiltin()
	serve := func(name string, f func(context.Context) error) {
		g.Go(func() error {
			defer stopped() // a part that ends early ends the whole
			if err := contain.Loop(life, p.Log, name, f); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	serve("agents", func(ctx context.Context) error { return p.agents().onSignal(ctx, p.Reload) })
	if p.Store.Shared() {
		serve("event tail", func(ctx context.Context) error { return p.events.Run(ctx, p.worker.Owns) })
	}
	serve("deletions", p.deletions.Run)
	serve("schedules", p.schedules.Run)
	serve("retention", retention.Sweeper{
		Store: p.Store, Events: p.RetainEvents, Audit: p.RetainAudit, Log: p.Log,
	}.Run)
	if p.TokenFile != "" {
		serve("operator token", func(ctx context.Context) error { return p.auth.KeepOperator(ctx, p.TokenFile) })
	}
	serve("audit log", p.audit.Run)
	serve("mcp servers", p.servers.Run)
	serve("peers", p.peers.Run)
	serve("links", p.links.Run)
	serve("notifications", func(ctx context.Context) error { return p.Store.Listen(ctx, p.bus.Heard) })
	serve("grpc", func(context.Context) error { return ignoreClosed(p.grpc.Serve(p.GRPC)) })
	serve("connections in memory", func(context.Context) error { return ignoreClosed(p.memoryGRPC.Serve(p.memory)) })
	if p.Builtin != nil {
		serve("built-in executor", func(ctx context.Context) error {
			ctx, end := context.WithCancel(ctx)
			defer end()
			defer context.AfterFunc(builtin, end)()
			return p.Builtin(ctx, p.dialMemory)
		})
	}
	if p.HTTP != nil {
		serve("http", func(context.Context) error { return ignoreClosed(p.http.Serve(idle.Listen(p.HTTP))) })
	}
	err := p.replicas.Run(life, stop, p.incarnation(stop))
	stopped()
	p.finished()
	p.links.Close()
	endBuiltin()
	p.stopServing()
	end()
	return errors.Join(err, g.Wait())
}

// incarnation is this process as a replica that has a lease, until that lapses or stop ends.
func (p *plane) incarnation(stop context.Context) replica.Incarnation {
	return func(ctx context.Context, id string, predecessors []string) error {
		p.Log.Info("replica registered", "replica_id", id, "predecessors", len(predecessors))
		if p.Ready != nil {
			p.Ready()
			p.Ready = nil
		}
		p.leased.Store(true)
		defer p.leased.Store(false)
		err := p.worker.Run(ctx, id, predecessors, stop.Done())
		// Executors are told to go elsewhere; what they hold is safe with them.
		if stop.Err() != nil {
			p.links.Close()
		} else {
			p.links.Drop(link.ErrNoLease)
		}
		return err
	}
}
