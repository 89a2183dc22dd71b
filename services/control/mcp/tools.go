package mcp

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/internal/mcpclient"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// Bounds of what is told of a server's tools.
const (
	maxDescription = 4096
	maxSchema      = 64 << 10
	maxTold        = 5 // tools that are named as left out
)

// List is what a server lists.
type List struct {
	Tools     []Listed `json:"tools"`
	Resources bool     `json:"resources"` // whether it has resources to read
	Prompts   bool     `json:"prompts"`
	Cut       string   `json:"cut"` // why the list is not complete; "" when it is
}

// Listed is a tool as its server describes it.
type Listed struct {
	Name         string          `json:"name"`
	Title        string          `json:"title"`
	Description  string          `json:"description"`
	InputSchema  json.RawMessage `json:"inputSchema"`
	OutputSchema json.RawMessage `json:"outputSchema"`
}

// ReadList reads the answer to mcpclient.ListTools. digest tells lists apart.
func ReadList(body json.RawMessage) (l List, digest [sha256.Size]byte, err error) {
	if err := json.Unmarshal(body, &l); err != nil {
		return List{}, digest, ErrResult.With("the MCP server's list of tools cannot be read: %v", err)
	}
	slices.SortStableFunc(l.Tools, func(a, b Listed) int { return cmp.Compare(a.Name, b.Name) })
	return l, sha256.Sum256(body), nil
}

// Ask makes a request of the arguments of a call. Its error is told to the model.
type Ask func(args []byte) (method string, params json.RawMessage, err error)

// Way is how requests to a server are carried out.
type Way func(ask Ask, safety tool.Safety, render func(tool.ServerReply) tool.Result) tool.How

// offering makes tools of a list.
type offering struct {
	Definition
	way     Way
	tools   []*tool.Tool
	size    int // bytes of their descriptions and schemas
	missing []string
}

// Offer is the tools of a list that an agent's list of tools names, by name, and what is missing of them and why, for
// people. taken reports names that other tools have.
func (d Definition) Offer(
	l List, named []string, taken func(string) bool, way Way,
) (tools []*tool.Tool, missing []string) {
	o := &offering{Definition: d, way: way}
	seen := map[string]string{}
	for _, t := range l.Tools {
		if !d.Allows(t.Name) || !d.Named(named, t.Name) {
			continue
		}
		name := d.NameFor(t.Name)
		switch other, twice := seen[name]; {
		case clean(t.Name) == "":
			o.leave(t.Name, "its name has no letter")
		case twice:
			o.leave(t.Name, "its name is %s, as that of %s is", name, quoted(other))
		case taken(name):
			o.leave(t.Name, "another tool has the name %s: change the prefix of the server", name)
		default:
			seen[name] = t.Name
			o.add(name, t)
		}
	}
	for _, want := range d.Tools {
		if !slices.ContainsFunc(l.Tools, func(t Listed) bool { return t.Name == want }) && d.Named(named, want) {
			o.leave(want, "the server does not list it")
		}
	}
	if slices.Contains(named, Entry(d.Name)) {
		o.readers(l, func(name string) bool { return taken(name) || seen[name] != "" })
	}
	if l.Cut != "" {
		o.missing = append(o.missing, fmt.Sprintf("MCP server %s: %s", d.Name, l.Cut))
	}
	if more := len(o.missing) - maxTold; more > 0 {
		o.missing = append(o.missing[:maxTold:maxTold],
			fmt.Sprintf("MCP server %s: %d more tools are left out", d.Name, more))
	}
	slices.SortFunc(o.tools, func(a, b *tool.Tool) int { return cmp.Compare(a.Name, b.Name) })
	return o.tools, o.missing
}

func quoted(name string) string { return clip.Display(clip.Shorten(clip.Sanitize(name), 100)) }

// leave notes a tool that is not offered.
func (o *offering) leave(name, why string, args ...any) {
	o.missing = append(o.missing, fmt.Sprintf("MCP server %s: the tool %s is left out: %s", o.Name, quoted(name),
		clip.Shorten(clip.Sanitize(fmt.Sprintf(why, args...)), 500)))
}

// source is where the tools come from, for errors.
func (o *offering) source() string { return "the MCP server " + o.Name }

func (o *offering) add(name string, t Listed) {
	schema, err := objectSchema(t.InputSchema)
	if err != nil {
		o.leave(t.Name, "its inputSchema is invalid: %v", err)
		return
	}
	render, err := o.rendering(t)
	if err != nil {
		o.leave(t.Name, "its outputSchema is invalid: %v", err)
		return
	}
	about := cmp.Or(strings.TrimSpace(t.Description), strings.TrimSpace(t.Title), t.Name)
	about = clip.Shorten(clip.Sanitize(about), maxDescription)
	if o.size+len(schema)+len(about) > tool.MaxOfferedSize {
		o.leave(t.Name, "the tools before it have all %d bytes that models are told of one server: name the "+
			"tools that the agent needs", tool.MaxOfferedSize)
		return
	}
	o.size += len(schema) + len(about)
	ask := func(args []byte) (string, json.RawMessage, error) {
		params, err := json.Marshal(map[string]any{"name": t.Name, "arguments": json.RawMessage(args)})
		return mcpclient.CallTool, params, err
	}
	safety := o.SafetyOf(t.Name)
	defined, err := tool.Define(tool.Spec{
		Name: name, Source: o.source(), Schema: schema, Safety: safety, How: o.way(ask, safety, render),
		Env:         o.env(),
		Description: about + "\n(A tool of the MCP server " + o.Name + ".)",
	})
	if err != nil {
		o.leave(t.Name, "%v", err)
		return
	}
	o.tools = append(o.tools, defined)
}

