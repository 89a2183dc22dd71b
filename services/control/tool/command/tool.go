package command

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/tool"
)

// Bounds of the variables that a command has its arguments in. Systems bound each one, and all of them with the command
// line: an argument that is larger is on standard input alone.
const (
	maxVariable  = 32 * 1024
	maxVariables = 256 * 1024
)

// Tool is the tool that models are offered.
func (d Definition) Tool() (*tool.Tool, error) {
	return tool.Define(tool.Spec{
		Name: d.Name, Description: d.Description, Schema: d.Arguments, Safety: d.Safety,
		Source: "tools/" + d.Name + ".yaml",
		How:    tool.ByCommand(d.line, d.render),
		Lines:  d.names(),
		Env:    d.Env,
		Mute:   d.Output == Image,
	})
}

// names are the arguments that the schema declares, sorted.
func (d Definition) names() []string {
	var schema struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if json.Unmarshal(d.Arguments, &schema) != nil {
		return nil // Define says what is wrong with it
	}
	return slices.Sorted(maps.Keys(schema.Properties))
}

// line is the command that a call is. Its line is always the same.
func (d Definition) line(args []byte) (tool.Exec, error) {
	if len(args) > tool.MaxInput {
		return tool.Exec{}, fmt.Errorf("the arguments have %d bytes in all, at most %d are possible", len(args),
			tool.MaxInput)
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(args, &given); err != nil {
		return tool.Exec{}, err
	}
	vars, _, err := d.variables(given)
	return tool.Exec{
		Command: d.Command, Cwd: d.Cwd, TimeoutSeconds: d.Timeout.Seconds(), Input: args, Env: vars,
		Image: d.Output == Image,
	}, err
}

// variables are the arguments that the schema declares, by the names of their variables, and those that are too large
// for one.
func (d Definition) variables(given map[string]json.RawMessage) (vars map[string]string, large []string, err error) {
	vars = map[string]string{}
	all := 0
	for _, name := range d.names() {
		body, ok := given[name]
		if !ok {
			continue
		}
		value := string(body)
		if strings.HasPrefix(value, `"`) {
			if err := json.Unmarshal(body, &value); err != nil {
				return nil, nil, err
			}
		}
		if len(value) > maxVariable || all+len(value) > maxVariables {
			large = append(large, name)
			continue
		}
		all += len(value)
		vars[variable(name)] = value
	}
	return vars, large, nil
}

// variable is the name of the variable that has an argument: ARG_ and the name in capitals, in which every other
// character is _.
func variable(argument string) string {
	return "ARG_" + strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, argument)
}

// checkVariables refuses arguments that would have one variable.
func (d Definition) checkVariables() error {
	by := map[string]string{}
	for _, name := range d.names() {
		v := variable(name)
		if other, taken := by[v]; taken {
			return fmt.Errorf("%s and %s would both be the variable %s: rename one", other, name, v)
		}
		by[v] = name
	}
	return nil
}
