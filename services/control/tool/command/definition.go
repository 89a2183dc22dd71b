// Package command has the tools that a project defines as command lines: tools/<name>.yaml.
//
//	tools/<name>.yaml ──Parse──▶ Definition, a part of the agents that name the tool
//
// Invariants: the arguments of a call are never a part of the command line; values of the control plane's environment
// are in no Definition and no error.
package command

import (
	"encoding/json"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// ErrInvalid is a definition that breaks a rule; the text names file, line, column and key.
var ErrInvalid = errs.New(errs.InvalidArgument, "TOOL_FILE_INVALID", "the command tool's definition is invalid")

// Output is what the standard output of the command is.
type Output string

// Kinds of output.
const (
	Text  Output = "text"
	JSON  Output = "json"
	Image Output = "image"
)

// Definition is a command tool. Its JSON form is a part of the definitions of the agents that name the tool, and of
// their digest: a new field must be left out there while it has its zero value.
type Definition struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Arguments   json.RawMessage `json:"arguments"` // JSON Schema
	Command     string          `json:"command"`
	Cwd         string          `json:"cwd,omitempty"` // within the agent's; "" is that
	// Env is unexpanded: ${NAME} in a value stands for a variable of the control plane. nil takes a variable away.
	Env     map[string]*string `json:"env,omitempty"`
	Timeout time.Duration      `json:"timeout,omitempty"` // nanoseconds in JSON; 0 is none of its own
	Safety  tool.Safety        `json:"safety"`
	Output  Output             `json:"output"`
}

// Bounds of a definition.
const (
	maxDescription = 8 * 1024
	maxCommand     = 64 * 1024
	maxPath        = 4096
	maxValue       = 32 * 1024
	maxTimeout     = 24 * time.Hour
)

// noArguments is the schema of a tool that has none.
const noArguments = `{"type":"object","properties":{},"additionalProperties":false}`

// Parse reads tools/<name>.yaml. file is for errors only. With a lookup, every variable that env refers to must be set.
// All problems are reported together, one line each; each is an ErrInvalid that names file, line, column and key.
func Parse(name, file string, src []byte, lookup func(string) (string, bool)) (Definition, error) {
	p := &parser{document.New(file), lookup}
	d := Definition{
		Name: name, Arguments: json.RawMessage(noArguments), Safety: tool.AtMostOnce, Output: Text,
	}
	p.parse(&d, src)
	return d, p.Err(ErrInvalid)
}

type parser struct {
	*document.Document
	lookup func(string) (string, bool)
}

func (p *parser) parse(d *Definition, src []byte) {
	if !tool.ValidName(d.Name) {
		p.Report(document.Whole, "", "%q cannot be a tool's name: it must have 1 to 64 letters, digits, _ and -",
			document.Printable(d.Name))
	}
	if !p.Check(src) {
		return
	}
	root, ok := p.Root("a tool", string(src))
	if !ok {
		return
	}
	if root != nil {
		p.Mapping(root, "",
			document.Key("description", func(key string, n *yaml.Node) {
				d.Description, _ = p.filled(key, n, maxDescription)
			}),
			document.Key("arguments", func(key string, n *yaml.Node) { p.arguments(d, key, n) }),
			document.Key("command", func(key string, n *yaml.Node) { d.Command, _ = p.filled(key, n, maxCommand) }),
			document.Key("cwd", func(key string, n *yaml.Node) { d.Cwd, _ = p.filled(key, n, maxPath) }),
			document.Key("env", func(key string, n *yaml.Node) { p.env(d, key, n) }),
			document.Key("timeout", func(key string, n *yaml.Node) { p.timeout(d, key, n) }),
			document.Key("safety", func(key string, n *yaml.Node) { p.safety(d, key, n) }),
			document.Key("output", func(key string, n *yaml.Node) {
				word, _ := p.Word(key, n, string(Text), string(JSON), string(Image))
				d.Output = Output(word)
			}),
		)
	}
	if k, _ := document.Find(root, "description"); k == nil {
		p.Report(document.Top, "description", "is required: what the tool does, and when the model is to call it")
	}
	if k, _ := document.Find(root, "command"); k == nil {
		p.Report(document.Top, "command", "is required: the command line that is run")
	}
}

// filled reads a text that is not blank.
func (p *parser) filled(key string, n *yaml.Node, most int) (string, bool) {
	s, ok := p.Text(key, n, most)
	if ok && strings.TrimSpace(s) == "" {
		p.Report(document.At(n), key, "must not be empty")
		return "", false
	}
	return s, ok
}

// arguments reads the JSON Schema. Models are told of it, so it has to be that of an object.
func (p *parser) arguments(d *Definition, key string, n *yaml.Node) {
	schema, ok := p.JSON(key, n)
	if !ok {
		return
	}
	d.Arguments = schema
	if err := tool.CheckSchema(schema); err != nil {
		p.Report(document.At(n), key, "%s", strings.Join(strings.Fields(err.Error()), " "))
		return
	}
	if err := d.checkVariables(); err != nil {
		p.Report(document.At(n), key, "%v", err)
	}
}

func (p *parser) env(d *Definition, key string, n *yaml.Node) {
	p.Pairs(n, key, func(name, key string, k, v *yaml.Node) {
		if !document.Variable(name) {
			p.Report(document.At(k), key, "cannot be a variable's name: letters, digits and _, not beginning with "+
				"a digit")
			return
		}
		if strings.HasPrefix(name, "ARG_") {
			p.Report(document.At(k), key, "is for an argument: variables that begin with ARG_ have these")
			return
		}
		if d.Env == nil {
			d.Env = map[string]*string{}
		}
		if v.Kind == yaml.ScalarNode && v.ShortTag() == "!!null" {
			d.Env[name] = nil
			return
		}
		if value, ok := p.Text(key, v, maxValue); ok {
			d.Env[name] = &value
			p.Template(key, v, value, p.lookup)
		}
	})
}

func (p *parser) timeout(d *Definition, key string, n *yaml.Node) {
	var ok bool
	if d.Timeout, ok = p.Duration(key, n); ok && d.Timeout > maxTimeout {
		p.Report(document.At(n), key, "must be at most %v", maxTimeout)
	}
}

func (p *parser) safety(d *Definition, key string, n *yaml.Node) {
	word, ok := p.Word(key, n, tool.Pure.String(), tool.Idempotent.String(), tool.AtMostOnce.String())
	for _, s := range []tool.Safety{tool.Pure, tool.Idempotent, tool.AtMostOnce} {
		if ok && s.String() == word {
			d.Safety = s
		}
	}
}
