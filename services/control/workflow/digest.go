package workflow

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/tool/command"
	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// child is what another workflow has to know of this one.
func (d *Definition) child() *Child {
	c := &Child{Output: expr.Shape{Kind: "null"}}
	if d.Input != nil {
		c.Input = d.Input.JSON
	}
	if d.Output != nil {
		c.Output = d.Scope.World().Shape(d.Output.Type, d.Output.Words)
	}
	return c
}

// canonical is the file without comments, aliases and the order of keys.
func (r *reader) canonical(root *yaml.Node) json.RawMessage {
	raw, ok := r.json(root)
	if !ok {
		return nil // the problem is reported
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		panic(err) // it was made just now
	}
	sorted, err := rawjson.Encode(v)
	if err != nil {
		panic(err)
	}
	return sorted
}

// Digest is the sha256 of everything that the definition says, in hex, and of what it knows of the workflows that it
// runs and of the tools that it calls. Comments, the order of keys and where the definition was read from do not
// matter.
func (d *Definition) Digest() string {
	h := sha256.New()
	content, err := rawjson.Encode(map[string]any{
		"name": d.Name, "workflow": d.content, "children": d.Children, "commands": d.Commands,
	})
	if err != nil {
		panic(err) // it holds what was JSON
	}
	h.Write(content)
	return hex.EncodeToString(h.Sum(nil))
}

// stored is the JSON form of a definition: its file, and what the file depends on.
type stored struct {
	Name     string                        `json:"name"`
	Source   string                        `json:"source"`
	Children map[string]Child              `json:"children,omitempty"`
	Commands map[string]command.Definition `json:"commands,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (d *Definition) MarshalJSON() ([]byte, error) {
	return json.Marshal(stored{d.Name, d.source, d.Children, d.Commands})
}

// UnmarshalJSON implements json.Unmarshaler. Whether there are still such agents and tools is not asked.
func (d *Definition) UnmarshalJSON(body []byte) error {
	var s stored
	if err := json.Unmarshal(body, &s); err != nil {
		return err
	}
	around := Surrounding{
		Child: func(name string) (*Child, error) {
			if c, ok := s.Children[name]; ok {
				return &c, nil
			}
			return nil, nil //nolint:nilnil // nothing was known of it
		},
		Tool: func(name string) (t Tool, ok bool) {
			if c, ok := s.Commands[name]; ok {
				t.Command = &c // its arguments were checked
			}
			return t, true
		},
	}
	read, err := Parse(s.Name, s.Name+".yaml", []byte(s.Source), around)
	if err != nil {
		return fmt.Errorf("a stored workflow cannot be read: %w", err)
	}
	*d = *read
	return nil
}
