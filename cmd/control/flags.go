package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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

// options are the flags, a field each.
type options struct {
	data, database, direct     string // of subcommands too
	http, grpc, root, executor string
	agents, providers          string
	agentsLater                bool // the directory of agents need not be there yet
	advertise, cert, key, ca   string
	auth, logFormat, logLevel  string
	hosts, origins             []string
	webFetch                   []string // hosts whose pages agents may read
	httpHosts                  []string // hosts that workflows may reach
	sharedNone, noRowSecurity  bool
	grace                      time.Duration
	retainEvents, retainAudit  time.Duration
}

func (o *options) flags(c *cobra.Command) {
	p, f := c.PersistentFlags(), c.Flags()
	p.StringVar(&o.data, "data", defaultData, "`DIR`: data directory, with the state and the operator's token")
	p.StringVar(&o.database, "database", "",
		"`NAME`: where the state is: memory, sqlite:PATH or postgres://… (default: SQLite in the data directory)")
	p.StringVar(&o.direct, "database-direct", "",
		"`ADDRESS`: where --database is a pooler, the Postgres server behind it")
	p.BoolVar(&o.noRowSecurity, "no-row-security", false,
		"on Postgres, leave it to this program alone to keep tenants apart: where nobody can make the role that the "+
			"database needs for that")
	f.DurationVar(&o.retainEvents, "retain-events", retention.DefaultEvents,
		"how long the events of streams can be read again; transcripts are kept for good")
	f.DurationVar(&o.retainAudit, "retain-audit", retention.DefaultAudit,
		"how long the audit log is kept: who did what")
	f.StringVar(&o.http, "http", "127.0.0.1:3000", "`HOST:PORT`: address of the HTTP listener; without :PORT, or "+
		"without this flag, the port is the variable PORT's, if that is set")
	f.StringVar(&o.grpc, "grpc", "127.0.0.1:3001", "`HOST:PORT`: address of the gRPC listener")
	f.StringVar(&o.advertise, "advertise", "",
		"`HOST:PORT`: address at which other replicas reach the gRPC listener (default: the listener's own)")
	f.StringVar(&o.cert, "tls-cert", "", "`FILE`: certificate, PEM; both listeners then speak TLS")
	f.StringVar(&o.key, "tls-key", "", "`FILE`: key of the certificate, PEM")
	f.StringVar(&o.ca, "tls-ca", "", "`FILE`: authorities to trust in other replicas (default: the system's)")
	f.StringVar(&o.auth, "auth", "token",
		"`HOW`: how callers prove who they are: token, or none, which makes everybody on this host an operator")
	f.StringSliceVar(&o.hosts, "host", nil,
		"`HOST`: name, beside loopback ones, that HTTP requests may be addressed to; may be repeated")
	f.StringSliceVar(&o.origins, "origin", nil,
		"`ORIGIN`: browser origin, beside the server's own, whose pages may call; may be repeated")
	f.StringVar(&o.agents, "agents", "./agents",
		"`DIR`: agent definitions, with tools/, workflows/ and so on beside it; may be absent unless it is given; "+
			"SIGHUP reads all again")
	f.StringVar(&o.providers, "providers", "./providers.yaml",
		"`FILE`: configures model providers; may be absent unless it is given")
	f.StringSliceVar(&o.webFetch, "web-fetch-host", nil,
		"`HOST`: host, such as example.com or *.example.com, whose pages agents may read with web_fetch; may be "+
			"repeated; none are by default")
	f.StringSliceVar(&o.httpHosts, "http-host", nil,
		"`HOST`: host that http steps of workflows may reach, such as example.com or *.example.com; may be repeated; "+
			"none are by default")
	f.StringVar(&o.executor, "executor", "builtin",
		"`WHERE`: where calls run: builtin, which is this host, or none, which leaves them to other executors")
	f.StringVar(&o.root, "root", ".", "`DIR`: working directory of the built-in executor's calls")
	f.BoolVar(&o.sharedNone, "allow-shared-none", false,
		"let shared executors, the built-in one among them, serve several tenants without isolation")
	f.DurationVar(&o.grace, "disconnect-grace", 2*time.Minute,
		"how long an executor may be away before what it runs counts as lost")
	f.StringVar(&o.logFormat, "log-format", "text", "`FORMAT`: format of the log: text or json")
	f.StringVar(&o.logLevel, "log-level", "info", "`LEVEL`: least level that is logged: debug, info, warn or error")
	cli.NameVariables(p)
	cli.NameVariables(f)
	cli.Group(p, "State", "data", "database", "database-direct", "no-row-security")
	cli.Group(f, "State", "retain-events", "retain-audit")
	cli.Group(f, "Listeners", "http", "grpc", "advertise", "tls-cert", "tls-key", "tls-ca")
	cli.Group(f, "Access", "auth", "host", "origin")
	cli.Group(f, "Agents and models", "agents", "providers", "web-fetch-host", "http-host")
	cli.Group(f, "Executors", "executor", "root", "disconnect-grace", "allow-shared-none")
	cli.Group(f, "Log", "log-format", "log-level")
}

