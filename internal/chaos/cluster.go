package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/chaos/proxy"
	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/internal/proctest"
	"github.com/pawl-dev/pawl/internal/rpc"
)

// The size of the platform under test.
const (
	replicas  = 3
	executors = 3
	sessions  = 8
	readers   = 2 // of each session
	slots     = 6 // of each executor: few enough for calls to wait
)

// readyWithin bounds the start of everything.
const readyWithin = time.Minute

// replica is a control process with what leads to it and from it.
type replica struct {
	*node
	grpc, http string
	token      string // file

	peer, database       *proxy.Proxy
	frontGRPC, frontHTTP *proxy.Proxy
	conn                 *grpc.ClientConn // of clients
}

// executor is an executor process with its way to control, which leads to any replica that serves.
type executor struct {
	*node
	id, data, root string
	control        *proxy.Proxy
}

// cluster is the platform under test.
type cluster struct {
	dir       string
	effects   string // directory
	database  *pgtest.Cluster
	replicas  []*replica
	executors []*executor
	approvers []*approver
	providers string // file
	nodes     *errgroup.Group
	life      context.Context
	end       context.CancelFunc
	closers   []func()
}

// any is some replica.
func (c *cluster) any(r *rand.Rand) *replica { return c.replicas[r.IntN(len(c.replicas))] }

// newCluster starts everything and waits until it works. programs is where they were built.
func newCluster(ctx context.Context, dir, programs string) (c *cluster, err error) {
	c = &cluster{dir: dir, effects: filepath.Join(dir, "effects")}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	c.end = end
	c.nodes, c.life = errgroup.WithContext(life)
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	for _, sub := range []string{filesDir, gatesDir} {
		if err := os.MkdirAll(filepath.Join(c.effects, sub), 0o700); err != nil {
			return c, err
		}
	}
	if err := c.addProvider(); err != nil {
		return c, err
	}
	// What a crash of Postgres loses without fsync is nothing: the kernel lives on.
	if c.database, err = pgtest.Start(ctx, pgtest.Options{NoFsync: true, Clock: true}); err != nil {
		return c, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for i := range replicas {
		if err := c.addReplica(i, programs); err != nil {
			return c, err
		}
	}
	for i, r := range c.replicas {
		if err := poll(ctx, fmt.Sprintf("replica %d to serve", i), r.healthy); err != nil {
			return c, err
		}
	}
	if err := errors.Join(c.record(ctx), c.addApprovers(ctx)); err != nil {
		return c, err
	}
	for i := range executors {
		if err := c.addExecutor(ctx, i, programs); err != nil {
			return c, err
		}
	}
	return c, c.connected(ctx)
}

func (c *cluster) proxy(dial proxy.Dial) (*proxy.Proxy, error) {
	p, err := proxy.Listen(dial)
	if err == nil {
		c.closers = append(c.closers, p.Close)
	}
	return p, err
}

// proxies opens several.
func (c *cluster) proxies(dials map[**proxy.Proxy]proxy.Dial) (err error) {
	for p, dial := range dials {
		if *p, err = c.proxy(dial); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) addReplica(i int, programs string) (err error) {
	data := filepath.Join(c.dir, fmt.Sprintf("replica%d", i))
	agents := filepath.Join(data, "agents")
	if err := os.MkdirAll(agents, 0o700); err != nil {
		return err
	}
	for name, models := range map[string]string{agentName: "offline/shell", fallingName: "[busy/all, offline/shell]"} {
		text := fmt.Sprintf(agent, models)
		if err := os.WriteFile(filepath.Join(agents, name+".md"), []byte(text), 0o600); err != nil {
			return err
		}
	}
	r := &replica{token: filepath.Join(data, "token")}
	if r.grpc, err = proctest.FreeAddr(); err != nil {
		return err
	}
	if r.http, err = proctest.FreeAddr(); err != nil {
		return err
	}
	db, err := url.Parse(c.database.URL)
	if err != nil {
		return err
	}
	err = c.proxies(map[**proxy.Proxy]proxy.Dial{
		&r.peer: proxy.To(r.grpc), &r.database: proxy.To(db.Host), &r.frontGRPC: proxy.To(r.grpc), &r.frontHTTP: proxy.To(r.http),
	})
	if err != nil {
		return err
	}
	db.Host = r.database.Addr()
	r.node = newNode(c.dir, fmt.Sprintf("replica%d", i), filepath.Join(programs, "control"),
		"--http", r.http, "--grpc", r.grpc, "--data", data, "--agents", agents, "--database", db.String(),
		"--providers", c.providers,
		"--advertise", r.peer.Addr(), "--executor", "none", "--disconnect-grace", grace.String(), "--log-level", "debug")
	c.replicas = append(c.replicas, r)
	c.nodes.Go(func() error { return r.run(c.life) })
	r.conn, err = c.dial(r, rpc.File(r.token))
	return err
}

// dial connects a client, with a token, to a replica.
func (c *cluster) dial(r *replica, secret func(context.Context) (string, error)) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(r.frontGRPC.Addr(), append(rpc.DialOptions(), rpc.Security(nil),
		grpc.WithPerRPCCredentials(rpc.Token{Secret: secret, Plaintext: true}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{
			BaseDelay:  50 * time.Millisecond,
			Multiplier: 1.5, MaxDelay: 500 * time.Millisecond,
		}, MinConnectTimeout: time.Second}))...)
	if err == nil {
		c.closers = append(c.closers, func() { _ = conn.Close() })
	}
	return conn, err
}

