// Package skill reads skills: folders with instructions for one kind of task, which a model reads when it needs them.
//
//	of the project:   folder ──Load, Parse──▶ Skill ─▶ told by name and description, read when activated
//	of the workspace: SKILL.md ──Find──▶ Found ─┘
//
// SKILL.md is YAML front matter and a Markdown body, in the open format of agentskills.io. Skills of the project are
// read strictly, because who runs the control plane has written them. Those of a workspace are read leniently, because
// whoever owns the workspace has: one that cannot be read is listed with its problem.
//
// Everything here is pure but for Load, which reads the folders of a project.
//
// Invariants: a skill adds instructions and takes tools away; it sets no tools, limits, models or environment. A text
// of a skill that Quote has quoted cannot end its quotes. Equal digests mean equal files.
package skill

import (
	"regexp"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/bundle"
)

// ErrInvalid is a skill of the project that breaks a rule; the text names file, line, column and key.
var ErrInvalid = errs.New(errs.InvalidArgument, "SKILL_INVALID", "the skill is invalid")

// ErrNotFound answers for a name that neither the agent nor the workspace has a skill of.
var ErrNotFound = errs.New(errs.NotFound, "SKILL_NOT_FOUND", "no such skill")

// FileName is the file that makes a folder a skill.
const FileName = "SKILL.md"

// Bounds of a skill, texts in characters.
const (
	MaxName          = 64
	MaxDescription   = 1024
	maxCompatibility = 500
	maxField         = 1024
	// MaxBody bounds the bytes of the instructions, MaxLines their lines: one result of a tool shows them as a whole.
	MaxBody  = 40 << 10
	MaxLines = 1800
	// MaxArguments bounds the bytes of the arguments of an activation.
	MaxArguments = 4 << 10
)

// Skill is one skill. Its JSON form is a part of the definitions of agents that name it.
type Skill struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	// Hidden skills are not told to models: only a caller can start with them.
	Hidden bool `json:"hidden,omitempty"`
	// Allowed are the tools that may be called while the skill is active; nil is all that the agent has.
	Allowed []Grant `json:"allowed,omitempty"`
	Body    string  `json:"body"`
	// Digest is the sha256 of all files of a skill of the project, in hex, with their names and modes.
	Digest string `json:"digest,omitempty"`
	// Files are those beside SKILL.md, by path. A skill of a workspace has none here: they are where they are needed.
	Files []bundle.File `json:"files,omitempty"`
}

// Folder is the name of the folder that has the skill's files in a workspace.
func (s *Skill) Folder() string { return bundle.Folder(strings.ReplaceAll(s.Name, ":", "_"), s.Digest) }

// validName reports whether a name is one to MaxName of a-z and 0-9, in words joined by single hyphens.
func validName(s string) bool { return len(s) <= MaxName && namePattern.MatchString(s) }

var namePattern = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// MaxFullName bounds the name by which a skill is asked for: that of a plugin's is PLUGIN:NAME.
const MaxFullName = 2*MaxName + 1

// ValidName reports whether a skill can be asked for by the name.
func ValidName(s string) bool {
	plugin, name, ofPlugin := strings.Cut(s, ":")
	if !ofPlugin {
		return validName(s)
	}
	return validName(name) && len(plugin) <= MaxName && pluginPattern.MatchString(plugin)
}

// pluginPattern is what a plugin's name has. Whether there is such a plugin is found out later.
var pluginPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

// Grant is one of the tools that a skill allows.
type Grant struct {
	Tool string `json:"tool"`
	// Command is what a command has to begin with, in whole words; "" is any call of the tool.
	Command string `json:"command,omitempty"`
}

var grantPattern = regexp.MustCompile(`^([A-Za-z0-9_-]{1,64})(?:\((.*)\))?$`)

// grants reads the value of allowed-tools: names separated by blanks or commas, each with an optional pattern in
// parentheses, which is the beginning of a command: Bash(git diff:*). What cannot be read is bad, and allows nothing.
func grants(value string) (all []Grant, bad []string) {
	all = []Grant{}
	for _, word := range words(value) {
		m := grantPattern.FindStringSubmatch(word)
		if m == nil {
			bad = append(bad, word)
			continue
		}
		g := Grant{Tool: snake(m[1])}
		if strings.HasSuffix(word, ")") && m[2] != "*" {
			g.Command = strings.Join(strings.Fields(strings.TrimSuffix(strings.TrimSuffix(m[2], "*"), ":")), " ")
			if g.Command == "" || strings.ContainsAny(g.Command, special+"*") {
				bad = append(bad, word)
				continue
			}
		}
		all = append(all, g)
	}
	return all, bad
}

// snake is the name of a tool as this platform writes it. Elsewhere tools are called Bash and WebFetch.
func snake(name string) string {
	if name[0] < 'A' || 'Z' < name[0] {
		return name
	}
	var b strings.Builder
	for i, r := range name {
		if 'A' <= r && r <= 'Z' {
			if r += 'a' - 'A'; i > 0 {
				b.WriteByte('_')
			}
		}
		b.WriteRune(r)
	}
	return b.String()
}

// words are the pieces of a text between blanks and commas that are not inside of parentheses.
func words(s string) []string {
	depth := 0
	return strings.FieldsFunc(s, func(r rune) bool {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		}
		return depth <= 0 && (r == ',' || r == ' ' || r == '\t' || r == '\n')
	})
}

// special are characters that let a shell do more than run the one command that a line begins with.
const special = ";&|<>$`(){}\n\r\\\"'"

// Allows reports whether a call is one that the grants allow; nil grants allow every call. command is the line that the
// call runs, "" when it runs none. Where only the beginning of a command is granted, the line must be one plain
// command: with anything in it that a shell treats as special the rest could be anything.
func Allows(all []Grant, tool, command string) bool {
	return all == nil || slices.ContainsFunc(all, func(g Grant) bool { return g.allows(tool, command) })
}

func (g Grant) allows(tool, command string) bool {
	if g.Tool != tool {
		return false
	}
	if g.Command == "" {
		return true
	}
	given, want := strings.Fields(command), strings.Fields(g.Command)
	return !strings.ContainsAny(command, special) && len(given) >= len(want) && slices.Equal(given[:len(want)], want)
}

// String is the grant as a skill would write it.
func (g Grant) String() string {
	if g.Command == "" {
		return g.Tool
	}
	return g.Tool + "(" + g.Command + ":*)"
}

// Source is where a skill comes from.
type Source string

// Sources of skills.
const (
	OfProject   Source = "project"
	OfWorkspace Source = "workspace"
)

// Activation is a skill whose instructions a model has been told.
type Activation struct {
	Name    string
	Source  Source
	Path    string // of its files, from the working directory; "" when there are none
	Digest  string // of a skill of the project
	Allowed []Grant
}

// Grants reads a list that Told has written, or that a skill has.
func Grants(told string) []Grant {
	if told == nothing {
		return []Grant{}
	}
	all, _ := grants(told)
	return all
}

const nothing = "none"

// Told is a list of grants for a message.
func Told(all []Grant) string {
	if len(all) == 0 {
		return nothing
	}
	list := make([]string, len(all))
	for i, g := range all {
		list[i] = g.String()
	}
	return strings.Join(list, ", ")
}
