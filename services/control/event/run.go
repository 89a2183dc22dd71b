package event

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pawl-dev/pawl/services/control/step"
)

const (
	// maxJSON is how many bytes of an input, an output or other data events have.
	maxJSON = 8 << 10
	// shortText is how many bytes are left of a text that makes such data too long.
	shortText = 1 << 10
	// maxText is how many bytes of a line of a log, or of the message of a failure, events have.
	maxText = 8 << 10
)

// Run is what events tell of a run that begins or goes on.
type Run struct {
	Workflow string `json:"w"`
	Digest   string `json:"d,omitempty"` // of its definition
	Attempt  int    `json:"a"`           // from 1
	// Input is JSON. Cut says that the run has more of it.
	Input json.RawMessage `json:"i,omitempty"`
	Cut   bool            `json:"cut,omitempty"`
}

// Step is what events tell of a step of a run. The event's Turn is its Ord.
type Step struct {
	Path   string        `json:"p"`
	Kind   string        `json:"k"`
	Parent int           `json:"o,omitempty"` // Ord of the step that it is part of; 0 for none
	State  string        `json:"s"`
	Try    int           `json:"n,omitempty"`
	Took   time.Duration `json:"t,omitempty"` // so far
	// Wait is how long it was, when the event was made, until something of the step is due; 0 for nothing.
	Wait   time.Duration `json:"w,omitempty"`
	Failed *step.Failure `json:"f,omitempty"`
	Ref    string        `json:"r,omitempty"` // the run, or the submission, that it waits for or has made
	// Args is what the step does, JSON without secrets; of one that starts.
	Args json.RawMessage `json:"a,omitempty"`
	// Output is JSON, of one that has completed. Cut says that the step has more of it.
	Output json.RawMessage `json:"u,omitempty"`
	Cut    bool            `json:"cut,omitempty"`
}

// whole reports whether nothing else of the run can be at work when the step ends: it is one of the run's own list.
func (s *Step) whole() bool { return s != nil && s.Parent == 0 }

// weight is about how many bytes it takes.
func (s *Step) weight() int {
	n := len(s.Args) + len(s.Output)
	if s.Failed != nil {
		n += len(s.Failed.Message)
	}
	return n
}

// Line is what events tell of a line of a run's log, beside its text.
type Line struct {
	Level string `json:"l"`           // info, warn or error
	Path  string `json:"p,omitempty"` // of the step
	// Data is JSON, nil for none. Cut says that there was more of it.
	Data json.RawMessage `json:"d,omitempty"`
	Cut  bool            `json:"cut,omitempty"`
}

// RunBegins tells that an attempt of a run begins.
func RunBegins(workflow, digest string, attempt int, input json.RawMessage) Event {
	r := &Run{Workflow: workflow, Digest: digest, Attempt: attempt}
	r.Input, r.Cut = Bounded(input)
	return Event{Type: RunStarted, Run: r}
}

// RunResumes tells that another owner goes on with a run.
func RunResumes(workflow, digest string, attempt int) Event {
	return Event{Type: RunResumed, Run: &Run{Workflow: workflow, Digest: digest, Attempt: attempt}}
}

// StepOf tells of a step as its record says: that a try of it starts, has ended with another one to come, or that it
// has ended. args is what it does, JSON without secrets; nil is not told.
func StepOf(r step.Record, args json.RawMessage) Event {
	e := Event{Type: StepStarted, Turn: r.Ord, Step: &Step{
		Path: r.Path, Kind: r.Kind, Parent: r.Parent, State: r.State.String(), Try: r.Try, Took: r.Took, Ref: r.Ref,
	}}
	s := e.Step
	if r.Wait != step.Never && !r.State.Ended() {
		s.Wait = r.Wait
	}
	if r.Failed != nil {
		failed := *r.Failed
		failed.Message = cutText(failed.Message, maxText)
		s.Failed = &failed
	}
	switch {
	case r.State.Ended():
		e.Type = StepEnded
		s.Output, s.Cut = Bounded(r.Output)
	case r.Pausing:
		e.Type = StepPaused
	default:
		s.Args, s.Cut = Bounded(args)
	}
	return e
}

// StepWaits tells of a step that waits, or what for: see StepWaiting.
func StepWaits(r step.Record) Event {
	e := StepOf(r, nil)
	e.Type = StepWaiting
	return e
}

// LogOf tells of a line of the log of a run. ord and path are those of its step, data is JSON or nil.
func LogOf(ord int, path, level, text string, data json.RawMessage) Event {
	l := &Line{Level: level, Path: path}
	l.Data, l.Cut = Bounded(data)
	return Event{Type: Logged, Turn: ord, Text: cutText(text, maxText), Log: l}
}

// Bounded is JSON as events have it: at most 8 KiB. What is longer is cut: a text is shortened, of an object the
// members that are long are, and everything else that is too long is left out. cut says so. It is nil for what is no
// JSON.
func Bounded(v json.RawMessage) (out json.RawMessage, cut bool) {
	if !json.Valid(v) {
		return nil, false
	}
	if len(v) <= maxJSON {
		return v, false
	}
	var text string
	if json.Unmarshal(v, &text) == nil {
		return encoded(cutText(text, maxJSON/2)), true
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(v, &members) != nil || members == nil {
		return nil, true
	}
	return encoded(shortened(members, len(v)-maxJSON)), true
}

// shortened is an object without what makes it too long by so many bytes: the longest of its members are cut first.
func shortened(members map[string]json.RawMessage, by int) map[string]json.RawMessage {
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := len(members[b]) - len(members[a]); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for _, name := range names {
		if by <= 0 {
			break
		}
		before := len(members[name])
		var text string
		if json.Unmarshal(members[name], &text) == nil && len(text) > shortText {
			members[name] = encoded(cutText(text, shortText))
			by -= before - len(members[name])
			continue
		}
		by -= before + len(name) + len(`"":,`)
		delete(members, name)
	}
	if by > 0 { // many members that are short texts of many bytes
		return nil
	}
	return members
}

// encoded is the JSON of texts and of checked JSON, which always encode.
func encoded(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil || len(b) > maxJSON {
		return nil
	}
	return b
}

// cutText is the first n bytes of a text, at most, without a part of a character.
func cutText(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
