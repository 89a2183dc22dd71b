package mcpclient

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// page is one page of a list, as JSON.
type page struct {
	key   string // of the list in the result
	items []json.RawMessage
	next  string
}

// list gathers all pages. A list that is too long is cut, and says so.
func list(
	ctx context.Context, get func(ctx context.Context, cursor string) (page, error),
) (map[string]any, error) {
	var all []json.RawMessage
	key, cursor, size, cut := "", "", 0, false
	for n := 0; ; n++ {
		p, err := get(ctx, cursor)
		if err != nil {
			return nil, err
		}
		key = p.key
		for _, item := range p.items {
			if size += len(item); len(all) == MaxTools || size > maxList {
				cut = true
				break
			}
			all = append(all, item)
		}
		if cursor = p.next; cursor == "" || cut {
			break
		}
		if n == maxPages {
			cut = true
			break
		}
	}
	if all == nil {
		all = []json.RawMessage{}
	}
	out := map[string]any{key: all}
	if cut {
		out["cut"] = fmt.Sprintf("the server's list is longer than %d entries, %d bytes or %d pages; the rest "+
			"is left out", MaxTools, maxList, maxPages)
	}
	return out, nil
}

func pageOf[T any](key string, items []T, next string) (page, error) {
	p := page{key: key, next: next}
	for _, item := range items {
		body, err := json.Marshal(item)
		if err != nil {
			return p, err
		}
		p.items = append(p.items, body)
	}
	return p, nil
}

// tools is the list of tools, and what else there is. A server that has none may have the rest.
func (c *Conn) tools(ctx context.Context) (any, error) {
	caps := c.session.InitializeResult().Capabilities
	if caps == nil {
		caps = &mcp.ServerCapabilities{}
	}
	out := map[string]any{"tools": []any{}}
	if caps.Tools != nil {
		var err error
		if out, err = list(ctx, c.listTools); err != nil {
			return nil, err
		}
	}
	out["resources"], out["prompts"] = caps.Resources != nil, caps.Prompts != nil
	return out, nil
}

func (c *Conn) listTools(ctx context.Context, cursor string) (page, error) {
	r, err := c.session.ListTools(ctx, &mcp.ListToolsParams{Cursor: cursor})
	if err != nil {
		return page{}, err
	}
	return pageOf("tools", r.Tools, r.NextCursor)
}

func (c *Conn) listResources(ctx context.Context, cursor string) (page, error) {
	r, err := c.session.ListResources(ctx, &mcp.ListResourcesParams{Cursor: cursor})
	if err != nil {
		return page{}, err
	}
	return pageOf("resources", r.Resources, r.NextCursor)
}

func (c *Conn) listPrompts(ctx context.Context, cursor string) (page, error) {
	r, err := c.session.ListPrompts(ctx, &mcp.ListPromptsParams{Cursor: cursor})
	if err != nil {
		return page{}, err
	}
	return pageOf("prompts", r.Prompts, r.NextCursor)
}
