package event

import "slices"

// Children selects events of sub-agents.
type Children uint8

// What of the events of sub-agents a reader wants.
const (
	ChildEntries Children = iota // all but deltas
	NoChildren
	AllOfChildren
)

// Want is what a reader wants of a stream. Events of the root are always wanted. The zero value wants no deltas of
// sub-agents.
type Want struct {
	Children Children
	Tasks    []string // whose deltas are wanted, too
	Only     string   // task: all events of this sub-agent are wanted, and of nobody else; "" is no such limit
}

// deltasOf reports whether the deltas of a sub-agent are wanted.
func (w Want) deltasOf(task string) bool {
	if w.Only != "" {
		return task == w.Only
	}
	return w.Children == AllOfChildren || slices.Contains(w.Tasks, task)
}

func (w Want) has(e *Event) bool {
	switch {
	case w.Only != "":
		return e.Loop != nil && e.Loop.Task == w.Only
	case e.Loop == nil:
		return true
	case e.Type.IsDelta():
		return w.deltasOf(e.Loop.Task)
	default:
		return w.Children != NoChildren || slices.Contains(w.Tasks, e.Loop.Task)
	}
}

// Of is the events that are wanted, in order. It is events itself when all are.
func (w Want) Of(events []Event) []Event {
	unwanted := func(e Event) bool { return !w.has(&e) }
	if i := slices.IndexFunc(events, unwanted); i < 0 {
		return events
	}
	return slices.DeleteFunc(slices.Clone(events), unwanted) // other readers have the same events
}
