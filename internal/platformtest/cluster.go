package platformtest

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/egress"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// Options of a cluster; the zero value is a database in memory, offline models and the shell agent.
type Options struct {
	Store  store.Store // closed with the cluster
	Models loop.Models
	Agents []agent.Definition
	// Workflows of all replicas; nil is none.
	Workflows *workflow.Catalogue
	Log       *slog.Logger // of all replicas; nil discards
	// Alone is that the database says what SQLite says: there is one replica, and nobody else writes.
	Alone bool
	// Slots is how many lanes run at once at each replica; 0 is control's own.
	Slots int
	// SharedNone lets shared executors serve several tenants.
	SharedNone bool
	// Egress is control's way to MCP servers.
	Egress egress.Client
}

// Cluster is a database in memory, the replicas that run on it, and the machines that execute calls for them. Each of
// them can be killed, frozen and cut off at any point.
type Cluster struct {
	t       testing.TB
	options Options
	// Store is the database itself, past all faults.
	Store store.Store
	token string // file
	hints *hints

	mu       sync.Mutex
	replicas map[string]*Platform // the last one of each name
	peers    map[[2]string]*Wire
	// relay, when set, sees what one replica tells another before it is sent.
	relay func(method string, req any)
}

// New makes a cluster without replicas. It ends with the test.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.Store == nil {
		db, err := sqlite.Open(context.Background(), sqlite.Memory, sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		o.Store = db
	}
	t.Cleanup(func() {
		if err := o.Store.Close(); err != nil {
			t.Error(err)
		}
	})
	if o.Models == nil {
		o.Models = Models{}
	}
	if o.Agents == nil {
		o.Agents = []agent.Definition{agent.Shell()}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Cluster{
		t: t, options: o, Store: o.Store, token: t.TempDir() + "/token", hints: &hints{listeners: map[*Database]chan []string{}},
		replicas: map[string]*Platform{}, peers: map[[2]string]*Wire{},
	}
}

// Start runs a replica until it is killed, stopped, or the test ends. The next one of the same name has its data
// directory: it knows that the one before is dead. Others reach it by its name. strike, if it is not nil, is there
// before anything else is.
func (c *Cluster) Start(name string, strike func(*Platform, Step) error) *Platform {
	c.t.Helper()
	catalogue, err := agent.Load("", os.LookupEnv, nil, c.options.Agents...)
	if err != nil {
		c.t.Fatal(err)
	}
	p := &Platform{
		Name: name, DB: &Database{db: c.Store, hints: c.hints, alone: c.options.Alone},
		grpc: bufconn.Listen(1 << 20), web: newLobby(), done: make(chan struct{}),
	}
	p.rpcs, p.webs = newHost(p.grpc), newHost(p.web)
	if strike != nil {
		p.DB.Strike(func(s Step) error { return strike(p, s) })
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	ready := make(chan struct{})
	go func() {
		defer close(p.done)
		p.err = control.Run(ctx, control.Config{
			Store: p.DB, HTTP: p.webs, GRPC: p.rpcs, Agents: catalogue, Models: c.options.Models, Lookup: os.LookupEnv, TokenFile: c.token,
			Slots: c.options.Slots, SharedNone: c.options.SharedNone, Egress: c.options.Egress,
			Workflows: c.options.Workflows,
			Advertise: name, Host: "host of " + name, Lock: "lock", DialPeer: c.dialer(name),
			Ready: func() { close(ready) }, Log: c.options.Log,
		})
	}()
	select {
	case <-ready:
	case <-p.done:
		c.t.Fatalf("control did not start: %v", p.err)
	}
	c.mu.Lock()
	c.replicas[name] = p
	c.mu.Unlock()
	p.HTTP = client(p.web)
	secret, err := os.ReadFile(c.token)
	if err != nil {
		c.t.Fatal(err)
	}
	p.Token = strings.TrimSpace(string(secret))
	p.GRPC = p.Dial(c.t, p.Token)
	c.t.Cleanup(func() {
		p.HTTP.CloseIdleConnections()
		p.DB.Strike(nil)
		p.DB.Lose(nil)
		p.DB.thaw()
		p.Stop()
		if p.err != nil && !p.killed {
			c.t.Errorf("control ended with: %v", p.err)
		}
	})
	return p
}

// Peers is the network between two replicas, in the direction in which the first dials the second.
func (c *Cluster) Peers(from, to string) *Wire {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := [2]string{from, to}
	if c.peers[k] == nil {
		c.peers[k] = newWire()
	}
	return c.peers[k]
}

// Relay sets what is called before a replica tells another one something; it may hold that up for as long as it likes.
func (c *Cluster) Relay(f func(method string, req any)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.relay = f
}

// dialer connects a replica to others.
func (c *Cluster) dialer(from string) func(string, ...grpc.DialOption) (*grpc.ClientConn, error) {
	return func(to string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
		dial := func(ctx context.Context) (net.Conn, error) {
			c.mu.Lock()
			p := c.replicas[to]
			c.mu.Unlock()
			if p == nil {
				return nil, errCut
			}
			return p.grpc.DialContext(ctx)
		}
		wire := c.Peers(from, to)
		hold := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
			opts ...grpc.CallOption,
		) error {
			c.mu.Lock()
			relay := c.relay
			c.mu.Unlock()
			if relay != nil {
				before := time.Now()
				relay(method, req)
				if time.Now() != before { // it was on its way while time passed: nobody can call it back
					ctx = context.WithoutCancel(ctx)
				}
			}
			return invoke(ctx, method, req, reply, cc, opts...)
		}
		return grpc.NewClient("passthrough:///"+to, append(opts, rpc.Security(nil),
			grpc.WithChainUnaryInterceptor(hold),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn,
				error,
			) {
				return wire.dial(ctx, dial)
			}))...)
	}
}

func client(l *lobby) *http.Client {
	return &http.Client{Timeout: time.Hour, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.dial(ctx) },
	}}
}

// Redefine gives replicas that start from now on other definitions of agents, as a new version of a deployment does.
func (c *Cluster) Redefine(agents []agent.Definition) { c.options.Agents = agents }
