// Package graph draws a workflow as a diagram in Mermaid's language, which many viewers of Markdown show.
package graph

import (
	"fmt"
	"strings"

	"github.com/pawl-dev/pawl/services/control/workflow"
)

// Mermaid is the flowchart of a workflow: a node for each step, a frame for each step that has others inside, arrows in
// the order in which steps run, and dotted ones to what runs only when something fails.
func Mermaid(d *workflow.Definition) string {
	g := &drawing{}
	g.line("flowchart TD")
	g.line("start([%s])", quote(d.Name))
	last := g.list(d.Steps, "start", "")
	g.line("%s --> done([done])", last)
	if len(d.Catch) > 0 {
		g.frame("on_failure", "when the run has failed", func() { g.list(d.Catch, "", "") })
		g.line("%s -. failed .-> on_failure", last)
	}
	if len(d.Finally) > 0 {
		g.frame("in_any_case", "in any case", func() { g.list(d.Finally, "", "") })
		g.line("done --> in_any_case")
	}
	return g.String()
}

// drawing writes lines, and numbers nodes.
type drawing struct {
	strings.Builder
	nodes int
	depth int
}

func (g *drawing) line(format string, args ...any) {
	g.WriteString(strings.Repeat("    ", g.depth))
	fmt.Fprintf(g, format+"\n", args...)
	if g.depth == 0 {
		g.depth = 1 // all is in the flowchart
	}
}

// frame draws what is inside of a step.
func (g *drawing) frame(id, title string, inside func()) {
	g.line("subgraph %s [%s]", id, quote(title))
	g.depth++
	inside()
	g.depth--
	g.line("end")
}

// list draws steps after a node, "" for none. It returns the last one.
func (g *drawing) list(list []*workflow.Step, from, label string) string {
	for _, s := range list {
		id := g.step(s)
		arrow := "-->"
		if s.If != nil {
			label = "if " + s.If.Source
		}
		if label != "" {
			arrow = "-->|" + quote(label) + "|"
		}
		if from != "" {
			g.line("%s %s %s", from, arrow, id)
		}
		from, label = id, ""
	}
	return from
}

// step draws a step and returns its node.
func (g *drawing) step(s *workflow.Step) string {
	g.nodes++
	id := fmt.Sprintf("s%d", g.nodes)
	title := s.Kind
	if s.ID != "" {
		title = s.ID + ": " + s.Kind
	}
	if what := about(s); what != "" {
		title += " " + what
	}
	lists := s.Lists()
	if len(lists) == 0 {
		g.line("%s%s", id, shape(s, title))
		return id
	}
	g.frame(id, title, func() {
		for i, l := range lists {
			if l.Name == "do" || l.Name == "group" {
				g.list(l.Steps, "", "")
				continue
			}
			g.frame(fmt.Sprintf("%s_%d", id, i+1), l.Name, func() { g.list(l.Steps, "", "") })
		}
	})
	return id
}

// about is what a step does, in a few words.
func about(s *workflow.Step) string {
	switch do := s.Do.(type) {
	case *workflow.Signal:
		return do.Name
	case *workflow.Call:
		return do.Tool
	case *workflow.Workflow:
		return do.Name
	case *workflow.Skill:
		return do.Name
	case *workflow.Dispatch:
		return do.Agent
	case *workflow.Prompt:
		return do.Agent
	case *workflow.Shell:
		return do.Command
	case *workflow.Foreach:
		return do.As
	case *workflow.Repeat:
		return "until " + do.Until.Source
	case *workflow.Fail:
		return do.Reason
	}
	return ""
}

// shape is the form of a node: what waits for people or for time has one of its own.
func shape(s *workflow.Step, title string) string {
	switch s.Do.(type) {
	case *workflow.Approve:
		return "{{" + quote(title) + "}}"
	case *workflow.Sleep, *workflow.Signal:
		return "([" + quote(title) + "])"
	case *workflow.Fail:
		return "[[" + quote(title) + "]]"
	case *workflow.Workflow:
		return "[/" + quote(title) + "/]"
	}
	return "[" + quote(title) + "]"
}

// most bounds a title in characters.
const most = 60

// quote is a text as Mermaid takes it: in one line, with what has a meaning there as numbers.
func quote(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most-1]) + "…"
	}
	var b strings.Builder
	for _, c := range s {
		switch {
		case strings.ContainsRune("\"#<>&|[]{}()`\\;", c):
			fmt.Fprintf(&b, "#%d;", c)
		default:
			b.WriteRune(c)
		}
	}
	return `"` + b.String() + `"`
}
