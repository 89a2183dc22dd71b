package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
)

// group is a command that only has subcommands.
func (o *connection) group(c *cobra.Command, sub ...*cobra.Command) *cobra.Command {
	c.Args, c.RunE = cli.Args(0), func(c *cobra.Command, _ []string) error { return c.Help() }
	o.flags(c)
	c.AddCommand(sub...)
	return c
}

// call is what a command does once it is connected.
type call func(c *cobra.Command, conn *grpc.ClientConn, args []string) error

// calls makes a command of a call, with -o. use is its name, and its arguments in capitals.
func (o *connection) calls(use, short string, f call) *cobra.Command {
	return o.json(&cobra.Command{
		Use: use, Short: short, Args: cli.Args(len(strings.Fields(use)) - 1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.with(c, func(_ context.Context, conn *grpc.ClientConn) error { return f(c, conn, args) })
		},
	})
}

// show writes one thing: its fields, or JSON.
func (o *connection) show(c *cobra.Command, m proto.Message, fields ...field) error {
	if o.output == "json" {
		return printJSON(c.OutOrStdout(), m)
	}
	return printFields(c.OutOrStdout(), fields...)
}

func agentsCommand(o *connection) *cobra.Command {
	list := func(c *cobra.Command, conn *grpc.ClientConn, _ []string) error {
		agents := pawlv1.NewAgentServiceClient(conn)
		return listing[*pawlv1.Agent]{
			head: "NAME\tMODEL\tTOOLS\tDESCRIPTION",
			page: func(size int32, token string) ([]*pawlv1.Agent, string, error) {
				res, err := agents.ListAgents(c.Context(),
					&pawlv1.ListAgentsRequest{PageSize: size, PageToken: token})
				return res.GetAgents(), res.GetNextPageToken(), err
			},
			row: func(a *pawlv1.Agent) []string {
				tools := strings.Join(a.GetTools(), ",")
				return []string{a.GetName(), a.GetModel(), tools, oneLine(a.GetDescription(), 60)}
			},
		}.print(c, o)
	}
	get := func(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
		res, err := pawlv1.NewAgentServiceClient(conn).GetAgent(c.Context(), &pawlv1.GetAgentRequest{Agent: args[0]})
		if err != nil {
			return err
		}
		a := res.GetAgent()
		var plugins []string
		for _, p := range a.GetPlugins() {
			plugins = append(plugins, strings.TrimSpace(p.GetName()+" "+p.GetVersion()))
		}
		return o.show(c, a, field{"name", a.GetName()}, field{"model", a.GetModel()},
			field{"fallbacks", strings.Join(a.GetFallbacks(), ", ")},
			field{"description", a.GetDescription()}, field{"tools", strings.Join(a.GetTools(), ", ")},
			field{"skills", strings.Join(a.GetSkills(), ", ")}, field{"plugins", strings.Join(plugins, ", ")},
			field{"expose", strings.Join(a.GetExpose(), ", ")}, field{"digest", a.GetDigest()})
	}
	reload := o.calls("reload", "Read the files of agents and workflows again", o.reload)
	reload.Long = "Read the files of agents and workflows again, at the replica that answers; SIGHUP does the same. " +
		"A file that is broken is named, and its agent, or workflow, keeps its last good definition. Submissions and " +
		"runs under way keep the definition that they began with."
	return o.group(&cobra.Command{
		Use: "agents", Short: "List agents, and load their files again",
		Example: "control agents list\ncontrol agents get reviewer -o json\ncontrol agents reload",
	}, o.limited(o.calls("list", "List agents", list)), o.calls("get NAME", "Show one agent", get), reload)
}

// errBroken ends a reload that could not take over every file.
var errBroken = errors.New("some files could not be used; what is good in the others is in force")

