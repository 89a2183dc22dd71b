package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control"
	"github.com/pawl-dev/pawl/services/control/retention"
)

// defaultData is the data directory of whoever names none.
const defaultData = ".pawl"

// options are the flags.
type options struct {
	data, database, direct     string // of subcommands too
	http, grpc, root, executor string
	agents, providers          string
	advertise, cert, key, ca   string
	auth, logFormat, logLevel  string
	hosts, origins             []string
	grace                      time.Duration
	retainEvents               time.Duration
}

func (o *options) flags(c *cobra.Command) {
	p, f := c.PersistentFlags(), c.Flags()
	p.StringVar(&o.data, "data", defaultData, "data directory")
	p.StringVar(&o.database, "database", "", "where the state is: memory, sqlite:PATH or postgres://… (default: SQLite in the data directory)")
	p.StringVar(&o.direct, "database-direct", "", "where --database is a pooler: the address of the Postgres server behind it")
	f.StringVar(&o.http, "http", "127.0.0.1:3000", "address of the HTTP listener; PORT alone changes its port")
	f.StringVar(&o.grpc, "grpc", "127.0.0.1:3001", "address of the gRPC listener")
	f.StringVar(&o.agents, "agents", "./agents", "directory of agent definitions; may be absent unless it is given")
	f.StringVar(&o.providers, "providers", "./providers.yaml", "file that configures model providers; may be absent unless it is given")
	f.StringVar(&o.root, "root", ".", "working directory of the built-in executor's calls")
	f.StringVar(&o.executor, "executor", "builtin", "where calls run: builtin, which is this host, or none, which leaves them to other executors")
	f.StringVar(&o.advertise, "advertise", "", "address at which other replicas reach the gRPC listener (default: the listener's own)")
	f.StringVar(&o.cert, "tls-cert", "", "certificate, a PEM file; both listeners then speak TLS")
	f.StringVar(&o.key, "tls-key", "", "key of the certificate, a PEM file")
	f.StringVar(&o.ca, "tls-ca", "", "authorities to trust in other replicas, a PEM file (default: the system's)")
	f.StringVar(&o.auth, "auth", "token", "how callers prove who they are: token, or none, which makes everybody on this host an operator")
	f.StringSliceVar(&o.hosts, "host", nil, "host name, beside loopback ones, that HTTP requests may be addressed to")
	f.StringSliceVar(&o.origins, "origin", nil, "origin, beside the server's own, whose pages may call")
	f.DurationVar(&o.grace, "disconnect-grace", 2*time.Minute, "how long an executor may be away before what it runs counts as lost")
	f.DurationVar(&o.retainEvents, "retain-events", retention.DefaultEvents, "how long the events of streams can be read again; transcripts are kept for good")
	f.StringVar(&o.logFormat, "log-format", "text", "format of the log: text or json")
	f.StringVar(&o.logLevel, "log-level", "info", "least level that is logged: debug, info, warn or error")
	cli.NameVariables(p)
	cli.NameVariables(f)
}

// fromEnvironment sets flags that were not given from their variables. A subcommand's own flags have none: they say what to do once.
func fromEnvironment(c *cobra.Command) error {
	f := c.Flags()
	if c.HasParent() {
		f = c.InheritedFlags()
	}
	if port := os.Getenv("PORT"); port != "" && !c.HasParent() && !f.Changed("http") && os.Getenv(cli.Variable("http")) == "" {
		if err := f.Set("http", net.JoinHostPort("127.0.0.1", port)); err != nil {
			return err
		}
	}
	return cli.FromEnvironment(f)
}

// databaseName is the database, by default a file in the data directory.
func (o *options) databaseName() string {
	return cmp.Or(o.database, "sqlite:"+filepath.Join(o.data, "pawl.db"))
}

// databaseAt is the database with the ways there.
func (o *options) databaseAt() control.Database {
	return control.Database{Name: o.databaseName(), Direct: o.direct}
}

// makeDo empties the paths of what may be absent where nobody has asked for it.
func (o *options) makeDo(given func(flag string) bool) {
	for flag, path := range map[string]*string{"agents": &o.agents, "providers": &o.providers} {
		if _, err := os.Stat(*path); !given(flag) && errors.Is(err, fs.ErrNotExist) {
			*path = ""
		}
	}
}

// shared reports whether several replicas may use the database.
func (o *options) shared() bool { return strings.HasPrefix(o.databaseName(), "postgres") }

func oneOf(flag, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return fmt.Errorf("--%s is %s, not %q", flag, strings.Join(allowed, " or "), value)
}

// check refuses what is not allowed, and says what would be.
func (o *options) check() error {
	err := errors.Join(oneOf("auth", o.auth, "token", "none"), oneOf("executor", o.executor, "builtin", "none"))
	if err != nil {
		return err
	}
	if o.grace <= 0 {
		return fmt.Errorf("--disconnect-grace must be longer than 0, not %s", o.grace)
	}
	if o.retainEvents < time.Minute {
		return fmt.Errorf("--retain-events is at least 1m, not %s: whoever loses a connection goes on from the events", o.retainEvents)
	}
	for _, l := range []struct{ flag, addr string }{{"--http", o.http}, {"--grpc", o.grpc}} {
		if _, _, err := net.SplitHostPort(l.addr); err != nil {
			return fmt.Errorf("%s is HOST:PORT, not %q", l.flag, l.addr)
		}
		if rpc.Loopback(l.addr) {
			continue
		}
		if o.auth == "none" {
			return fmt.Errorf("--auth none is for loopback listeners, and %s %s can be reached from other hosts: use --auth token", l.flag, l.addr)
		}
		if o.cert == "" {
			return fmt.Errorf("%s %s can be reached from other hosts, and tokens would travel in the clear: give --tls-cert FILE and --tls-key FILE, or listen on 127.0.0.1", l.flag, l.addr)
		}
	}
	if host, port, err := net.SplitHostPort(o.advertise); o.advertise != "" && (err != nil || host == "" || port == "") {
		return fmt.Errorf("--advertise is HOST:PORT, as other replicas dial it, not %q", o.advertise)
	}
	if info, err := os.Stat(o.root); o.executor == "builtin" && (err != nil || !info.IsDir()) {
		return fmt.Errorf("--root %s is not a directory", o.root)
	}
	return nil
}
