package builtin

import (
	"encoding/json"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// maxPaths bounds the paths that glob shows.
const maxPaths = 1000

var glob = tool.Spec{
	Name:    NameGlob,
	Source:  source,
	Safety:  tool.Pure,
	How:     tool.ByExecutor(renderGlob),
	Subject: "path",
	Lines:   []string{"path", "pattern"},
	Access:  tool.ListsFiles,
	Description: "List files whose path matches a pattern, such as **/*.go. Hidden and ignored files are left out. " +
		"Returns at most 1,000 paths.",
	Habits: tool.Habits{
		Names: map[string]string{
			"glob": "pattern", "globpattern": "pattern", "query": "pattern", "filepattern": "pattern",
			"directory": "path", "dir": "path", "root": "path", "cwd": "path",
		},
		After: omitEmpty,
	},
	Schema: json.RawMessage(`{
  "type": "object",
  "properties": {
    "pattern": {"type": "string", "minLength": 1,
      "description": "Glob: * and ? within one name, ** over directories, [a-z], {a,b}."},
    "path": {"type": "string", "minLength": 1,
      "description": "Directory to start from; the working directory when absent."}
  },
  "required": ["pattern"],
  "additionalProperties": false
}`),
}

func renderGlob(_ tool.Glob, r tool.GlobReply) tool.Result {
	total := len(r.Paths)
	text, shown := fit(r.Paths, maxPaths, clip.Display)
	cut := r.Truncated || shown < total
	switch {
	case total == 0:
		text = "No files found."
	case shown < total:
		text += fmt.Sprintf("\n\n[Showing %d of %d paths. Narrow the pattern.]", shown, total)
	case cut:
		text += fmt.Sprintf("\n\n[Showing the first %d paths; there are more. Narrow the pattern.]", shown)
	}
	return tool.Result{Text: text + note(r.Note), Details: tool.Fields{"pathCount": total, "truncated": cut}.Encode()}
}
