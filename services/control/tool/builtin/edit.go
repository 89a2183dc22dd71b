package builtin

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

var edit = tool.Spec{
	Name:    NameEdit,
	Source:  source,
	Safety:  tool.AtMostOnce,
	How:     tool.ByExecutor(renderEdit),
	Subject: "path",
	Lines:   []string{"path"},
	Lost: "The outcome of this edit is unknown: its result was lost, and the file may or may not have been " +
		"changed. Read the file before you repeat the edit.",
	Description: "Replace text in a file. oldText is taken literally, whitespace and line breaks included, and must " +
		"occur exactly once, unless replaceAll is set. Returns a diff of what changed.",
	Habits: tool.Habits{
		Names: map[string]string{
			"file": "path", "filepath": "path", "filename": "path", "targetfile": "path", "absolutepath": "path",
			"relativepath": "path", "oldstring": "oldText", "oldstr": "oldText", "old": "oldText", "search": "oldText",
			"find": "oldText", "newstring": "newText", "newstr": "newText", "new": "newText", "replace": "newText",
			"replacement": "newText", "all": "replaceAll",
		},
		Hints:  map[string]string{"edits": "edits: one call makes one edit; call edit once for each"},
		Before: unbundle,
	},
	Schema: json.RawMessage(`{
  "type": "object",
  "properties": {
    "path": {"type": "string", "minLength": 1,
      "description": "File to change; relative paths start at the working directory."},
    "oldText": {"type": "string", "minLength": 1,
      "description": "The exact text to replace, with enough around it to be unique."},
    "newText": {"type": "string",
      "description": "What to put in its place; taken literally."},
    "replaceAll": {"type": "boolean",
      "description": "Replace every occurrence instead of exactly one."}
  },
  "required": ["path", "oldText", "newText"],
  "additionalProperties": false
}`),
}

// unbundle takes the one edit out of a list of edits. A list beside another edit stays where it is, to be ignored
// aloud.
func unbundle(a *tool.Arguments) {
	list, ok := a.Value("edits").([]any)
	if !ok || len(list) != 1 {
		return
	}
	var written []json.RawMessage
	if json.Unmarshal(a.Raw("edits"), &written) != nil {
		return
	}
	inner, ok := a.Inner(written[0])
	if !ok {
		return
	}
	another := false
	a.All(func(name string) {
		own := a.Meaning(name)
		another = another || own == "oldText" || own == "newText"
	})
	if !another {
		a.Drop("edits")
		a.Merge(inner)
	}
}

func renderEdit(req tool.EditFile, r tool.EditReply) tool.Result {
	path := clip.Display(req.Path)
	text := "Successfully edited " + path
	if r.Replacements > 1 {
		text = fmt.Sprintf("Replaced %d occurrences in %s", r.Replacements, path)
	}
	diff := boundDiff(clip.Sanitize(r.Diff))
	if diff != "" {
		text += "\n\n" + diff
	}
	text += note(r.Note)
	return tool.Result{
		Text:    text,
		Details: tool.Fields{"path": path, "replacements": r.Replacements, "diff": diff}.Encode(),
	}
}

// boundDiff keeps the beginning of a diff that is over the limits.
func boundDiff(diff string) string {
	head, cut := clip.Head(strings.TrimRight(diff, "\n"), tool.MaxLines, tool.MaxText)
	if cut == 0 {
		return head
	}
	return strings.TrimSuffix(head, "\n") + fmt.Sprintf("\n[... %d more bytes of the diff cut ...]", cut)
}
