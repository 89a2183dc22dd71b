package control

import (
	"context"
	"errors"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/mcpclient"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/link"
	"github.com/pawl-dev/pawl/services/control/link/files"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/mcp/hub"
	"github.com/pawl-dev/pawl/services/control/mcp/stdio"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/webfetch"
	"github.com/pawl-dev/pawl/services/control/workspace"
)

// sources are those of the tools that agents are offered, in the order in which models are told of them. files are
// those of executors.
func (p *plane) sources(files workspace.Files) []loop.Source {
	p.servers = hub.New(hub.Deps{Lookup: p.Lookup, Client: p.Egress, Version: p.Version, Log: p.Log})
	web, err := tool.NewSet(webfetch.New(p.WebFetch, p.Egress))
	if err != nil {
		panic(err) // it is one tool
	}
	p.beside = stdio.New(beside{p, files}, p.Lookup, p.Log)
	return append(loop.Sources(), loop.Fixed(web), p.servers, p.beside)
}

// beside is executors as the source of their MCP servers' tools sees them.
type beside struct {
	*plane
	files workspace.Files
}

// Place implements stdio.Executors.
func (b beside) Place(ctx context.Context, of loop.Offer) (executor string, ok bool, err error) {
	w := fleet.Wanted{
		Tenant: of.Loop.Key.Tenant, Executor: of.Executor, Builtin: b.BuiltinID, Roughly: true,
		Tools: of.Definition.Offered(),
	}
	if s := of.Definition.Sandbox; s.Kind == agent.SandboxExecutor {
		w.Labels = s.Labels
	}
	e, ok, err := b.fleet.Place(ctx, w)
	if errors.Is(err, fleet.ErrNotFound) {
		return "", false, nil
	}
	return e.ID, ok, err
}

// Put implements stdio.Executors.
func (b beside) Put(ctx context.Context, executor string, f workspace.Folder) error {
	_, err := workspace.Put(ctx, b.files, workspace.Place{Executor: executor}, f)
	return err
}

// Ask implements stdio.Executors.
func (b beside) Ask(
	ctx context.Context, executor string, q tool.ServerCall, env map[string]*string,
) (mcpclient.Result, error) {
	verb := &pawlv1.Execute{Verb: &pawlv1.Execute_Mcp{Mcp: link.McpRequest(q)}, Env: map[string]string{}}
	for name, value := range env {
		if value == nil {
			verb.UnsetEnv = append(verb.UnsetEnv, name)
		} else {
			verb.Env[name] = *value
		}
	}
	res, err := b.links.Do(ctx, &files.Request{Executor: executor, Verb: verb})
	if err != nil {
		return mcpclient.Result{}, err
	}
	r := res.GetMcp()
	if r.GetError() != "" {
		return mcpclient.Result{}, errListing.With("%s", r.GetError())
	}
	return mcpclient.Result{JSON: r.GetResult()}, nil
}

// errListing is a server that does not list its tools.
var errListing = errs.New(errs.FailedPrecondition, "MCP_LIST", "the MCP server does not list its tools")
