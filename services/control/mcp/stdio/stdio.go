// Package stdio has the MCP servers that run beside workspaces, on executors.
//
// Calls of their tools are calls of executors like all others: recorded, sent once, unknown when their outcome is. What
// a server lists is asked for over calls of no lane, when a loop begins, and kept for a while:
//
//	loop begins ──▶ where would its calls run? ──▶ list, at most listAge old ──▶ tools
//	executor says that a server has changed its list ──▶ Version ──▶ the loop asks again before its next turn
package stdio

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/mcpclient"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/bundle"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/mcp"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/workspace"
)

// Times and bounds.
const (
	// listTimeout is how long a loop waits for a list. A server may have to be downloaded first: that goes on, and the
	// next loop finds the server started.
	listTimeout = 20 * time.Second
	listAge     = time.Minute
	failedAge   = 10 * time.Second // how long a server is not asked again that has failed to list
	// patience is how long a loop waits for an executor, as one that is just connecting.
	patience = 5 * time.Second
)

// Executors are where servers run.
type Executors interface {
	// Place is the executor that calls of a loop would go to; ok is false while there is none.
	Place(ctx context.Context, of loop.Offer) (executor string, ok bool, err error)
	// Put makes the files of a plugin be at an executor.
	Put(ctx context.Context, executor string, f workspace.Folder) error
	// Ask makes a request to a server on an executor, for once: nothing of it is recorded.
	Ask(ctx context.Context, executor string, q tool.ServerCall, env map[string]*string) (mcpclient.Result, error)
}

// Source has the tools of servers on executors. Its methods may be called concurrently.
type Source struct {
	executors Executors
	lookup    agent.Lookup
	log       *slog.Logger
	lists     *lists
}

// New makes a Source.
func New(executors Executors, lookup agent.Lookup, log *slog.Logger) *Source {
	return &Source{executors: executors, lookup: lookup, log: log, lists: newLists()}
}

var _ loop.Changing = (*Source)(nil)

// servers are those of an agent that run on executors, by name.
func servers(of loop.Offer) (all []mcp.Definition) {
	for _, name := range slices.Sorted(maps.Keys(of.Definition.MCP)) {
		if d := of.Definition.MCP[name]; d.Command != nil {
			all = append(all, d)
		}
	}
	return all
}

// Changed notes that a server on an executor has changed its list. One that nobody has asked for it is of no interest.
func (s *Source) Changed(executor, server string) { s.lists.changed(place{executor, server}) }

// Version implements loop.Changing. While no executor is there nobody can say: what was offered stands, and what was
// not is looked at again when one has come.
func (s *Source) Version(ctx context.Context, of loop.Offer) (version string, known bool, err error) {
	wanted := servers(of)
	if len(wanted) == 0 {
		return "none", true, nil
	}
	if _, there, err := s.executors.Place(ctx, of); err != nil || !there {
		return "", false, err
	}
	var all strings.Builder
	all.WriteString("at " + of.Executor + "\n") // of a workspace that is nowhere yet, any executor will do
	for _, d := range wanted {
		for _, line := range s.lists.versions(d.Digest(), of.Executor) {
			all.WriteString(line + "\n")
		}
	}
	return all.String(), true, nil
}

