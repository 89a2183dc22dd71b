// Package workflowtest has what tests that run workflows share: tables of runs, with what has to be given to them and
// what they come to, and the hosts that they speak to.
//
// A table is the file expect.json of a project. Two kinds of projects have one: each folder of examples that has
// workflows, and the project that Ten makes.
package workflowtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"time"
)

// Case is a run of a workflow, in a folder of its own, with a field for each thing that a test gives it or looks at.
// Texts of what it comes to that begin with ~ are regular expressions of the whole text.
type Case struct {
	Name     string
	Workflow string
	// Setup is a command for sh in the folder, before the run starts.
	Setup  string
	Input  json.RawMessage
	Env    map[string]string // of the control plane
	Labels map[string]string // that the executor has to have
	// Passes is how far the clock has to go on after all has been given; 0 is not at all.
	Passes    Duration
	Signals   []Signal
	Decisions []Decision
	HTTP      []Exchange // what is asked for, each as often as Times says; nothing else is

	Status  string
	Output  json.RawMessage // nil is not looked at
	Reason  string          // "" is not looked at
	Message string          // "" is not looked at
	Files   map[string]string
	Logged  []string // lines of the run's log, in order
}

// Signal is a signal that the run is sent.
type Signal struct {
	Name string
	Body json.RawMessage
}

// Decision is how an approval of a step is decided: approve or deny.
type Decision struct {
	Step     string
	Decision string
	Comment  string
}

// Duration is a time.Duration that JSON has as 1h30m.
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err //nolint:wrapcheck // it names the text
}

// Read reads a table. The order is that of the file.
func Read(file string) ([]Case, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading a table of runs: %w", err)
	}
	var all []Case
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&all); err != nil {
		return nil, fmt.Errorf("reading the table of runs %s: %w", file, err)
	}
	return all, nil
}

// Ten makes the project of the ten workflows that the tests of package workflow load, in dir, which is also the folder
// that they work in. from is the folder services/control/workflow/testdata.
func Ten(from, dir string) error {
	project := filepath.Join(from, "project")
	for _, one := range [][2]string{
		{filepath.Join(project, "agents"), "agents"},
		{filepath.Join(project, "tools"), "tools"},
		{filepath.Join(project, "workspace"), "."},
		{filepath.Join(from, "good"), "workflows"},
	} {
		if err := os.CopyFS(filepath.Join(dir, one[1]), os.DirFS(one[0])); err != nil {
			return fmt.Errorf("making the project of the ten workflows: %w", err)
		}
	}
	return nil
}

// Example makes a copy of an example's project in dir.
func Example(from, dir string) error {
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		return fmt.Errorf("copying an example: %w", err)
	}
	return nil
}

// Prepare runs Setup in a folder.
func (c Case) Prepare(dir string) error {
	if c.Setup == "" {
		return nil
	}
	cmd := exec.Command("sh", "-ec", c.Setup)
	cmd.Dir = dir
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("preparing %s: %w: %s", c.Name, err, said)
	}
	return nil
}

// Ended is what a run has come to.
type Ended struct {
	Status, Reason, Message string
	Output                  json.RawMessage
	Logged                  []string
}

// Compare says what is not as the case wants it; dir is the folder of the run.
func (c Case) Compare(got Ended, dir string) error {
	var faults []error
	text := func(what, want, got string) {
		if !matches(want, got) {
			faults = append(faults, fmt.Errorf("%s: %s is %q, not %q", c.Name, what, got, want))
		}
	}
	text("the status", c.Status, got.Status)
	if c.Reason != "" {
		text("the reason", c.Reason, got.Reason)
	}
	if c.Message != "" {
		text("the message", c.Message, got.Message)
	}
	if c.Output != nil {
		var want, is any
		if err := errors.Join(json.Unmarshal(c.Output, &want), json.Unmarshal(got.Output, &is)); err != nil {
			faults = append(faults, fmt.Errorf("%s: the output %s: %w", c.Name, got.Output, err))
		} else if !equal(want, is) {
			faults = append(faults, fmt.Errorf("%s: the output is %s, not %s", c.Name, got.Output, c.Output))
		}
	}
	if len(c.Logged) > 0 && len(c.Logged) != len(got.Logged) {
		faults = append(faults, fmt.Errorf("%s: it has logged %q, not %q", c.Name, got.Logged, c.Logged))
	} else {
		for i, want := range c.Logged {
			text("a line of the log", want, got.Logged[i])
		}
	}
	for name, want := range c.Files {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, err)
		}
		text("the file "+name, want, string(content))
	}
	return errors.Join(faults...)
}

// matches compares texts.
func matches(want, got string) bool {
	pattern, ok := strings.CutPrefix(want, "~")
	if !ok {
		return want == got
	}
	p, err := regexp.Compile(`^(?s:` + pattern + `)$`)
	return err == nil && p.MatchString(got)
}

// equal compares what JSON holds.
func equal(want, got any) bool {
	switch want := want.(type) {
	case string:
		s, ok := got.(string)
		return ok && matches(want, s)
	case []any:
		all, ok := got.([]any)
		if !ok || len(all) != len(want) {
			return false
		}
		for i := range want {
			if !equal(want[i], all[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		all, ok := got.(map[string]any)
		if !ok || len(all) != len(want) {
			return false
		}
		for name := range want {
			v, has := all[name]
			if !has || !equal(want[name], v) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(want, got)
}
