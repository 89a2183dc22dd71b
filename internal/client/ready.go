package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/rpc"
)

// maxReasons bounds what is read of an answer.
const maxReasons = 64 << 10

// readyCommand asks /readyz, for health checks in an image that has no other program.
func readyCommand(o *connection) *cobra.Command {
	return &cobra.Command{
		Use: "ready", Short: "Ask the control plane of the data directory whether it should get requests",
		Long: "Ask the control plane that runs on the data directory, by its /readyz, whether it should get " +
			"requests. If not, the code is 1 and the reasons are told.",
		Example: "control ready --data /var/lib/pawl",
		Args:    cli.Args(0),
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			return cli.FromEnvironment(c.InheritedFlags())
		},
		RunE: func(c *cobra.Command, _ []string) error {
			if o.options.Data == nil {
				return cli.Misused(c, errors.New("this program runs no control plane: ask /readyz over HTTP"))
			}
			return ready(c.Context(), *o.options.Data)
		},
	}
}

func ready(ctx context.Context, data string) error {
	a, ok, err := ReadAddresses(data)
	if err != nil {
		return err
	}
	if !ok {
		return unreachable(errors.New("no control plane runs on " + data))
	}
	secret, err := rpc.File(TokenFile(data))(ctx)
	if err != nil {
		return a.withoutToken(data, err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	if a.Cert != "" {
		if transport.TLSClientConfig, err = pinned(a.Cert); err != nil {
			return err
		}
	}
	return askReady(ctx, transport, a.HTTP, secret)
}

func askReady(ctx context.Context, transport http.RoundTripper, at, secret string) error {
	u, err := url.Parse(at)
	if err != nil {
		return fmt.Errorf("the address of the control plane: %w", err)
	}
	// A listener on every address is at loopback, too, and that is a host that each server allows.
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.IsUnspecified() {
		u.Host = net.JoinHostPort("127.0.0.1", u.Port())
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.JoinPath("readyz").String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	res, err := transport.RoundTrip(req)
	if err != nil {
		return unreachable(fmt.Errorf("the control plane at %s does not answer: %w", u.Host, err))
	}
	defer res.Body.Close() //nolint:errcheck // of a body that was read
	body, err := io.ReadAll(io.LimitReader(res.Body, maxReasons))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("the control plane at %s is not ready: %s", u.Host, strings.TrimSpace(string(body)))
	}
	return err
}
