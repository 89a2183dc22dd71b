package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/rpc"
)

// answerWithin is how long a control plane may take to say that it is there.
const answerWithin = 3 * time.Second

// connection is how a command finds its control plane, and what else all commands have in common.
type connection struct {
	options Options

	server, tokenFile, ca string
	tls                   bool
	output                string
	limit                 int            // of items that a list shows, 0 for none
	own                   *pflag.FlagSet // the flags that flags has added
}

// flags adds the flags to a command and its subcommands.
func (o *connection) flags(c *cobra.Command) {
	f := c.PersistentFlags()
	f.StringVar(&o.server, "server", "",
		"`HOST:PORT`: gRPC listener of a control plane elsewhere (default: the one that runs on --data)")
	f.StringVar(&o.tokenFile, "token-file", "",
		"`FILE`: holds the token for --server; its value may be in PAWL_TOKEN instead")
	f.BoolVar(&o.tls, "tls", false, "use TLS; needed unless --server is on this host")
	f.StringVar(&o.ca, "ca", "", "`FILE`: authorities to trust instead of the system's, PEM; implies --tls")
	cli.NameVariables(f)
	cli.Group(f, "Which control plane", "server", "token-file", "tls", "ca")
	o.own = f
	c.PersistentPreRunE = o.prepare
}

// prepare reads the variables of the flags that were not given. Who names a data directory means that one, whatever
// the variables say.
func (o *connection) prepare(c *cobra.Command, _ []string) error {
	local := c.Flags().Changed("data") && !c.Flags().Changed("server")
	for _, f := range []*pflag.FlagSet{c.InheritedFlags(), o.own} {
		if err := cli.FromEnvironment(f); err != nil {
			return err
		}
	}
	if local {
		o.server = ""
	}
	return nil
}

// json adds -o to a command that reads something.
func (o *connection) json(c *cobra.Command) *cobra.Command {
	c.Flags().StringVarP(&o.output, "output", "o", "table", "`FORMAT`: format of the output, table or json")
	return c
}

// checkOutput refuses what -o and --limit do not know.
func (o *connection) checkOutput(c *cobra.Command) error {
	if o.output != "" && o.output != "table" && o.output != "json" {
		return cli.Misused(c, fmt.Errorf("--output is table or json, not %q", o.output))
	}
	if o.limit < 0 {
		return cli.Misused(c, fmt.Errorf("--limit is a number of items, or 0 for all, not %d", o.limit))
	}
	return nil
}

// unreachable is an error because of which no control plane could be asked.
func unreachable(err error) error { return cli.WithCode(err, cli.Unreachable) }

// dial connects to the control plane. Neither a connection nor an error says that none runs on the data directory.
func (o *connection) dial(ctx context.Context) (*grpc.ClientConn, error) {
	if o.server != "" {
		return o.dialServer(ctx)
	}
	if o.options.Data == nil {
		return nil, cli.WithCode(errors.New("no control plane is named: give --server HOST:PORT, or set PAWL_SERVER"),
			cli.Usage)
	}
	a, ok, err := ReadAddresses(*o.options.Data)
	if err != nil || !ok {
		return nil, err
	}
	var secure *tls.Config
	if a.Cert != "" {
		if secure, err = pinned(a.Cert); err != nil {
			return nil, err
		}
	}
	secret := rpc.File(TokenFile(*o.options.Data))
	conn, err := check(ctx, a.GRPC, secure, secret)
	if status.Code(err) == codes.Unavailable { // what a killed one left behind
		return nil, nil
	}
	if err != nil { // it is there, and what fails may be this side's token
		if _, unread := secret(ctx); unread != nil {
			return nil, a.withoutToken(*o.options.Data, unread)
		}
	}
	return conn, reach(ctx, a.GRPC, secure, err)
}

