package session

import (
	"slices"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Context is what a model is told of a conversation: the last summary, what that keeps as it was, and every entry after
// its range. entries are in order; all that Live picks are enough.
func Context(entries []Entry) []model.Message {
	var messages []model.Message
	for _, e := range Live(entries) {
		messages = Join(messages, e)
	}
	return messages
}

// Live picks the entries that a conversation's context is made of: the last summary, which is the first of them then,
// those of its range that it keeps, and all after its range but for older summaries.
func Live(entries []Entry) []Entry {
	at := -1
	for i := range entries {
		if entries[i].Kind == Summary && (at < 0 || entries[i].Seq > entries[at].Seq) {
			at = i
		}
	}
	if at < 0 {
		return entries
	}
	s := entries[at].Range()
	live := []Entry{entries[at]}
	for _, e := range entries {
		if e.Kind != Summary && (e.Seq > s.To || slices.Contains(s.Keeps, e.Seq)) {
			live = append(live, e)
		}
	}
	return live
}

// Range is what a summary stands for; the zero range of any other entry.
func (e *Entry) Range() model.Summary {
	if e.Kind != Summary || e.Message.Summary == nil {
		return model.Summary{}
	}
	return *e.Message.Summary
}
