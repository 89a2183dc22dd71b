// Command control is the control plane's program: flags, environment, signals and listeners, and then control.Run. Its subcommands
// speak to a control plane that runs.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"charm.land/fang/v2"
	"github.com/spf13/cobra"

	"github.com/pawl-dev/pawl/services/executor/keeper"
)

const version = "0.1.0-dev"

func main() {
	if keeper.Invoked() {
		os.Exit(keeper.Main())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if run(ctx, command()) != nil {
		os.Exit(1)
	}
}

// run executes a command. An error is told in one line.
func run(ctx context.Context, c *cobra.Command) error {
	return fang.Execute(ctx, c, fang.WithVersion(version), fang.WithoutManpage(), fang.WithErrorHandler(func(w io.Writer, _ fang.Styles, err error) {
		_, _ = fmt.Fprintln(w, "control:", oneLine(err))
	}))
}

// oneLine is an error as one line.
func oneLine(err error) string {
	return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
}

func command() *cobra.Command {
	o := &options{}
	c := &cobra.Command{
		Use: "control", Short: "Run the Pawl control plane", Args: cobra.NoArgs,
		Long: "Run the Pawl control plane: an agent server with its own database and an executor on this host, unless told otherwise.\n\n" +
			"Every flag has the environment variable that stands in brackets; a flag wins over its variable.",
		Example: "control                                      # state in .pawl, agents from ./agents\n" +
			"control --database postgres://…              # many replicas, one control plane\n" +
			"control token create --executor gpu1 > token # for an executor elsewhere\n" +
			`control prompt shell "uname -a"`,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return fromEnvironment(c) },
		RunE: func(c *cobra.Command, _ []string) error {
			o.defaultProviders(c.Flags().Changed("providers"))
			return o.serve(c.Context(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	o.flags(c)
	c.AddCommand(tokenCommand(o), promptCommand(o), filesCommand(o))
	return c
}
