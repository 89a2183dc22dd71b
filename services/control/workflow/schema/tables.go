package schema

import (
	"fmt"
	"strings"

	"github.com/pawl-dev/pawl/services/control/workflow"
)

// Tables are the keys of workflows and steps, and what expressions see of steps, as Markdown for the documentation.
func Tables() string {
	b := &strings.Builder{}
	fmt.Fprint(b, "### The file\n\n")
	table(b, workflow.WorkflowOptions())
	fmt.Fprint(b, "\n### Every step\n\nA step has the key of its kind, and any of these:\n\n")
	table(b, workflow.CommonOptions())
	fmt.Fprintf(b, "\n%s\n", wrap("Expressions see of every step: "+outputs(workflow.CommonOutputs())+"."))
	for _, k := range workflow.Kinds() {
		fmt.Fprintf(b, "\n### `%s`\n\n%s\n\n", k.Name, k.Doc)
		table(b, k.Options)
		if len(k.Outputs) > 0 {
			fmt.Fprintf(b, "\n%s\n", wrap("Outputs: "+outputs(k.Outputs)+"."))
		}
	}
	return b.String()
}

// table has a row for each key, those within a key included.
func table(b *strings.Builder, options []workflow.Option) {
	fmt.Fprint(b, "| key | value | meaning |\n|---|---|---|\n")
	rows(b, "", options)
}

func rows(b *strings.Builder, prefix string, options []workflow.Option) {
	for _, o := range options {
		form := o.Form.Name
		if o.Required {
			form += "; required"
		}
		fmt.Fprintf(b, "| `%s%s` | %s | %s |\n", prefix, o.Name, form, o.Doc)
		rows(b, prefix+o.Name+".", o.Form.Inner)
	}
}

// outputs lists what expressions see.
func outputs(all []workflow.Output) string {
	list := make([]string, len(all))
	for i, o := range all {
		of := o.Of
		if of == "" {
			of = strings.ToLower(strings.TrimPrefix(o.Type.String(), "google.protobuf."))
		}
		text := fmt.Sprintf("`%s` (%s", o.Name, of)
		switch {
		case len(o.Words) > 0:
			text += ": " + strings.Join(o.Words, ", ")
		case o.Doc != "":
			text += ", " + o.Doc
		case o.Absent != "":
			text += "; " + o.Absent
		}
		list[i] = text + ")"
	}
	return strings.Join(list, ", ")
}

// columns are those of a line of the documentation.
const columns = 118

// wrap breaks a paragraph into lines.
func wrap(s string) string {
	var out strings.Builder
	at := 0
	for i, word := range strings.Fields(s) {
		n := len([]rune(word))
		switch {
		case i == 0:
		case at+1+n > columns:
			out.WriteByte('\n')
			at = 0
		default:
			out.WriteByte(' ')
			at++
		}
		out.WriteString(word)
		at += n
	}
	return out.String()
}
