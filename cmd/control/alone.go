package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control"
)

// alone is a control plane that lasts as long as one command. Its state is in memory.
type alone struct {
	dir                 string // of the project
	webFetch, httpHosts []string
}

// Flags implements client.Alone.
func (a *alone) Flags(f *pflag.FlagSet) {
	f.StringVar(&a.dir, "dir", ".", "`DIR` of the project, when no control plane runs")
	f.StringSliceVar(&a.webFetch, "web-fetch-host", nil, "`HOST`: as of `control`, when no control plane runs")
	f.StringSliceVar(&a.httpHosts, "http-host", nil, "`HOST`: as of `control`, when no control plane runs")
}

// Start implements client.Alone.
func (a *alone) Start(
	ctx context.Context, logTo io.Writer,
) (dial func(context.Context) (*grpc.ClientConn, error), stop func() error, err error) {
	data, err := os.MkdirTemp("", "pawl-run-")
	if err != nil {
		return nil, nil, fmt.Errorf("making a directory for this run: %w", err)
	}
	clean := func() error { return os.RemoveAll(data) }
	ready := make(chan struct{})
	var once sync.Once
	cfg, held, err := a.config(data, logTo, func() { once.Do(func() { close(ready) }) })
	if err != nil {
		return nil, nil, errors.Join(err, clean())
	}
	end := func() error { return errors.Join(cfg.Store.Close(), held.Close(), clean()) }
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	addr := cfg.GRPC.Addr().String()
	go func() { done <- control.Run(ctx, cfg) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		return nil, nil, errors.Join(err, end())
	}
	secret := rpc.Token{Secret: rpc.File(cfg.TokenFile), Plaintext: true}
	dial = func(context.Context) (*grpc.ClientConn, error) {
		return grpc.NewClient(addr, append(rpc.DialOptions(), rpc.Security(nil), grpc.WithPerRPCCredentials(secret))...)
	}
	return dial, func() error { cancel(); return errors.Join(<-done, end()) }, nil
}

// config is a control plane over a directory of its own, which it does not serve yet. connected is called once it can
// run what steps do.
func (a *alone) config(
	data string, logTo io.Writer, connected func(),
) (cfg control.Config, held *control.DataDir, err error) {
	o := &options{
		data: data, database: "memory", root: a.dir, executor: "builtin", auth: "token",
		agents: filepath.Join(a.dir, "agents"), agentsLater: true, providers: filepath.Join(a.dir, "providers.yaml"),
		webFetch: a.webFetch, httpHosts: a.httpHosts,
	}
	log, err := cli.Logger(logTo, "text", "error", control.DatabaseAway)
	if err != nil {
		return cfg, nil, err
	}
	o.makeDo(func(string) bool { return false })
	if cfg, err = o.config(log); err != nil {
		return cfg, nil, err
	}
	if held, err = control.LockDataDir(data); err != nil {
		return cfg, nil, err
	}
	if err = o.identify(&cfg, held); err == nil {
		cfg.Store, err = control.OpenStore(context.Background(), o.databaseAt(), log)
	}
	if err == nil {
		if cfg.GRPC, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			err = errors.Join(err, cfg.Store.Close())
		}
	}
	if err != nil {
		return cfg, nil, errors.Join(err, held.Close())
	}
	o.builtin(&cfg, held.Name(), connected)
	return cfg, held, nil
}