// Tools are those of the servers that the agent names.
func (s *Source) Tools(ctx context.Context, of loop.Offer) ([]*tool.Tool, error) {
	all := servers(of)
	if len(all) == 0 {
		return nil, nil
	}
	executor, ok, err := s.place(ctx, of)
	if err != nil {
		return nil, err
	}
	if !ok {
		for _, d := range all {
			of.Miss("MCP server " + d.Name + " cannot be used, because no executor is there to run it; its tools are " +
				"left out")
		}
		return nil, nil
	}
	lists, failed := make([]mcp.List, len(all)), make([]error, len(all))
	var wg sync.WaitGroup
	for i, d := range all {
		wg.Go(func() {
			defer of.Awaits("MCP server " + d.Name + ", which may have to be downloaded first")()
			lists[i], failed[i] = s.list(ctx, of, executor, d)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var tools []*tool.Tool
	taken := func(name string) bool {
		return of.Taken(name) || slices.ContainsFunc(tools, func(t *tool.Tool) bool { return t.Name == name })
	}
	for i, d := range all {
		if err := failed[i]; err != nil {
			text := "MCP server " + d.Name + " cannot be used"
			if e, ok := errs.Public(err); ok {
				text += ": " + e.Error()
			}
			of.Miss(text + "; its tools are left out")
			continue
		}
		some, missing := d.Offer(lists[i], of.Definition.Tools, taken, way(of, d))
		for _, text := range missing {
			of.Miss(text)
		}
		tools = append(tools, some...)
	}
	return tools, nil
}

// place is the executor that calls of a loop would go to. After a restart of control executors are away for a moment.
func (s *Source) place(ctx context.Context, of loop.Offer) (executor string, ok bool, err error) {
	for began := time.Now(); ; {
		executor, ok, err = s.executors.Place(ctx, of)
		if err != nil || ok || time.Since(began) >= patience {
			return executor, ok, err
		}
		if err := await.Sleep(ctx, patience/20); err != nil {
			return "", false, err
		}
	}
}

// request is what an executor has to know of a server.
func request(of loop.Offer, d mcp.Definition) tool.ServerCall {
	cwd := of.Definition.Cwd
	switch c := d.Command.Cwd; {
	case d.Command.Plugin != nil:
		cwd = c // within the plugin
	case strings.HasPrefix(c, "/") || strings.HasPrefix(c, "~"):
		cwd = c
	case c != "":
		cwd = strings.TrimSuffix(cwd, "/") + "/" + c
	}
	q := tool.ServerCall{
		ID: d.Digest(), Name: d.Name, Program: d.Command.Program, Args: d.Command.Args, Cwd: cwd,
		Timeout: d.CallTimeout(),
	}
	if p := d.Command.Plugin; p != nil {
		q.Plugin = &tool.PluginPlace{
			Root: pluginRoots + "/" + bundle.Folder(p.Name, p.Digest),
			Data: pluginData + "/" + of.Loop.Key.Tenant + "/" + p.Name, Env: p.Env,
		}
	}
	return q
}

// Where plugins are at an executor: in the home of the user that commands run as, where no workspace can have put
// anything. What servers keep is a tenant's, and outlives versions of the plugin.
const (
	pluginRoots = "~/.pawl/plugins"
	pluginData  = "~/.pawl/plugin-data"
)

// way has requests carried out by the session's executor.
func way(of loop.Offer, d mcp.Definition) mcp.Way {
	return func(ask mcp.Ask, _ tool.Safety, render func(tool.ServerReply) tool.Result) tool.How {
		return tool.ByServer(func(args []byte) (q tool.ServerCall, err error) {
			q = request(of, d)
			var params json.RawMessage
			q.Method, params, err = ask(args)
			q.Params = params
			return q, err
		}, render)
	}
}

// list is what a server on an executor lists.
func (s *Source) list(ctx context.Context, of loop.Offer, executor string, d mcp.Definition) (mcp.List, error) {
	l := s.lists.find(
		key{of.Loop.Key.Tenant, of.Definition.Digest(), place{executor, d.Digest()}},
	)
	select {
	case l.lock <- struct{}{}:
		defer func() { <-l.lock }()
	case <-ctx.Done():
		return mcp.List{}, ctx.Err()
	}
	change := s.lists.change(l)
	age := listAge
	if l.err != nil {
		age = failedAge
	}
	if !l.at.IsZero() && l.seen == change && time.Since(l.at) < age {
		return l.list, l.err
	}
	list, size, err := s.ask(ctx, of, executor, d)
	if ctx.Err() != nil {
		return mcp.List{}, ctx.Err()
	}
	l.list, l.err, l.at, l.seen = list, err, time.Now(), change
	s.lists.keep(l, size)
	return list, err
}

// ask asks a server for its list. size is the number of its bytes.
func (s *Source) ask(
	ctx context.Context, of loop.Offer, executor string, d mcp.Definition,
) (list mcp.List, size int, err error) {
	expanded, err := d.Expand(s.lookup)
	if err != nil {
		return list, 0, err
	}
	values, err := of.Definition.Env.Expand(s.lookup)
	if err != nil {
		return list, 0, err
	}
	env := values.Map()
	if env == nil {
		env = map[string]*string{}
	}
	for name, value := range expanded.Command.Env {
		env[name] = &value
	}
	q := request(of, d)
	q.Method = mcpclient.ListTools
	limit, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	if p := d.Command.Plugin; p != nil {
		err = s.executors.Put(limit, executor, workspace.Folder{
			Under: pluginRoots, Name: bundle.Folder(p.Name, p.Digest), Files: of.Definition.PluginFolders[p.Digest],
		})
	}
	var res mcpclient.Result
	if err == nil {
		res, err = s.executors.Ask(limit, executor, q, env)
	}
	switch {
	case limit.Err() != nil && ctx.Err() == nil:
		err = errSlow.With("it has not started within %s; the next submission tries again", listTimeout)
	case err == nil:
		// models are told what it says of its tools
		clean := tool.NewCleaner(of.Definition.Secrets(s.lookup)).JSON(res.JSON)
		size = len(clean)
		list, _, err = mcp.ReadList(clean)
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("a server of tools on an executor cannot be used", "server", d.Name, "executor_id", executor)
	}
	return list, size, err
}

var errSlow = errs.New(errs.Unavailable, "MCP_SERVER_SLOW", "the MCP server has not started")
