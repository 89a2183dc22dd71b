package workflow

import (
	"slices"
	"strings"
)

// Check reads a definition that is not in force, as a Reload that finds it would, beside those of a tenant that are.
// Errors are those of Parse.
func Check(c *Catalogue, tenant, name string, src []byte, around Surrounding) (*Definition, error) {
	around.Child = func(child string) (*Child, error) {
		if way := reaches(c, tenant, child, name, map[string]bool{}); way != nil {
			return nil, ErrInvalid.With("%s is a circle: no workflow may run itself over others",
				strings.Join(append([]string{name}, way...), " → "))
		}
		d, err := c.Get(tenant, child)
		if err != nil {
			return nil, ErrNotFound.With("there is no workflow %s%s", short(child), unlikeOf(child, c.Names(tenant)))
		}
		return d.child(), nil
	}
	return Parse(name, name+".yaml", src, around)
}

// reaches is the way from one workflow to another over those that they run, both ends included; nil when there is none.
func reaches(c *Catalogue, tenant, from, to string, seen map[string]bool) []string {
	if from == to {
		return []string{to}
	}
	d, err := c.Get(tenant, from)
	if err != nil || seen[from] {
		return nil
	}
	seen[from] = true
	for child := range d.Children {
		if way := reaches(c, tenant, child, to, seen); way != nil {
			return slices.Insert(way, 0, from)
		}
	}
	return nil
}

// Warnings are what is right and may be of no use, one line each, with file, line and column.
func (d *Definition) Warnings() []string { return slices.Clone(d.warnings) }

// Result is the schema of what a step has to come to; nil is none.
func (s *Step) Result() *Schema {
	switch do := s.Do.(type) {
	case *Shell:
		return do.Result
	case *Prompt:
		return do.Result
	case *Skill:
		return do.Result
	case *Read:
		return do.Result
	case *Call:
		return do.Result
	case *Dispatch:
		return do.Result
	case *HTTP:
		return do.Result
	case *Signal:
		return do.Result
	}
	return nil
}
