package builtin

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// Bounds of what grep shows.
const (
	maxMatches = 100 // matches
	maxMatch   = 500 // characters of one
)

var grep = tool.Spec{
	Name:    NameGrep,
	Source:  source,
	Safety:  tool.Pure,
	How:     tool.ByExecutor(renderGrep),
	Subject: "path",
	Lines:   []string{"path", "include"},
	Access:  tool.ListsFiles,
	Description: "Search the contents of files for a regular expression, or for literal text. Hidden files and files " +
		"that ignore files (.gitignore and the like) exclude are left out. Returns lines as path:line: text, " +
		"at most 100.",
	Habits: tool.Habits{
		Names: map[string]string{
			"regex": "pattern", "regexp": "pattern", "query": "pattern", "search": "pattern", "text": "pattern",
			"file": "path", "filepath": "path", "filename": "path", "directory": "path", "dir": "path",
			"glob": "include", "includepattern": "include", "filepattern": "include", "globpattern": "include",
			"includes": "include", "fixedstrings": "literal", "fixed": "literal", "isliteral": "literal",
			"caseinsensitive": "ignoreCase", "insensitive": "ignoreCase", "i": "ignoreCase",
		},
		Words: map[string]func(*tool.Arguments, any) bool{
			"casesensitive": opposite("ignoreCase"), "isregex": opposite("literal"), "isregexp": opposite("literal"),
		},
		Text:  anyOf,
		After: omitEmpty,
	},
	Schema: json.RawMessage(`{
  "type": "object",
  "properties": {
    "pattern": {"type": "string", "minLength": 1,
      "description": "Regular expression, or plain text when literal is set."},
    "path": {"type": "string", "minLength": 1,
      "description": "File or directory to search; the working directory when absent."},
    "include": {"type": "string", "minLength": 1,
      "description": "Only files whose name matches this glob, such as *.go."},
    "literal": {"type": "boolean",
      "description": "Take the pattern as plain text."},
    "ignoreCase": {"type": "boolean",
      "description": "Match upper and lower case alike."}
  },
  "required": ["pattern"],
  "additionalProperties": false
}`),
}

// opposite takes an argument that says the opposite of another one.
func opposite(of string) func(*tool.Arguments, any) bool {
	return func(a *tool.Arguments, v any) bool {
		flag, ok := tool.Boolean(v)
		if ok {
			a.Fill(of, !flag)
		}
		return ok
	}
}

// anyOf is one glob for several.
func anyOf(_ *tool.Arguments, name string, v any) (any, bool) {
	list, _ := v.([]any)
	texts := stringsOf(list)
	if name != "include" || len(texts) < 2 {
		return nil, false
	}
	return "{" + strings.Join(texts, ",") + "}", true
}

func renderGrep(_ tool.Grep, r tool.GrepReply) tool.Result {
	total := max(r.Total, int64(len(r.Matches)))
	text, shown := fit(r.Matches, maxMatches, func(m tool.Match) string {
		return fmt.Sprintf("%s:%d: %s", clip.Display(m.Path), m.Line, matchText(m.Text))
	})
	switch {
	case total == 0:
		text = "No matches found."
	case int64(shown) < total:
		text += fmt.Sprintf("\n\n[Showing %d of %d matches. Narrow your search.]", shown, total)
	}
	return tool.Result{Text: text + note(r.Note), Details: tool.Fields{"matchCount": total}.Encode()}
}

// matchText is a matching line, on one line and of maxMatch characters at most.
func matchText(s string) string {
	s = strings.TrimRight(clip.Sanitize(s), "\r\n")
	s = strings.NewReplacer("\n", " ", "\r", " ").Replace(s)
	if utf8.RuneCountInString(s) <= maxMatch {
		return s
	}
	n := 0
	for i := range s {
		if n == maxMatch {
			return s[:i] + "..."
		}
		n++
	}
	return s
}
