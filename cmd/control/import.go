package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/services/control/claude"
)

const importExample = "control import claude --from ../app --to ."

// importCommand turns projects of other systems into projects of Pawl. It speaks to no control plane.
func importCommand() *cobra.Command {
	var from, to, model string
	c := &cobra.Command{
		Use: "claude", Args: cli.Args(0),
		Short: "Turn a project, or a plugin, of Claude Code into files for Pawl",
		Long: "Turn .claude/agents/*.md and .mcp.json into agents/*.md and mcp/*.yaml. A folder with " +
			".claude-plugin/plugin.json is a plugin: it becomes plugins/NAME, and its agents have it. Hooks, " +
			"commands, permission modes, permissions, and servers of a person's own settings are named and left " +
			"out. No file is replaced.",
		Example: importExample,
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := claude.Read(from, model)
			if err != nil {
				return err
			}
			if err := all.Write(to); err != nil {
				return err
			}
			for _, line := range all.Left {
				fmt.Fprintln(c.ErrOrStderr(), "left out: "+line)
			}
			fmt.Fprintf(c.OutOrStdout(), "%d files written, %d things left out\n", len(all.Files), len(all.Left))
			return nil
		},
	}
	c.Flags().StringVar(&from, "from", ".", "`DIR` of the project, or the plugin, of Claude Code")
	c.Flags().StringVar(&to, "to", ".", "`DIR` to write agents/, mcp/ and plugins/ into")
	c.Flags().StringVar(&model, "model", "anthropic/claude-sonnet-4-6", "`MODEL` of agents that name none")
	group := &cobra.Command{
		Use: "import", Short: "Turn a project of another system into files for Pawl", Args: cli.Args(0),
		Example: importExample,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	group.AddCommand(c)
	return group
}
