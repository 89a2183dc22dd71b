package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"google.golang.org/grpc"

	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/client"
	"github.com/pawl-dev/pawl/internal/gate"
	"github.com/pawl-dev/pawl/internal/loglimit"
	"github.com/pawl-dev/pawl/internal/memlimit"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/egress"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/project"
	"github.com/pawl-dev/pawl/services/executor"
)

// serve runs a control plane until ctx ends.
func (o *options) serve(ctx context.Context, out, logTo io.Writer) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	log, err := cli.Logger(logTo, o.logFormat, o.logLevel, control.DatabaseAway)
	if err != nil {
		return err
	}
	defer loglimit.Flush(log)
	slog.SetDefault(log)
	cfg, err := o.config(log)
	if err != nil {
		return err
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	cfg.Reload = reload
	memlimit.Apply(log)
	held, err := control.LockDataDir(o.data)
	if err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	if held.WasOpen {
		log.Warn("others could enter the data directory, now they cannot", "data", o.data)
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	if err := o.identify(&cfg, held); err != nil {
		return err
	}
	// Before the database, so that a second start on the same addresses is quick to say so.
	if err := o.listen(&cfg); err != nil {
		return err
	}
	o.name(&cfg)
	if cfg.Store, err = control.OpenStore(ctx, o.databaseAt(), log); err != nil {
		return errors.Join(notOpened(err), cfg.HTTP.Close(), cfg.GRPC.Close())
	}
	defer func() { err = errors.Join(err, cfg.Store.Close()) }()
	if o.executor == "builtin" {
		o.builtin(&cfg, held.Name(), nil)
	}
	here := o.addresses(cfg)
	var rest sync.WaitGroup
	ctx, end := context.WithCancel(ctx)
	defer func() { end(); rest.Wait() }()
	cfg.Ready = func() {
		if err := here.Write(o.data); err != nil {
			log.Warn("other commands will not find this control plane", "error", err)
		}
		rest.Go(func() { memlimit.Release(ctx, log) })
		o.announce(out, here)
	}
	// the lock is held: they can be nobody else's
	defer func() { err = errors.Join(err, client.RemoveAddresses(o.data)) }()
	return control.Run(ctx, cfg)
}

// notOpened is an error of the database's name, or of the database.
func notOpened(err error) error {
	if errors.Is(err, control.ErrDatabase) {
		return usage("--database: %w", err)
	}
	return fmt.Errorf("--database: %w", err)
}

// config is what is known before anything is opened: the models, the agents, and what flags say.
func (o *options) config(log *slog.Logger) (control.Config, error) {
	cfg := control.Config{
		Lookup: os.LookupEnv, TokenFile: client.TokenFile(o.data), Open: o.auth == "none", Hosts: o.hosts,
		Origins: o.origins,
		Version: cli.Version, Log: log, DisconnectGrace: o.grace,
		SharedNone: o.sharedNone, RetainEvents: o.retainEvents, RetainAudit: o.retainAudit,
	}
	var err error
	if cfg.WebFetch, err = egress.ParseHosts(o.webFetch); err != nil {
		return cfg, usage("--web-fetch-host: %w", err)
	}
	if cfg.HTTPHosts, err = egress.ParseHosts(o.httpHosts); err != nil {
		return cfg, usage("--http-host: %w", err)
	}
	models, err := control.NewModels(o.providers, os.LookupEnv)
	if err != nil {
		return cfg, err
	}
	cfg.Models = models
	p, err := project.Open(project.Files{
		Agents: o.agents, AgentsLater: o.agentsLater, Lookup: os.LookupEnv, Check: unlessKey(models.Check),
		Builtin: []agent.Definition{agent.Shell()},
	})
	if err != nil {
		return cfg, err
	}
	cfg.Agents, cfg.Workflows = p.Agents, p.Workflows
	for _, d := range cfg.Agents.All() {
		if err := models.Check(d.Model); err != nil {
			log.Warn("prompts of an agent will fail", "agent", d.Name, "error", err)
		}
		for _, ref := range d.Fallbacks {
			if err := models.Check(ref); err != nil {
				log.Warn("an agent cannot fall back on a model", "agent", d.Name, "error", err)
			}
		}
		if ref := d.Compacts().Model; ref != nil {
			if err := models.Check(*ref); err != nil {
				log.Warn("conversations of an agent cannot be summarised", "agent", d.Name, "error", err)
			}
		}
	}
	return cfg, nil
}

// identify says which process this is to others of the database.
func (o *options) identify(cfg *control.Config, held *control.DataDir) (err error) {
	// One process at a time has a SQLite database: the directory's name is proof enough there, after a restart of the
	// host too.
	cfg.Lock = held.Name()
	if o.shared() {
		if cfg.Lock, err = held.Lock(); err != nil {
			return err
		}
	}
	if cfg.Host, err = os.Hostname(); err != nil {
		return fmt.Errorf("finding the host's name: %w", err)
	}
	return nil
}

// name says by which addresses others call this process, which listens.
func (o *options) name(cfg *control.Config) {
	if o.shared() && o.advertise == "" {
		o.advertise = dialable(cfg.GRPC.Addr(), cfg.Host)
	}
	cfg.Advertise = o.advertise
	if host, _, err := net.SplitHostPort(o.http); err == nil && host != "" && !net.ParseIP(host).IsUnspecified() {
		cfg.Hosts = append(cfg.Hosts, host) // who listens on one address means to be called by it
	}
}

// dialable is how others dial a listener: one on every address by the name of its host.
func dialable(at net.Addr, host string) string {
	if tcp, ok := at.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort(host, strconv.Itoa(tcp.Port))
	}
	return at.String()
}