// dialServer connects to the control plane at --server.
func (o *connection) dialServer(ctx context.Context) (*grpc.ClientConn, error) {
	if _, port, err := net.SplitHostPort(o.server); err != nil || port == "" {
		return nil, cli.WithCode(
			fmt.Errorf("--server is HOST:PORT, the gRPC listener of a control plane, not %q", o.server),
			cli.Usage,
		)
	}
	if err := cli.CheckPort("--server", o.server); err != nil {
		return nil, err
	}
	var secure *tls.Config
	if o.tls || o.ca != "" {
		var err error
		if secure, err = rpc.ClientTLS(o.ca); err != nil {
			return nil, err
		}
	} else if !rpc.Loopback(o.server) {
		return nil, cli.WithCode(
			fmt.Errorf("--server %s is not on this host, and the token would travel in the clear: "+
				"add --tls (and --ca FILE for a private authority)", o.server),
			cli.Usage,
		)
	}
	secret, err := o.secret(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := check(ctx, o.server, secure, secret)
	return conn, reach(ctx, o.server, secure, err)
}

// secret is the token for --server; nil for none, which a server with --auth none takes.
func (o *connection) secret(ctx context.Context) (func(context.Context) (string, error), error) {
	if o.tokenFile != "" {
		read := rpc.File(o.tokenFile)
		v, err := read(ctx)
		if err == nil && v == "" {
			err = fmt.Errorf("the token file %s is empty", o.tokenFile)
		}
		return read, err
	}
	if v := strings.TrimSpace(os.Getenv("PAWL_TOKEN")); v != "" {
		return rpc.Static(v), nil
	}
	return nil, nil
}

// check connects and asks whether somebody is there.
func check(
	ctx context.Context, addr string, secure *tls.Config, secret func(context.Context) (string, error),
) (*grpc.ClientConn, error) {
	opts := append(rpc.DialOptions(), rpc.Security(secure))
	if secret != nil {
		opts = append(opts, grpc.WithPerRPCCredentials(rpc.Token{Secret: secret, Plaintext: secure == nil}))
	}
	conn, err := grpc.NewClient(addr, opts...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if _, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil {
		_ = conn.Close() // nothing was done with it
		return nil, err
	}
	return conn, nil
}

// reach says of an address that does not answer what can be done.
func reach(ctx context.Context, addr string, secure *tls.Config, err error) error {
	if err == nil {
		return nil
	}
	if cure := rpc.Diagnose(ctx, addr, secure, err); cure != "" && ctx.Err() == nil {
		return unreachable(errors.New(strings.ReplaceAll(cure, "--tls-ca", "--ca"))) // as the flag is called here
	}
	return unreachable(fmt.Errorf("the control plane at %s does not answer: %w", addr, plainStatus(err)))
}

// plainStatus is an error of gRPC without its own prefix.
func plainStatus(err error) error {
	if st, ok := status.FromError(err); ok && rpc.Reason(err) == "" {
		return errors.New(cmp.Or(st.Message(), st.Code().String()))
	}
	return rpc.FromStatus(err)
}

// connect is dial for what cannot do without a control plane.
func (o *connection) connect(ctx context.Context) (*grpc.ClientConn, error) {
	conn, err := o.dial(ctx)
	if err == nil && conn == nil {
		err = unreachable(errors.New("no control plane runs on " + *o.options.Data +
			": start one with `control`, name another with --data, or one elsewhere with --server"))
	}
	return conn, err
}

// with connects for the time of f.
func (o *connection) with(c *cobra.Command, f func(ctx context.Context, conn *grpc.ClientConn) error) error {
	if err := o.checkOutput(c); err != nil {
		return err
	}
	conn, err := o.connect(c.Context())
	if err != nil {
		return err
	}
	return errors.Join(inWords(c.Context(), f(c.Context(), conn)), conn.Close())
}

// inWords is an error of a call in words for people.
func inWords(ctx context.Context, err error) error {
	st, ok := status.FromError(err)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case rpc.Reason(err) == "UNAUTHENTICATED":
		// The server tells of a header, which the flag or the variable sets here.
		said := strings.ReplaceAll(rpc.FromStatus(err).Error(), ": send it as `authorization: Bearer TOKEN`", "")
		return errors.New(said + ": give --token-file FILE with --server, or set PAWL_TOKEN")
	case rpc.Reason(err) != "":
		return rpc.FromStatus(err)
	case !ok:
		return err
	case st.Code() == codes.Unavailable:
		return unreachable(errors.New("the connection to the control plane was lost: " + st.Message()))
	}
	return errors.New(st.Message())
}

// pinned trusts exactly the certificate in a file: the server's own, which need not name the address that it
// listens on.
func pinned(certFile string) (*tls.Config, error) {
	body, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("reading the control plane's certificate: %w", err)
	}
	block, _ := pem.Decode(body)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM certificate", certFile)
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // VerifyPeerCertificate is stricter
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			if len(raw) == 0 || !bytes.Equal(raw[0], block.Bytes) {
				return fmt.Errorf("the server shows another certificate than %s", certFile)
			}
			return nil
		},
	}, nil
}