func (r *replica) healthy(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.http+"/healthz", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK
}

func (c *cluster) addExecutor(ctx context.Context, i int, programs string) error {
	x := &executor{id: fmt.Sprintf("x%d", i), data: filepath.Join(c.dir, fmt.Sprintf("executor%d", i))}
	made, err := pawlv1.NewTokenServiceClient(c.replicas[0].conn).CreateToken(ctx, &pawlv1.CreateTokenRequest{
		Principal: &pawlv1.CreateTokenRequest_Executor{Executor: &pawlv1.ExecutorPrincipal{ExecutorId: x.id}},
	})
	if err != nil {
		return fmt.Errorf("making the token of executor %s: %w", x.id, err)
	}
	token := filepath.Join(c.dir, x.id+".token")
	x.root = filepath.Join(c.dir, x.id+".root")
	if err := errors.Join(os.WriteFile(token, []byte(made.GetSecret()), 0o600), os.Mkdir(x.root, 0o700)); err != nil {
		return err
	}
	if x.control, err = c.proxy(c.dialAny); err != nil {
		return err
	}
	x.node = newNode(c.dir, fmt.Sprintf("executor%d", i), filepath.Join(programs, "executor"),
		"--control", x.control.Addr(), "--token-file", token, "--name", x.id, "--root", x.root,
		"--data", x.data, "--log-level", "debug", "--slots", strconv.Itoa(slots))
	c.executors = append(c.executors, x)
	c.nodes.Go(func() error { return x.run(c.life) })
	return nil
}

// dialAny is a load balancer in front of the replicas.
func (c *cluster) dialAny(ctx context.Context) (net.Conn, error) {
	order := rand.Perm(len(c.replicas))
	for _, i := range order {
		if r := c.replicas[i]; r.serves() {
			if conn, err := proxy.To(r.grpc)(ctx); err == nil {
				return conn, nil
			}
		}
	}
	return nil, errors.New("no replica serves")
}

// connected waits until every executor is.
func (c *cluster) connected(ctx context.Context) error {
	fleet := pawlv1.NewExecutorServiceClient(c.replicas[0].conn)
	for _, x := range c.executors {
		err := poll(ctx, "executor "+x.id+" to connect", func(ctx context.Context) bool {
			got, err := fleet.GetExecutor(ctx, &pawlv1.GetExecutorRequest{ExecutorId: x.id})
			return err == nil && got.GetExecutor().GetConnected()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// poll waits for what tells nobody that it happened.
func poll(ctx context.Context, what string, ok func(context.Context) bool) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok(ctx) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// query opens a connection to the database that no fault of a proxy is on.
func (c *cluster) query(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, c.database.URL)
}

//go:embed record.sql
var record string

// agent is the definition of who is prompted: the model without a network, sub-agents, and rules about commands that
// begin with a word for them.
const agent = `---
model: %s
tools: [bash, write, edit, task]
approve:
  - {tool: bash, when: 'args.command.startsWith(": never;")', do: deny}
  - {tool: bash, when: 'args.command.startsWith(": ask;")', do: ask}
  - {tool: bash, when: 'args.command.startsWith(": soon;")', do: ask, timeout: 4s}
  - {tool: bash, when: 'args.command.startsWith(": anyway;")', do: ask, timeout: 4s, on_timeout: allow}
---
Run the message as shell commands, and answer with what they print.
`

// record makes the database remember what only it can tell: each change of ownership, settlement and outcome, with what
// held at that moment under the row's lock.
func (c *cluster) record(ctx context.Context) error {
	conn, err := c.query(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // of a connection that is done
	for range 10 {        // replicas are at work: the locks of their statements and of these may stand against each other
		var deadlock *pgconn.PgError
		if _, err = conn.Exec(ctx, record); !errors.As(err, &deadlock) || deadlock.Code != "40P01" {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("making the database record: %w", err)
	}
	return nil
}

// heal takes every fault back.
func (c *cluster) heal(ctx context.Context) error {
	for _, r := range c.replicas {
		for _, p := range []*proxy.Proxy{r.peer, r.database, r.frontGRPC, r.frontHTTP} {
			p.Set(proxy.Mode{})
		}
		r.thaw()
		r.up()
	}
	for _, x := range c.executors {
		x.control.Set(proxy.Mode{})
		x.thaw()
		x.up()
	}
	if err := c.database.SetClock(0); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	var failed error
	err := poll(ctx, "the database to be mended", func(ctx context.Context) bool {
		conn, err := c.query(ctx)
		if failed = err; err != nil {
			return false
		}
		defer conn.Close(ctx) //nolint:errcheck // of a connection that is done
		_, failed = conn.Exec(ctx, "DELETE FROM chaos.refused; SELECT chaos.mend(false)")
		return failed == nil
	})
	if err != nil {
		return errors.Join(err, failed)
	}
	return nil
}

// stopPrograms ends executors, replicas and keepers.
func (c *cluster) stopPrograms() error {
	c.end()
	err := c.nodes.Wait()
	for _, x := range c.executors {
		for _, pid := range keepers(x.data) {
			kill(pid)
		}
	}
	// What a keeper kept dies with nobody to tell it to.
	processes("environ", c.dir, func(pid int, env []byte) { kill(pid) })
	return err
}

// stop ends everything.
func (c *cluster) stop() error {
	err := c.stopPrograms()
	for _, f := range c.closers {
		f()
	}
	c.closers = nil
	if c.database != nil {
		err = errors.Join(err, c.database.Stop())
	}
	return err
}