// unlessKey lets pass what only lacks a key: the other agents work without it.
func unlessKey(check agent.CheckModel) agent.CheckModel {
	return func(ref model.Ref) error {
		if err := check(ref); !errors.Is(err, model.ErrKeyMissing) {
			return err
		}
		return nil
	}
}

// listen opens the listeners, with TLS when there is a certificate.
func (o *options) listen(cfg *control.Config) error {
	secure, err := rpc.ServerTLS(o.cert, o.key)
	if err != nil {
		return err
	}
	limits, err := gate.OfDescriptors()
	if err != nil {
		return fmt.Errorf("finding how many files may be open: %w", err)
	}
	at := listening{gate: gate.New(limits, cfg.Log), secure: secure}
	if cfg.HTTP, err = at.listen("--http", o.http, "h2", "http/1.1"); err != nil {
		return err
	}
	if cfg.GRPC, err = at.listen("--grpc", o.grpc, "h2"); err != nil {
		return errors.Join(err, cfg.HTTP.Close())
	}
	if secure == nil {
		return nil
	}
	peers, err := rpc.ClientTLS(o.ca)
	if err != nil {
		return errors.Join(err, cfg.HTTP.Close(), cfg.GRPC.Close())
	}
	cfg.DialPeer = func(addr string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
		return grpc.NewClient(addr, append(opts, rpc.Security(peers))...)
	}
	return nil
}

// listening is what the listeners share: the limits of their connections, and TLS unless it is nil.
type listening struct {
	gate   *gate.Gate
	secure *tls.Config
}

func (at listening) listen(flag, addr string, protocols ...string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s %s is taken: stop what listens there, or choose another address with %s", flag,
			addr, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	l = at.gate.Listen(l)
	if at.secure == nil {
		return l, nil
	}
	secure := at.secure.Clone()
	secure.NextProtos = protocols
	return tls.NewListener(l, secure), nil
}

// builtin adds the executor that runs calls on this host. connected, unless it is nil, is called whenever it is there.
func (o *options) builtin(cfg *control.Config, dir string, connected func()) {
	cfg.BuiltinID = "builtin"
	if o.shared() {
		// Each replica has its own, and keeps it over restarts: what runs there is found again by its name.
		cfg.BuiltinID = fmt.Sprintf("builtin-%x", sha256.Sum256([]byte(cfg.Host+"\n"+dir)))[:16]
	}
	cfg.Builtin = func(ctx context.Context, dial func(context.Context) (*grpc.ClientConn, error)) error {
		return executor.Run(ctx, executor.Config{
			ID: cfg.BuiltinID, Root: o.root, DataDir: filepath.Join(o.data,
				"executor"), Dial: dial, Version: cli.Version, Logger: cfg.Log,
			Connected: connected,
		})
	}
}