// fromEnvironment sets flags of the server that were not given from their variables, and the port of HTTP that was
// left open.
func (o *options) fromEnvironment(c *cobra.Command) error {
	if c.HasParent() {
		return nil
	}
	port, f := os.Getenv("PORT"), c.Flags()
	if err := cli.FromEnvironment(f); err != nil {
		return err
	}
	if port != "" && !f.Changed("http") {
		o.http = net.JoinHostPort("127.0.0.1", port)
	}
	if host := strings.TrimSuffix(o.http, ":"); isHost(host) {
		o.http = net.JoinHostPort(strings.Trim(host, "[]"), cmp.Or(port, "3000"))
	}
	return nil
}

// isHost reports whether an address is a host without a port.
func isHost(addr string) bool {
	_, number := strconv.Atoi(addr)
	_, _, err := net.SplitHostPort(addr)
	return addr != "" && err != nil && number != nil &&
		(net.ParseIP(strings.Trim(addr, "[]")) != nil || !strings.Contains(addr, ":"))
}

// databaseName is the database, by default a file in the data directory.
func (o *options) databaseName() string {
	return cmp.Or(o.database, "sqlite:"+filepath.Join(o.data, "pawl.db"))
}

// databaseAt is the database with the ways there.
func (o *options) databaseAt() control.Database {
	return control.Database{Name: o.databaseName(), Direct: o.direct, NoRowSecurity: o.noRowSecurity}
}

// makeDo does without what is absent where nobody has asked for it. The directory of agents may come later.
func (o *options) makeDo(given func(flag string) bool) {
	o.agentsLater = !given("agents")
	if _, err := os.Stat(o.providers); !given("providers") && errors.Is(err, fs.ErrNotExist) {
		o.providers = ""
	}
}

// shared reports whether several replicas may use the database.
func (o *options) shared() bool { return strings.HasPrefix(o.databaseName(), "postgres") }

// usage is an error of the command line.
func usage(format string, args ...any) error {
	return cli.WithCode(fmt.Errorf(format, args...), cli.Usage)
}

func oneOf(flag, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return usage("--%s is %s, not %q", flag, strings.Join(allowed, " or "), value)
}

// isOrigin reports whether s is an origin as browsers send it. No other text ever matches one, "*" included: each
// origin is named.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.Hostname() != "*" &&
		s == strings.ToLower(u.Scheme+"://"+u.Host)
}

// check refuses what is not allowed, and says what would be.
func (o *options) check() error {
	if err := errors.Join(oneOf("auth", o.auth, "token", "none"),
		oneOf("executor", o.executor, "builtin", "none")); err != nil {
		return err
	}
	if o.grace <= 0 {
		return usage("--disconnect-grace must be longer than 0, not %s", o.grace)
	}
	if o.retainEvents < time.Minute {
		return usage("--retain-events is at least 1m, not %s: whoever loses a connection goes on from the events",
			o.retainEvents)
	}
	if o.retainAudit < time.Hour {
		return usage("--retain-audit is at least 1h, not %s", o.retainAudit)
	}
	for _, origin := range o.origins {
		if !isOrigin(origin) {
			return usage("--origin is SCHEME://HOST or SCHEME://HOST:PORT in lower case, as browsers send it, not %q",
				origin)
		}
	}
	for _, l := range []struct{ flag, addr string }{{"--http", o.http}, {"--grpc", o.grpc}} {
		if _, _, err := net.SplitHostPort(l.addr); err != nil {
			return usage("%s is HOST:PORT, not %q", l.flag, l.addr)
		}
		if err := cli.CheckPort(l.flag, l.addr); err != nil {
			return err
		}
		if rpc.Loopback(l.addr) {
			continue
		}
		if o.auth == "none" {
			return usage("--auth none is for loopback listeners, and %s %s can be reached from other hosts: use "+
				"--auth token", l.flag, l.addr)
		}
		if o.cert == "" {
			return usage("%s %s can be reached from other hosts, and tokens would travel in the clear: give "+
				"--tls-cert FILE and --tls-key FILE, or listen on 127.0.0.1", l.flag, l.addr)
		}
	}
	if (o.cert == "") != (o.key == "") {
		return usage("TLS needs both a certificate and a key: give --tls-cert FILE and --tls-key FILE")
	}
	host, port, err := net.SplitHostPort(o.advertise)
	if o.advertise != "" && (err != nil || host == "" || port == "") {
		return usage("--advertise is HOST:PORT, as other replicas dial it, not %q", o.advertise)
	}
	if o.advertise != "" {
		if err := cli.CheckPort("--advertise", o.advertise); err != nil {
			return err
		}
	}
	if info, err := os.Stat(o.root); o.executor == "builtin" && (err != nil || !info.IsDir()) {
		return usage("--root %s is not a directory", o.root)
	}
	return nil
}
