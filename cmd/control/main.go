// Command control is the control plane's program: flags, environment, signals and listeners, and then control.Run.
// Its subcommands speak to a control plane that runs.
package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/client"
	"github.com/pawl-dev/pawl/services/executor/keeper"
)

func main() {
	if keeper.Invoked() {
		os.Exit(keeper.Main())
	}
	cli.Main(func(ctx context.Context) error { return cli.Execute(ctx, command()) })
}

func command() *cobra.Command {
	o := &options{}
	c := &cobra.Command{
		Use:   "control",
		Short: "Run the Pawl control plane",
		Args:  cli.Args(0),
		Long: "Run the Pawl control plane: an agent server with its own database and an executor on this host, " +
			"unless told otherwise.\n\n" +
			"Every flag has the environment variable that stands in brackets; a flag wins over its variable.",
		Example: "control                             # state in .pawl, agents from ./agents\n" +
			"control --database postgres://…     # many replicas, one control plane\n" +
			"control token create --executor gpu1 > gpu1.token\n" +
			`control prompt shell "uname -a"`,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return o.fromEnvironment(c) },
		RunE: func(c *cobra.Command, _ []string) error {
			o.makeDo(c.Flags().Changed)
			return o.serve(c.Context(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	o.flags(c)
	c.AddCommand(tlsCommand(), importCommand())
	c.AddCommand(definitionCommands()...)
	c.AddCommand(client.Commands(client.Options{
		Data: &o.data, Database: o.tokens, State: o.databaseState, Alone: &alone{},
	})...)
	ways := []string{"database", "database-direct", "no-row-security"}
	for _, sub := range c.Commands() {
		switch sub.Name() {
		case "token": // which works on the database while no control plane runs
		case "tls", "import", "check", "schema", "graph":
			cli.Unused(sub, append(ways, "data")...)
		default:
			cli.Unused(sub, ways...)
		}
	}
	return c
}
