package tool

import "encoding/json"

// builtin holds the tools in the order in which they are offered.
var builtin = []Tool{
	{
		Name:   NameRead,
		Safety: Pure,
		Description: "Read a file, or list a directory. Text comes as whole lines, at most 2,000 of them and 50 KB " +
			"at a time; when there " +
			"is more, the last line says with which offset to continue. Images (PNG, JPEG, GIF, WebP) are shown as " +
			"images. For a " +
			"directory the names in it are returned.",
		Schema: json.RawMessage(`{
  "type": "object",
  "properties": {
    "path": {"type": "string", "minLength": 1, "description": "File or directory; relative paths start at the working directory."},
    "offset": {"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991, "description": "Number of the first line to show, from 1; a negative one counts from the end."},
    "limit": {"type": "integer", "minimum": 1, "maximum": 9007199254740991, "description": "How many lines to show at most."}
  },
  "required": ["path"],
  "additionalProperties": false
}`),
	},
	{
		Name:   NameWrite,
		Safety: Idempotent,
		Description: "Write a file: the content replaces whatever was there, all at once. Missing directories on the " +
			"way are made. To " +
			"change a part of an existing file use edit.",
		Schema: json.RawMessage(`{
  "type": "object",
  "properties": {
    "path": {"type": "string", "minLength": 1, "description": "File to write; relative paths start at the working directory."},
    "content": {"type": "string", "description": "The whole new content."}
  },
  "required": ["path", "content"],
  "additionalProperties": false
}`),
	},
	{
		Name:   NameEdit,
		Safety: AtMostOnce,
		Description: "Replace text in a file. oldText is taken literally, whitespace and line breaks included, and " +
			"must occur exactly " +
			"once, unless replaceAll is set. Returns a diff of what changed.",
		Schema: json.RawMessage(`{
  "type": "object",
  "properties": {
    "path": {"type": "string", "minLength": 1, "description": "File to change; relative paths start at the working directory."},
    "oldText": {"type": "string", "minLength": 1, "description": "The exact text to replace, with enough around it to be unique."},
    "newText": {"type": "string", "description": "What to put in its place; taken literally."},
    "replaceAll": {"type": "boolean", "description": "Replace every occurrence instead of exactly one."}
  },
  "required": ["path", "oldText", "newText"],
  "additionalProperties": false
}`),
	},
	{
		Name:   NameBash,
		Safety: AtMostOnce,
		Description: "Run a shell command in the working directory and return its output, standard output first, " +
			"then standard error. " +
			"There is no terminal and no input. Of long output the beginning and the end are kept. Processes that " +
			"are left in the " +
			"background are ended with the command.",
		Schema: json.RawMessage(`{
  "type": "object",
  "properties": {
    "command": {"type": "string", "minLength": 1, "description": "The command line."},
    "cwd": {"type": "string", "minLength": 1, "description": "Directory to run in; the working directory when absent."},
    "timeout": {"type": "number", "minimum": 0, "maximum": 86400, "description": "Seconds after which the command is ended; 0 or absent: no limit of its own."}
  },
  "required": ["command"],
  "additionalProperties": false
}`),
	},
	{
		Name:   NameGrep,
		Safety: Pure,
		Description: "Search the contents of files for a regular expression, or for literal text. Hidden files and " +
			"files that ignore " +
			"files (.gitignore and the like) exclude are left out. Returns lines as path:line: text, at most 100.",
		Schema: json.RawMessage(`{
  "type": "object",
  "properties": {
    "pattern": {"type": "string", "minLength": 1, "description": "Regular expression, or plain text when literal is set."},
    "path": {"type": "string", "minLength": 1, "description": "File or directory to search; the working directory when absent."},
    "include": {"type": "string", "minLength": 1, "description": "Only files whose name matches this glob, such as *.go."},
    "literal": {"type": "boolean", "description": "Take the pattern as plain text."},
    "ignoreCase": {"type": "boolean", "description": "Match upper and lower case alike."}
  },
  "required": ["pattern"],
  "additionalProperties": false
}`),
	},
	{
		Name:   NameGlob,
		Safety: Pure,
		Description: "List files whose path matches a pattern, such as **/*.go. Hidden and ignored files are left " +
			"out. Returns at most " +
			"1,000 paths.",
		Schema: json.RawMessage(`{
  "type": "object",
  "properties": {
    "pattern": {"type": "string", "minLength": 1, "description": "Glob: * and ? within one name, ** over directories, [a-z], {a,b}."},
    "path": {"type": "string", "minLength": 1, "description": "Directory to start from; the working directory when absent."}
  },
  "required": ["pattern"],
  "additionalProperties": false
}`),
	},
}