func (o *connection) reload(c *cobra.Command, conn *grpc.ClientConn, _ []string) error {
	res, err := pawlv1.NewAgentServiceClient(conn).ReloadAgents(c.Context(), &pawlv1.ReloadAgentsRequest{})
	if err != nil {
		return err
	}
	runs := res.GetWorkflows()
	fields := slices.Concat(changes("", res), changes("workflows ", runs))
	err = o.show(c, res, fields...)
	for _, p := range res.GetProblems() {
		broken(c, p)
	}
	for _, p := range runs.GetProblems() {
		broken(c, p)
	}
	for _, w := range res.GetWarnings() {
		of := "a plugin"
		if w.GetAgent() != "" {
			of = "agent " + w.GetAgent()
		}
		fmt.Fprintf(c.ErrOrStderr(), "warning: %s: %s\n", cli.Visible(of), cli.Visible(w.GetMessage()))
	}
	for _, w := range runs.GetWarnings() {
		fmt.Fprintf(c.ErrOrStderr(), "warning: workflow %s: %s\n", cli.Visible(w.GetWorkflow()),
			cli.Visible(w.GetMessage()))
	}
	if err == nil && len(res.GetProblems())+len(runs.GetProblems()) > 0 {
		err = errBroken
	}
	if nothing := !slices.ContainsFunc(fields, func(f field) bool { return f.value != "" }); err == nil && nothing &&
		o.output != "json" {
		fmt.Fprintln(c.ErrOrStderr(), "nothing has changed")
	}
	return err
}

// changes are what a reload has changed of one kind of definitions, each field named with a prefix.
func changes(prefix string, of interface {
	GetAdded() []string
	GetChanged() []string
	GetRemoved() []string
},
) []field {
	return []field{
		{prefix + "added", strings.Join(of.GetAdded(), ", ")},
		{prefix + "changed", strings.Join(of.GetChanged(), ", ")},
		{prefix + "removed", strings.Join(of.GetRemoved(), ", ")},
	}
}

// broken tells of a file that a reload could not take over.
func broken(c *cobra.Command, p interface {
	GetMessage() string
	GetKept() bool
},
) {
	kept := "it cannot be used"
	if p.GetKept() {
		kept = "what was there before stays in force"
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s (%s)\n", cli.Visible(p.GetMessage()), kept)
}

func executorsCommand(o *connection) *cobra.Command {
	list := func(c *cobra.Command, conn *grpc.ClientConn, _ []string) error {
		executors := pawlv1.NewExecutorServiceClient(conn)
		return listing[*pawlv1.Executor]{
			head: "ID\tSTATE\tCALLS\tLABELS\tLAST SEEN",
			page: func(size int32, token string) ([]*pawlv1.Executor, string, error) {
				res, err := executors.ListExecutors(c.Context(),
					&pawlv1.ListExecutorsRequest{PageSize: size, PageToken: token})
				return res.GetExecutors(), res.GetNextPageToken(), err
			},
			row: func(x *pawlv1.Executor) []string {
				calls := fmt.Sprintf("%d/%d", x.GetRunning(), x.GetSlots())
				said := labels(x.GetLabels(), ",")
				return []string{x.GetExecutorId(), stateOf(x), calls, said, stamp(x.GetLastSeen())}
			},
		}.print(c, o)
	}
	get := func(c *cobra.Command, conn *grpc.ClientConn, args []string) error {
		executors := pawlv1.NewExecutorServiceClient(conn)
		res, err := executors.GetExecutor(c.Context(), &pawlv1.GetExecutorRequest{ExecutorId: args[0]})
		if err != nil {
			return err
		}
		x := res.GetExecutor()
		return o.show(c, x, field{"id", x.GetExecutorId()}, field{"state", stateOf(x)},
			field{"calls", fmt.Sprintf("%d of %d", x.GetRunning(), x.GetSlots())},
			field{"labels", labels(x.GetLabels(), ",")}, field{"root", x.GetRoot()},
			field{"version", x.GetVersion()}, field{"isolation", x.GetIsolation()},
			field{"replica", x.GetReplicaId()}, field{"last seen", stamp(x.GetLastSeen())})
	}
	return o.group(&cobra.Command{
		Use: "executors", Short: "List executors",
		Example: "control executors list\ncontrol executors get gpu1 -o json",
	}, o.limited(o.calls("list", "List executors, connected or not", list)),
		o.calls("get ID", "Show one executor", get))
}

func stateOf(x *pawlv1.Executor) string {
	switch {
	case !x.GetConnected():
		return "away"
	case x.GetDraining():
		return "draining"
	}
	return "connected"
}

func labels(m map[string]string, between string) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, k+"="+m[k])
	}
	return strings.Join(all, between)
}
