package tool

import (
	"slices"
	"strings"
)

// aliases are the names by which models call the arguments of a tool, out of habit with other tools: folded name →
// argument. The argument's own name is found whatever its case and separators.
var aliases = map[string]map[string]string{
	NameRead: {
		"file": "path", "filepath": "path", "filename": "path", "targetfile": "path", "absolutepath": "path",
		"relativepath": "path", "directory": "path", "dir": "path",
		"start": "offset", "startline": "offset", "linestart": "offset", "line": "offset", "fromline": "offset",
		"lines": "limit", "numlines": "limit", "maxlines": "limit", "linecount": "limit", "count": "limit",
		"endline": endLine, "lineend": endLine, "end": endLine, "toline": endLine,
		"viewrange": lineRange, "linerange": lineRange, "range": lineRange,
	},
	NameWrite: {
		"file": "path", "filepath": "path", "filename": "path", "targetfile": "path", "absolutepath": "path",
		"relativepath": "path", "contents": "content", "text": "content", "filetext": "content", "data": "content",
		"body": "content", "filecontent": "content", "code": "content",
	},
	NameEdit: {
		"file": "path", "filepath": "path", "filename": "path", "targetfile": "path", "absolutepath": "path",
		"relativepath": "path",
		"oldstring":    "oldText", "oldstr": "oldText", "old": "oldText", "search": "oldText", "find": "oldText",
		"newstring": "newText", "newstr": "newText", "new": "newText", "replace": "newText", "replacement": "newText",
		"all": "replaceAll",
	},
	NameBash: {
		"cmd": "command", "commandline": "command", "script": "command", "code": "command", "input": "command",
		"bash": "command", "shell": "command",
		"workdir": "cwd", "workingdirectory": "cwd", "workingdir": "cwd", "directory": "cwd", "dir": "cwd",
		"timeoutseconds": "timeout", "timeoutsecs": "timeout", "timeoutsec": "timeout", "timeouts": "timeout",
		"timeoutms": milliseconds, "timeoutmillis": milliseconds, "timeoutmilliseconds": milliseconds,
	},
	NameGrep: {
		"regex": "pattern", "regexp": "pattern", "query": "pattern", "search": "pattern", "text": "pattern",
		"file": "path", "filepath": "path", "filename": "path", "directory": "path", "dir": "path",
		"glob": "include", "includepattern": "include", "filepattern": "include", "globpattern": "include",
		"includes":     "include",
		"fixedstrings": "literal", "fixed": "literal", "isliteral": "literal",
		"caseinsensitive": "ignoreCase", "insensitive": "ignoreCase", "i": "ignoreCase",
		"casesensitive": caseSensitive, "isregex": isRegex, "isregexp": isRegex,
	},
	NameGlob: {
		"glob": "pattern", "globpattern": "pattern", "query": "pattern", "filepattern": "pattern",
		"directory": "path", "dir": "path", "root": "path", "cwd": "path",
	},
}

// Meanings of an alias that are no argument by another name.
const (
	endLine       = "\x00end line"
	lineRange     = "\x00line range"
	milliseconds  = "\x00milliseconds"
	caseSensitive = "\x00case sensitive"
	isRegex       = "\x00is regex"
)

// asides are what models add to a call to tell about it. They change nothing, so the model is not told that they were
// left out.
var asides = []string{
	"description", "explanation", "reason", "reasoning", "thought", "thoughts", "purpose", "intent", "summary",
	"comment",
	"justification", "title", "label", "risk", "risklevel", "securityrisk", "issafe", "requiresapproval", "placeholder",
}

// fold is a name as it is compared: without case and separators.
func fold(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "", ".", "").Replace(name))
}

// meaning finds the argument, or one of the meanings above, that name stands for; "" when there is none.
func (c contract) meaning(name string) string {
	if c.types[name] != "" {
		return name
	}
	folded := fold(name)
	for own := range c.types {
		if fold(own) == folded {
			return own
		}
	}
	return aliases[c.tool][folded]
}

func aside(name string) bool { return slices.Contains(asides, fold(name)) }
