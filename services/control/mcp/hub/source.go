package hub

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/mcpclient"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/mcp"
	"github.com/pawl-dev/pawl/services/control/tool"
)

var _ loop.Changing = (*Hub)(nil)

// servers are those of an agent that control calls, by name.
func servers(of loop.Offer) (all []mcp.Definition) {
	for _, name := range slices.Sorted(maps.Keys(of.Definition.MCP)) {
		if d := of.Definition.MCP[name]; d.HTTP != nil {
			all = append(all, d)
		}
	}
	return all
}

// Tools are those of the servers that the agent names. A server that is down is told of as missing.
func (h *Hub) Tools(ctx context.Context, of loop.Offer) ([]*tool.Tool, error) {
	all := servers(of)
	lists, failed := make([]mcp.List, len(all)), make([]error, len(all))
	var wg sync.WaitGroup
	for i, d := range all {
		wg.Go(func() {
			defer of.Awaits("MCP server " + d.Name)()
			lists[i], failed[i] = h.List(ctx, of.Loop.Key.Tenant, d)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var tools []*tool.Tool
	taken := of.Taken
	for i, d := range all {
		if err := failed[i]; err != nil {
			text := "MCP server " + d.Name + " cannot be used"
			if e, ok := errs.Public(err); ok {
				text = e.Error()
			}
			of.Miss(text + "; its tools are left out")
			continue
		}
		some, missing := d.Offer(lists[i], of.Definition.Tools, taken, h.way(of.Loop.Key.Tenant, d))
		for _, text := range missing {
			of.Miss(text)
		}
		for _, t := range some {
			taken = also(taken, t.Name)
		}
		tools = append(tools, some...)
	}
	return tools, nil
}

// also takes one more name.
func also(taken func(string) bool, name string) func(string) bool {
	return func(other string) bool { return other == name || taken(other) }
}

// Version implements loop.Changing.
func (h *Hub) Version(_ context.Context, of loop.Offer) (version string, known bool, err error) {
	var all strings.Builder
	for _, d := range servers(of) {
		all.WriteString(h.version(of.Loop.Key.Tenant, d) + "\n")
	}
	return all.String(), true, nil
}

// way carries requests out in this process.
func (h *Hub) way(tenant string, d mcp.Definition) mcp.Way {
	return func(ask mcp.Ask, safety tool.Safety, render func(tool.ServerReply) tool.Result) tool.How {
		return tool.ByControl(
			func(ctx context.Context, c tool.Call) (tool.Reply, error) {
				method, params, err := ask(c.Request.(json.RawMessage))
				if err != nil {
					return nil, err
				}
				req := Request{Tenant: tenant, Server: d, Method: method, Params: params, Safety: safety}
				res, err := h.Do(ctx, req, func(p mcpclient.Progress) { tool.Report(ctx, tool.Progress(p)) })
				if err != nil {
					return nil, err
				}
				return mcp.Read(method, res)
			},
			func(_ json.RawMessage, r tool.ServerReply) tool.Result { return render(r) },
		)
	}
}
