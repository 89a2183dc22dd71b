package tool

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// Call is a call as it was understood.
type Call struct {
	ID      string // of the call's row; whoever makes the row sets it
	Tool    *Tool
	Request Request

	args    json.RawMessage // as they were understood, if Request does not have them by name; nil otherwise
	gone    bool            // the tool is not offered any more
	notes   []string        // for the model: what was taken in another way than it was written
	ignored []string        // arguments that the tool does not have
}

// Arguments are the arguments as they were understood, by name, for those who judge or show a call. What Request is
// made of them is no concern of theirs.
func (c Call) Arguments() (json.RawMessage, error) {
	if c.args != nil {
		return c.args, nil
	}
	return json.Marshal(c.Request)
}

// Gone reports whether the tool is not offered any more, so that what the call would do is not known.
func (c Call) Gone() bool { return c.gone }

// Command is the command line that the call runs, "" when it runs none of its own.
func (c Call) Command() string {
	if x, ok := c.Request.(Exec); ok {
		return x.Command
	}
	return ""
}

// Fits reports whether a reply is one to the call. Any other one says nothing of what the call has done.
func (c Call) Fits(r Reply) bool {
	_, failed := r.(Failure)
	return failed || c.Tool.How.fits(c.Request, r)
}

func (t *Tool) parse(args json.RawMessage) (Call, error) {
	clean, problems := t.arguments(args)
	if len(problems) > 0 {
		return Call{}, refuse(t.Name, problems, args)
	}
	body, err := clean.encode()
	if err != nil {
		return Call{}, refuse(t.Name, []string{err.Error()}, args)
	}
	req, err := t.How.parse(body)
	if err != nil {
		return Call{}, refuse(t.Name, []string{err.Error()}, args)
	}
	problems = t.noNUL(clean)
	if r, ok := req.(interface{ Problems() []string }); ok {
		problems = append(problems, r.Problems()...)
	}
	if t.How.check != nil {
		problems = append(problems, t.How.check(req)...)
	}
	if len(problems) > 0 {
		return Call{}, refuse(t.Name, problems, args)
	}
	c := Call{Tool: t, Request: req, notes: clean.notes, ignored: clean.ignored}
	if t.How.makes {
		c.args = body
	}
	return c, nil
}

// noNUL are the problems with arguments that systems take for the end of a text.
func (t *Tool) noNUL(a *Arguments) (problems []string) {
	for _, name := range t.Lines {
		if value, _ := a.Value(name).(string); strings.ContainsRune(value, 0) {
			problems = append(problems, name+": must not contain a NUL character")
		}
	}
	return problems
}

// subject is what the call is about: the argument that the tool calls its Subject.
func (c Call) subject() string {
	var all map[string]any
	body, err := json.Marshal(c.Request)
	if err != nil || json.Unmarshal(body, &all) != nil {
		return "" // Hash has told
	}
	value, _ := all[c.Tool.Subject].(string)
	return value
}

// Hash identifies what a call asks for, over all its dispatches: tool, request, directory and variables. A variable of
// nil is taken away.
func (c Call) Hash(cwd string, env map[string]*string) ([]byte, error) {
	body, err := json.Marshal(c.Request)
	if err != nil {
		return nil, fmt.Errorf("encoding a call's arguments: %w", err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n", c.Tool.Name, body, cwd)
	for _, k := range slices.Sorted(maps.Keys(env)) {
		if v := env[k]; v != nil {
			fmt.Fprintf(h, "%q=%q\n", k, *v)
		} else {
			fmt.Fprintf(h, "%q\n", k)
		}
	}
	return h.Sum(nil), nil
}

// maxIgnored bounds how many ignored arguments are named.
const maxIgnored = 5

// annotate adds to the result of the call which of its arguments were ignored or taken in another way. Clients find
// every ignored argument in the details. The model is not told of an argument that only comments the call.
func (c Call) annotate(res Result) Result {
	notes := slices.Clone(c.notes)
	var unknown []string
	for _, name := range c.ignored {
		if !aside(name) && len(unknown) < maxIgnored {
			unknown = append(unknown, clip.Display(clip.Shorten(name, 100)))
		}
	}
	if len(unknown) > 0 {
		notes = append(notes, fmt.Sprintf("Ignored: %s. The arguments of %s are %s.",
			strings.Join(unknown, ", "), c.Tool.Name, c.Tool.contract.names()))
	}
	if len(notes) > 0 {
		res.Text += "\n\n[" + strings.Join(notes, " ") + "]"
	}
	if len(c.ignored) > 0 {
		details := Fields{}
		if len(res.Details) == 0 || json.Unmarshal(res.Details, &details) == nil {
			names := make([]string, min(len(c.ignored), maxProblems))
			for i := range names {
				names[i] = clip.Display(clip.Shorten(c.ignored[i], 100))
			}
			details["ignored"] = names
			res.Details = details.Encode()
		}
	}
	return res
}

// maxEcho bounds how much of refused arguments is quoted, maxProblems how many problems are listed.
const (
	maxEcho     = 1000
	maxProblems = 20
)

func refuse(name string, problems []string, args json.RawMessage) error {
	if n := len(problems); n > maxProblems {
		problems = append(problems[:maxProblems:maxProblems], fmt.Sprintf("… %d more", n-maxProblems))
	}
	return ErrArguments.With("Validation failed for tool %q:\n  - %s\n\nReceived arguments:\n%s\n\nCorrect the "+
		"arguments and call the tool again.",
		name, strings.Join(problems, "\n  - "), clip.Shorten(clip.Sanitize(string(args)), maxEcho))
}
