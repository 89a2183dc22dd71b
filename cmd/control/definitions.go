package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pawl-dev/pawl/internal/cli"
	"github.com/pawl-dev/pawl/internal/plural"
	"github.com/pawl-dev/pawl/services/control/project"
	"github.com/pawl-dev/pawl/services/control/workflow"
	"github.com/pawl-dev/pawl/services/control/workflow/graph"
	"github.com/pawl-dev/pawl/services/control/workflow/schema"
)

// definitionCommands are about the files of a project. They speak to no control plane.
func definitionCommands() []*cobra.Command {
	return []*cobra.Command{checkCommand(), schemaCommand(), graphCommand()}
}

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check [DIR]", Short: "Check the agents and workflows of a project",
		Args: func(c *cobra.Command, args []string) error { return cli.Args(min(len(args), 1))(c, args) },
		Long: "Read the agents and workflows of a project, by default of this directory, as a control plane would. " +
			"Every problem is told with its file and line, and then the exit code is 1. A warning is about what may " +
			"be right: whether the workspace of an agent has a skill is known only when a step asks for it.\n\n" +
			"Whether variables are set and models can be asked is not checked: that depends on where a control " +
			"plane runs.",
		Example: "control check\ncontrol check examples/release",
		RunE: func(c *cobra.Command, args []string) error {
			p, err := project.Load(append(args, ".")[0])
			if err != nil {
				return err
			}
			for _, w := range slices.Concat(p.Agents.Warnings(), p.Workflows.Warnings()) {
				fmt.Fprintf(c.ErrOrStderr(), "warning: %s\n", cli.Visible(w.Message))
			}
			agents := len(p.Agents.All()) - 1 // without the one that is built in
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s and %s are good\n", plural.Of(agents, "agent"),
				plural.Of(len(p.Workflows.All()), "workflow"))
			return err
		},
	}
}

func schemaCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of a kind of file, for editors", Args: cli.Args(0),
		Example: "control schema workflow > workflow.json",
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	for _, one := range []struct {
		name, what, example string
		make                func() ([]byte, error)
	}{
		{"workflow", "of workflows/NAME.yaml", "control schema workflow > workflow.json", schema.Workflow},
		{"agent", "of the front matter of agents/NAME.md", "control schema agent > agent.json", schema.Agent},
	} {
		c.AddCommand(&cobra.Command{
			Use: one.name, Short: "Print the JSON Schema " + one.what, Args: cli.Args(0),
			Long: "Print the JSON Schema " + one.what + ". An editor that is given it completes keys and marks those " +
				"that there are not. In a workflow, this comment does it for many editors:\n\n" +
				"    # yaml-language-server: $schema=workflow.json\n\n" +
				"Expressions and the names of agents are checked by `control check`.",
			Example: one.example,
			RunE: func(c *cobra.Command, _ []string) error {
				made, err := one.make()
				if err != nil {
					return err
				}
				var out bytes.Buffer
				if err := json.Indent(&out, made, "", "  "); err != nil {
					return err
				}
				out.WriteByte('\n')
				_, err = c.OutOrStdout().Write(out.Bytes())
				return err
			},
		})
	}
	return c
}

func graphCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "graph NAME", Short: "Draw a workflow as a Mermaid diagram", Args: cli.Args(1),
		Long: "Print the steps of a workflow as a flowchart in Mermaid's language, which many viewers of Markdown " +
			"show.",
		Example: "control graph release\n" +
			"control graph release --dir examples/release > release.mmd",
		RunE: func(c *cobra.Command, args []string) error {
			all, err := workflow.Load(filepath.Join(dir, "workflows"), nil)
			if err != nil {
				return err
			}
			names := []string{}
			for _, d := range all.All() {
				if d.Name == args[0] {
					_, err := fmt.Fprint(c.OutOrStdout(), graph.Mermaid(d))
					return err
				}
				names = append(names, d.Name)
			}
			return workflow.WithKnown(workflow.Missing(args[0]), names)
		},
	}
	c.Flags().StringVar(&dir, "dir", ".", "`DIR` of the project")
	return c
}
