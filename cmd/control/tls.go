package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/pawl-dev/pawl/internal/authority"
	"github.com/pawl-dev/pawl/internal/cli"
)

// tlsCommand makes certificates where there is nobody to ask for them.
func tlsCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "tls", Short: "Make certificates, of an authority of your own", Args: cli.Args(0),
		Example: "control tls init tls --host pawl.example",
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	var hosts []string
	initialize := &cobra.Command{
		Use: "init DIR", Short: "Make an authority and a certificate of control's", Args: cli.Args(1),
		Long: "Make an authority and a certificate of control's in DIR, unless they are there already:\n\n" +
			"DIR/authority is for this command only. DIR/server is for control: --tls-cert cert.pem --tls-key " +
			"key.pem. DIR/trust is for everybody who dials control: --tls-ca ca.pem of executors and replicas.\n\n" +
			"A certificate for other hosts, or one that has passed two thirds of its year, is replaced; control " +
			"reads it when it starts. The authority stays.",
		Example: "control tls init tls --host pawl.example",
		RunE: func(c *cobra.Command, args []string) error {
			made, err := authority.Init(args[0], hosts, time.Now())
			if errors.Is(err, authority.ErrHost) {
				return cli.Misused(c, fmt.Errorf("--host: %w", err))
			}
			if err != nil {
				return err
			}
			said := "certificates are in %s already\n"
			if made {
				said = "made certificates in %s: start control with --tls-cert " +
					quote(filepath.Join(args[0], "server", "cert.pem")) + " --tls-key " +
					quote(filepath.Join(args[0], "server", "key.pem")) + "\n"
			}
			_, err = fmt.Fprintf(c.ErrOrStderr(), said, args[0])
			return err
		},
	}
	initialize.Flags().StringSliceVar(&hosts, "host", nil,
		"`HOST`: name or address, beside loopback ones, by which control is dialled; may be repeated")
	c.AddCommand(initialize)
	return c
}
