// Command control is the control plane's program: flags, environment, signals and listeners, and then control.Run.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control"
	"github.com/pawl-dev/pawl/services/control/agent"
)

const version = "0.1.0-dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // a second signal ends the process at once
	}()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "control:", oneLine(err))
		os.Exit(1)
	}
}

// oneLine is an error as one line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// options are the flags.
type options struct {
	http, grpc, data, agents, database, advertise, auth, logLevel string
	hosts, origins                                                []string
}

func command() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use: "control", Short: "Run the Pawl control plane", Version: version, Args: cobra.NoArgs,
		SilenceUsage: true, SilenceErrors: true,
		PreRunE: func(c *cobra.Command, _ []string) error { return fromEnvironment(c.Flags()) },
		RunE:    func(c *cobra.Command, _ []string) error { return serve(c.Context(), o) },
	}
	f := c.Flags()
	f.StringVar(&o.http, "http", "127.0.0.1:3000", "address of the HTTP listener; PORT changes its port")
	f.StringVar(&o.grpc, "grpc", "127.0.0.1:3001", "address of the gRPC listener")
	f.StringVar(&o.data, "data", ".pawl", "data directory")
	f.StringVar(&o.agents, "agents", "./agents", "directory of agent definitions; may be absent")
	f.StringVar(&o.database, "database", "", "memory, sqlite:PATH or postgres://… (default sqlite: in the data directory)")
	f.StringVar(&o.advertise, "advertise", "", "gRPC address at which other replicas reach this one")
	f.StringVar(&o.auth, "auth", "token", "token, or none: everyone who reaches the loopback listeners is an operator")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringSliceVar(&o.hosts, "host", nil, "host name beside loopback ones that HTTP requests may be addressed to")
	f.StringSliceVar(&o.origins, "origin", nil, "browser origin that may call")
	f.VisitAll(func(f *pflag.Flag) { f.Usage += " [" + variable(f.Name) + "]" })
	return c
}

// variable is the environment variable of a flag.
func variable(flag string) string {
	return "PAWL_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnvironment sets flags that were not given from their variables.
func fromEnvironment(f *pflag.FlagSet) (err error) {
	if port := os.Getenv("PORT"); port != "" && !f.Changed("http") && os.Getenv(variable("http")) == "" {
		err = f.Set("http", net.JoinHostPort("127.0.0.1", port))
	}
	f.VisitAll(func(one *pflag.Flag) {
		if v, ok := os.LookupEnv(variable(one.Name)); ok && !one.Changed && err == nil {
			if e := f.Set(one.Name, v); e != nil {
				err = fmt.Errorf("%s: %w", variable(one.Name), e)
			}
		}
	})
	return err
}

func (o options) check() error {
	if o.auth != "token" && o.auth != "none" {
		return fmt.Errorf("--auth is token or none, not %q", o.auth)
	}
	for flag, addr := range map[string]string{"--http": o.http, "--grpc": o.grpc} {
		if !rpc.Loopback(addr) {
			return fmt.Errorf("%s %s is not a loopback address, and this version cannot serve TLS: listen on 127.0.0.1 and put a TLS proxy in front", flag, addr)
		}
	}
	return nil
}

func serve(ctx context.Context, o options) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return fmt.Errorf("--log-level is debug, info, warn or error, not %q", o.logLevel)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	slog.SetDefault(log)
	if err := o.check(); err != nil {
		return err
	}
	catalogue, err := agent.Load(o.agents, os.LookupEnv, agent.Shell())
	if err != nil {
		return err
	}
	models, err := control.NewModels(os.Getenv)
	if err != nil {
		return err
	}
	lock, release, err := control.LockDataDir(o.data)
	if err != nil {
		return err
	}
	defer release() //nolint:errcheck // the process ends, and the lock with it
	if o.database == "" {
		o.database = "sqlite:" + filepath.Join(o.data, "pawl.db")
	}
	store, err := control.OpenStore(ctx, o.database, log)
	if err != nil {
		return err
	}
	defer func() {
		if err := store.Close(); err != nil {
			log.Error("closing the database failed", "error", err)
		}
	}()
	web, err := net.Listen("tcp", o.http)
	if err != nil {
		return fmt.Errorf("--http: %w", err)
	}
	rpcs, err := net.Listen("tcp", o.grpc)
	if err != nil {
		_ = web.Close()
		return fmt.Errorf("--grpc: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("finding the host's name: %w", err)
	}
	token := filepath.Join(o.data, "token")
	return control.Run(ctx, control.Config{
		Store: store, HTTP: web, GRPC: rpcs, Agents: catalogue, Models: models, Lookup: os.LookupEnv, TokenFile: token, Open: o.auth == "none",
		Hosts: o.hosts, Origins: o.origins, Advertise: o.advertise, Host: host, Lock: lock, Version: version, Log: log,
		Ready: func() { announce(web.Addr().String(), rpcs.Addr().String(), token, o) },
	})
}

// announce tells how to use what runs.
func announce(web, rpcs, token string, o options) {
	fmt.Printf("Pawl %s\n  HTTP   http://%s\n  gRPC   %s\n  state  %s\n  token  %s\n", version, web, rpcs, o.data, token)
	if o.auth == "none" {
		fmt.Println("  WARNING: --auth none: every user and every program of this host is an operator")
	}
	fmt.Printf("\nTry it:\n  curl -s http://%s/agents/shell/me -H \"Authorization: Bearer $(cat %s)\" \\\n    -H 'Content-Type: application/json' -d '{\"message\":\"say: hello\"}'\n", web, token)
}