// objectSchema is a schema as models take it: that of an object.
func objectSchema(schema json.RawMessage) (json.RawMessage, error) {
	if len(schema) > maxSchema {
		return nil, fmt.Errorf("it has %d bytes, at most %d are taken", len(schema), maxSchema)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(schema, &keys); err != nil || keys == nil {
		return nil, fmt.Errorf("it is no object")
	}
	if _, ok := keys["type"]; !ok {
		keys["type"] = json.RawMessage(`"object"`)
		var err error
		if schema, err = json.Marshal(keys); err != nil {
			return nil, err
		}
	}
	return schema, tool.CheckSchema(schema)
}

// rendering shows an answer. One that is not what the tool has promised is an error.
func (o *offering) rendering(t Listed) (func(tool.ServerReply) tool.Result, error) {
	if len(t.OutputSchema) == 0 || string(t.OutputSchema) == "null" {
		return tool.ServerReply.Show, nil
	}
	if len(t.OutputSchema) > maxSchema {
		return nil, fmt.Errorf("it has %d bytes, at most %d are taken", len(t.OutputSchema), maxSchema)
	}
	schema, err := tool.NewSchema(t.OutputSchema)
	if err != nil {
		return nil, err
	}
	return func(r tool.ServerReply) tool.Result {
		if r.IsError {
			return r.Show()
		}
		problems := []string{"there is no structured content"}
		if r.Structured != "" {
			problems = schema.Problems(json.RawMessage(r.Structured))
		}
		if len(problems) > 0 {
			r.IsError = true
			r.Notes = append(slices.Clip(r.Notes), "The answer is not what the tool's outputSchema promises: "+
				strings.Join(problems, "; "))
		}
		return r.Show()
	}, nil
}

// resourceSchema and promptSchema are those of the tools that read what a server has beside tools.
var (
	resourceSchema = json.RawMessage(`{
  "type": "object",
  "properties": {"uri": {"type": "string", "minLength": 1,
    "description": "URI of the resource; leave it out to list the resources that there are."}},
  "additionalProperties": false
}`)
	promptSchema = json.RawMessage(`{
  "type": "object",
  "properties": {
    "name": {"type": "string", "minLength": 1,
      "description": "Name of the prompt; leave it out to list the prompts that there are."},
    "arguments": {"type": "object", "additionalProperties": {"type": "string"},
      "description": "The prompt's arguments."}
  },
  "additionalProperties": false
}`)
)

// readers adds the tools that read a server's resources and prompts. One that the server has itself stands.
func (o *offering) readers(l List, taken func(string) bool) {
	if l.Resources {
		o.reader("read_resource", "Read a resource, or list the resources,", resourceSchema, taken,
			either("uri", mcpclient.ReadResource, mcpclient.ListResources))
	}
	if l.Prompts {
		o.reader("get_prompt", "Get a prompt, or list the prompts,", promptSchema, taken,
			either("name", mcpclient.GetPrompt, mcpclient.ListPrompts))
	}
}

func (o *offering) reader(own, about string, schema json.RawMessage, taken func(string) bool, ask Ask) {
	name := o.NameFor(own)
	if taken(name) {
		return
	}
	defined, err := tool.Define(tool.Spec{
		Name: name, Source: o.source(), Schema: schema, Safety: tool.Idempotent,
		Description: about + " of the MCP server " + o.Name + ".",
		How:         o.way(ask, tool.Idempotent, tool.ServerReply.Show), Env: o.env(),
	})
	if err != nil {
		o.leave(own, "%v", err)
		return
	}
	o.tools = append(o.tools, defined)
}

// env is what a server's command is given over the agent's variables, unexpanded.
func (o *offering) env() map[string]*string {
	if o.Command == nil {
		return nil
	}
	env := map[string]*string{}
	for name, value := range o.Command.Env {
		env[name] = &value
	}
	return env
}

// either asks for one thing if the arguments name it, and for the list otherwise.
func either(key, one, list string) Ask {
	return func(args []byte) (string, json.RawMessage, error) {
		var given map[string]json.RawMessage
		if err := json.Unmarshal(args, &given); err != nil {
			return "", nil, err
		}
		if _, named := given[key]; named {
			return one, args, nil
		}
		return list, nil, nil
	}
}
