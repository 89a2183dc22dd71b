package builtin

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

var write = tool.Spec{
	Name:    NameWrite,
	Source:  source,
	Safety:  tool.Idempotent,
	How:     tool.ByExecutor(renderWrite),
	Subject: "path",
	Lines:   []string{"path"},
	Access:  tool.WritesFiles,
	Lost: "The outcome of this call is unknown: its result was lost, and the file may or may not have been " +
		"written. Writing it again is safe.",
	Description: "Write a file: the content replaces whatever was there, all at once. Missing directories on the way " +
		"are made. To change a part of an existing file use edit.",
	Habits: tool.Habits{
		Names: map[string]string{
			"file": "path", "filepath": "path", "filename": "path", "targetfile": "path", "absolutepath": "path",
			"relativepath": "path", "contents": "content", "text": "content", "filetext": "content", "data": "content",
			"body": "content", "filecontent": "content", "code": "content",
		},
		Text: documentText,
	},
	Schema: json.RawMessage(`{
  "type": "object",
  "properties": {
    "path": {"type": "string", "minLength": 1,
      "description": "File to write; relative paths start at the working directory."},
    "content": {"type": "string",
      "description": "The whole new content."}
  },
  "required": ["path", "content"],
  "additionalProperties": false
}`),
}

// documentText is for who writes a JSON file and gives the document instead of its text.
func documentText(a *tool.Arguments, name string, _ any) (any, bool) {
	if name != "content" {
		return nil, false
	}
	a.Note(name + " was given as JSON and not as text; it was written as indented JSON.")
	var b bytes.Buffer
	if err := json.Indent(&b, a.Raw(name), "", "  "); err != nil {
		return string(a.Raw(name)), true
	}
	return b.String() + "\n", true
}

func renderWrite(req tool.WriteFile, _ tool.WriteReply) tool.Result {
	path := clip.Display(req.Path)
	return tool.Result{
		Text:    fmt.Sprintf("Successfully wrote %d bytes to %s", len(req.Content), path),
		Details: tool.Fields{"path": path, "bytes": len(req.Content)}.Encode(),
	}
}
