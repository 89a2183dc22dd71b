// Command executor is the executor's program: flags, environment, signals, and then executor.Run.
package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/loglimit"
	"github.com/pawl-dev/pawl/internal/memlimit"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/executor"
	"github.com/pawl-dev/pawl/services/executor/keeper"
)

func main() {
	if keeper.Invoked() {
		os.Exit(keeper.Main())
	}
	cli.Main(func(ctx context.Context) error { return cli.Execute(ctx, command()) })
}

// maxSlots is what control takes.
const maxSlots = 10_000

// options are the flags.
type options struct {
	control                                              []string
	tokenFile, name, root, data, ca, logFormat, logLevel string
	labels                                               map[string]string
	slots                                                int
	tls                                                  bool
}

func command() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use: "executor", Short: "Execute tool calls for a Pawl control plane", Args: cli.Args(0),
		Long: "Execute tool calls for a Pawl control plane on this host: it dials control and needs no open port.\n\n" +
			"The token comes from --token-file or PAWL_TOKEN, never from a flag.",
		Example: "executor --token-file gpu1.token --name gpu1 --label gpu=a100\n" +
			"executor --control a.pawl.example:3001,b.pawl.example:3001 --tls --token-file gpu1.token --name gpu1",
		PreRunE: func(c *cobra.Command, _ []string) error { return cli.FromEnvironment(c.Flags()) },
		RunE:    func(c *cobra.Command, _ []string) error { return o.run(c.Context(), c.ErrOrStderr()) },
	}
	f := c.Flags()
	f.StringSliceVar(&o.control, "control", []string{"127.0.0.1:3001"},
		"`HOST:PORT`: address of control's gRPC listener; several, with commas or repeated, are tried in turn")
	f.StringVar(&o.tokenFile, "token-file", "",
		"`FILE`: holds this executor's token (or its value in PAWL_TOKEN)")
	f.StringVar(&o.name, "name", "", "`NAME`: id of this executor, as its token names it (default: the host's name)")
	f.StringToStringVar(&o.labels, "label", nil,
		"`KEY=VALUE`: label that agents select executors by; may be repeated")
	f.StringVar(&o.root, "root", "", "`DIR`: working directory of the calls (default: this one)")
	f.StringVar(&o.data, "data", "", "`DIR`: data directory: journal and output of running commands (default: "+
		".pawl/executor-NAME)")
	f.IntVar(&o.slots, "slots", 64, "`N`: how many calls run at once")
	f.BoolVar(&o.tls, "tls", false, "use TLS to control; needed unless control is on this host")
	f.StringVar(&o.ca, "tls-ca", "", "`FILE`: authorities to trust instead of the system's, PEM; implies --tls")
	f.StringVar(&o.logFormat, "log-format", "text", "`FORMAT`: format of the log: text or json")
	f.StringVar(&o.logLevel, "log-level", "info", "`LEVEL`: least level that is logged: debug, info, warn or error")
	cli.NameVariables(f)
	return c
}

func (o *options) run(ctx context.Context, logTo io.Writer) error {
	log, err := cli.Logger(logTo, o.logFormat, o.logLevel, nil)
	if err != nil {
		return err
	}
	defer loglimit.Flush(log)
	cfg, err := o.config()
	if err != nil {
		return err
	}
	cfg.Logger = log
	memlimit.Apply(log)
	return executor.Run(ctx, cfg)
}

func (o *options) config() (executor.Config, error) {
	secure, err := o.transport()
	if err != nil {
		return executor.Config{}, err
	}
	token, err := o.token()
	if err != nil {
		return executor.Config{}, err
	}
	name := o.name
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			return executor.Config{}, fmt.Errorf("finding the host's name (give one with --name): %w", err)
		}
	}
	data := o.data
	if data == "" {
		data = filepath.Join(".pawl", "executor-"+name)
	}
	if err := ident.CheckExecutor(name); err != nil && o.name != "" {
		return executor.Config{}, usage("--name: %w", err)
	}
	if info, err := os.Stat(cmp.Or(o.root, ".")); err != nil || !info.IsDir() {
		return executor.Config{}, usage("--root %s is not a directory", o.root)
	}
	if o.slots < 1 || o.slots > maxSlots {
		return executor.Config{}, usage("--slots is 1 to %d, not %d", maxSlots, o.slots)
	}
	for key, value := range o.labels {
		if err := ident.CheckLabel(key, value); err != nil {
			return executor.Config{}, usage("--label %s=%s: %w", key, value, err)
		}
	}
	return executor.Config{
		ID: name, Labels: o.labels, Slots: o.slots, Root: o.root, DataDir: data, Version: cli.Version,
		Targets: o.control, TLS: secure, Token: token,
	}, nil
}

// usage is an error of the command line.
func usage(format string, args ...any) error {
	return cli.WithCode(fmt.Errorf(format, args...), cli.Usage)
}

func (o *options) transport() (*tls.Config, error) {
	for _, addr := range o.control {
		if _, port, err := net.SplitHostPort(addr); (err != nil || port == "") && !strings.HasPrefix(addr, "unix:") {
			return nil, usage("--control is HOST:PORT, control's gRPC listener, not %q", addr)
		}
		if strings.HasPrefix(addr, "unix:") {
			continue
		}
		if err := cli.CheckPort("--control", addr); err != nil {
			return nil, err
		}
	}
	if len(o.control) == 0 {
		return nil, usage("--control is HOST:PORT, control's gRPC listener, and cannot be empty")
	}
	if o.tls || o.ca != "" {
		return rpc.ClientTLS(o.ca)
	}
	for _, addr := range o.control {
		if !rpc.Loopback(addr) && !strings.HasPrefix(addr, "unix:") {
			return nil, usage("--control %s is not on this host, and the token would travel in the clear: add "+
				"--tls (and --tls-ca FILE for a private authority)", addr)
		}
	}
	return nil, nil
}

// token is read anew for every connection when it is a file, so that it can be rotated.
func (o *options) token() (func(context.Context) (string, error), error) {
	secret := os.Getenv("PAWL_TOKEN")
	switch {
	case o.tokenFile != "":
		read := rpc.File(o.tokenFile)
		v, err := read(context.Background())
		if err == nil && v == "" {
			err = fmt.Errorf("the token file %s is empty", o.tokenFile)
		}
		return read, err
	case secret != "":
		return rpc.Static(strings.TrimSpace(secret)), nil
	}
	return nil, usage("no token: give --token-file FILE, or set PAWL_TOKEN")
}
